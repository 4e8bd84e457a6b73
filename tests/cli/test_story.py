"""The whole night as one story, on a shipped job: check, plan, train, watch, the morning after, the gate."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.project import Project, Ran
from tests.places import POLICIES

NIGHT, MORNING = "policies/night_before.yaml", "policies/morning_after.yaml"
JOB = ("--job", "mapper")
SHORT = (
    *("--set", "jobs.mapper.training.num_train_epochs=1"),
    *("--set", "jobs.mapper.training.logging_steps=2"),
)
"""Half of the shipped training teaches all that is asked; with as many logs as its checks want to see."""
SHORTER = ("--set", "jobs.mapper.training.num_train_epochs=0.5")
"""With its own labels it then has 235 of 240 answers right."""


pytestmark = [pytest.mark.train]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The shipped policies and samples, in an empty folder."""
    pytest.importorskip("trl")
    folder = tmp_path_factory.mktemp("story")
    shutil.copytree(POLICIES, folder / "policies", ignore=shutil.ignore_patterns("checkpoints"))
    return Project(folder)


@pytest.fixture(scope="module")
def trained(place: Project) -> Ran:
    """The night: the checks, then the training that their report allows."""
    night = place.call("run", NIGHT, *JOB, *SHORT, "--offline", "-o", "json=night.json")
    assert night.code == 0, night.out
    return place.call("train", NIGHT, *JOB, *SHORT, "--offline", "--report", "night.json")


@pytest.fixture(scope="module")
def morning(place: Project, trained: Ran) -> Ran:
    """The morning after."""
    return place.call("run", MORNING, *SHORT, "--offline", "-o", "json=r.json")


def measured(ran: Ran, check: str) -> dict[str, Any]:
    return {one["name"]: one["value"] for one in ran.result(check)["measurements"]}


def test_the_night_trains_what_was_checked_and_planned(place: Project, trained: Ran) -> None:
    planned = place.call("plan", NIGHT, *JOB, *SHORT, "--offline", "-o", "json=plan.json")
    assert planned.code == 0, planned.out
    assert trained.code == 0, trained.out + trained.err

    run = json.loads((place.folder / "policies/checkpoints/mapper/run.json").read_text(encoding="utf-8"))
    assert run["status"] == "finished"
    assert run["steps"] == run["planned"]["steps"]
    outcomes = {one["id"]: one["outcome"] for one in run["during"]}
    assert outcomes.pop("mapper::training-speed") in ("passed", "failed")  # the machine may be busy
    assert outcomes["mapper::loss-progress"] == "passed"
    assert set(outcomes.values()) <= {"passed", "skipped"}


def test_the_monitor_shows_the_finished_run(place: Project, trained: Ran) -> None:
    shown = place.call("monitor", "policies/checkpoints/mapper", "--once")

    assert shown.code == 0
    assert "mapper" in shown.out
    assert "finished" in shown.out
    assert "tokens/s" in shown.out


def test_the_morning_after_measures_what_was_learned_on_questions_that_were_held_back(morning: Ran) -> None:
    assert morning.code == 0, morning.out
    accuracy, base = measured(morning, "mapper::accuracy"), measured(morning, "mapper::regression")
    wanted = 0.95
    assert accuracy["n"] >= 200
    assert accuracy["accuracy"] >= wanted
    assert base["base_accuracy"] < 0.2
    assert morning.report["gate"]["mapper"] == "open"
    assert morning.report["gate"]["analyst"] != "open", "nobody trained it"


def test_the_gate_lets_exactly_this_adapter_out(place: Project, morning: Ran) -> None:
    gate = ("gate", "r.json", "--policy", MORNING, *JOB, *SHORT)
    assert place.call(*gate).code == 0

    weights = place.folder / "policies/checkpoints/mapper/adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    try:
        refused = place.call(*gate)
    finally:
        content[-1] ^= 1
        weights.write_bytes(content)

    assert refused.code == 5


def test_scrambled_labels_end_red(place: Project, tmp_path: Path) -> None:
    shutil.copytree(
        place.folder / "policies", tmp_path / "policies", ignore=shutil.ignore_patterns("checkpoints")
    )
    rows = tmp_path / "policies/samples/mapper/train.jsonl"
    made = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    answers = [row["messages"][-1]["content"] for row in made]
    random.Random(0).shuffle(answers)
    for row, answer in zip(made, answers, strict=True):
        row["messages"][-1]["content"] = answer
    rows.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    scrambled = Project(tmp_path)

    trained = scrambled.call("train", NIGHT, *JOB, *SHORTER, "--offline")
    assert trained.code == 0, trained.out + trained.err
    morning = scrambled.call("run", MORNING, *JOB, *SHORTER, "--offline", "-o", "json=r.json")

    assert morning.code == 1
    assert morning.outcome("mapper::accuracy") == "failed"
    assert measured(morning, "mapper::accuracy")["accuracy"] < 0.5
