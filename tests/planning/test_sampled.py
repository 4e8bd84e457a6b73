"""A plan on a sample says so, and gives tokens, steps, time and cost of all rows as intervals."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.project import Project
from tests.places import SAMPLES

POLICY = """\
ftcheck: 1
jobs:
  mapper:
    model: {name: model}
    data: {train: mapper.jsonl}
    training:
      max_length: 256
      packing: true
      assistant_only_loss: true
      per_device_train_batch_size: 1
      bf16: true
      lora: {r: 4, target_modules: all-linear}
    hardware: {gpu: RTX 4090, price_per_hour: 1}
checks: {percentile-seq-len: {}}
"""
SAMPLE = ("--set", "jobs.mapper.data.sample={rows: 300, seed: 1}")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("plan"))
    shutil.copytree(SAMPLES / "models" / "mapper-tiny", project.folder / "model")
    shutil.copy(SAMPLES / "mapper" / "train.jsonl", project.folder / "mapper.jsonl")
    project.write("policy.yaml", POLICY)
    return project


def planned(project: Project, *given: str) -> tuple[dict[str, Any], str]:
    path = project.folder / "plan.json"
    ran = project.call("plan", "policy.yaml", *given, "-o", f"json={path}", "-o", "html=plan.html")
    assert ran.code == 0, ran.out + ran.err
    return json.loads(Path(path).read_text(encoding="utf-8"))["jobs"]["mapper"], ran.out


@pytest.mark.parametrize("packing", ["true", "false"])
def test_tokens_and_steps_of_all_rows_lie_in_the_intervals(project: Project, packing: str) -> None:
    given = ("--set", f"jobs.mapper.training.packing={packing}")
    whole, _ = planned(project, *given)
    drawn, said = planned(project, *given, *SAMPLE)
    found = drawn["on_sample"]

    assert whole["on_sample"] is None
    assert found["sample"]["of"] == whole["lengths"]["rows"] == 1500
    for figure, truth in (
        (found["tokens"], whole["lengths"]["tokens"]),
        (found["an_epoch"], whole["step"]["an_epoch"]),
        (found["total"], whole["step"]["total"]),
    ):
        assert figure["low"] <= truth <= figure["high"]
        assert figure["low"] <= figure["likely"] <= figure["high"]
    assert drawn["step"]["total"] == found["total"]["likely"]
    assert "a sample of 300 of 1,500 rows" in said
    assert "no packing plan of all rows is made" in " ".join(said.split())
    assert "300 of 1,500 rows" in (project.folder / "plan.html").read_text(encoding="utf-8")


def test_time_and_cost_are_those_of_all_rows_and_wider(project: Project) -> None:
    whole, drawn = planned(project)[0], planned(project, *SAMPLE)[0]
    for name in ("time", "cost"):
        one, other = whole[name], drawn[name]
        assert other["likely"] == pytest.approx(one["likely"], rel=0.05)
        assert other["high"] / other["likely"] > one["high"] / one["likely"]
        assert other["low"] / other["likely"] < one["low"] / one["likely"]


def test_a_sample_of_all_rows_is_no_sample(project: Project) -> None:
    all_rows, said = planned(project, "--set", "jobs.mapper.data.sample={rows: 1500}")

    assert all_rows == planned(project)[0]
    assert "sample of" not in said
