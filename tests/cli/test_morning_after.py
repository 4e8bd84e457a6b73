"""Stage after on a job that was really trained: what ships, what does not, and what the gate says of it."""

import json
import shutil
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from ftcheck.extension.plugin_host import make_host
from ftcheck.records import Stage
from tests.cli.planted import NIGHT, plant
from tests.cli.project import Project, Ran
from tests.places import POLICIES

RUN = ("run", "morning.yaml", "--offline", "-o", "json=r.json")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """The project with its run folder; tests copy it."""
    pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("planted")
    plant(folder, samples)
    return folder


@pytest.fixture(scope="module")
def morning(planted: Path) -> Ran:
    """One run of the morning after."""
    return Project(planted).call(*RUN)


@pytest.fixture
def copy(planted: Path, morning: Ran, tmp_path: Path) -> Project:
    """The project in a folder of its own, with the cache and the report of the run before."""
    shutil.copytree(planted, tmp_path / "copy")
    return Project(tmp_path / "copy")


def findings(ran: Ran, check: str) -> list[str]:
    return [one["message"] for one in ran.result(check)["findings"] if one["severity"] == "error"]


def test_a_trained_job_is_green_with_its_measured_accuracy_and_the_base_is_not(morning: Ran) -> None:
    assert morning.code == 0, morning.out + morning.err
    outcomes = {one["id"]: one["outcome"] for one in morning.report["results"] if one["job"] == "colour"}
    assert outcomes.pop("colour::memory-peak") == "skipped"
    assert set(outcomes.values()) == {"passed"}
    measured = {one["name"]: one["value"] for one in morning.result("colour::accuracy")["measurements"]}
    assert (measured["accuracy"], measured["n"]) == (1.0, 24)
    assert 0.85 < measured["accuracy_low"] < 0.9
    compared = {one["name"]: one["value"] for one in morning.result("colour::regression")["measurements"]}
    assert compared["base_accuracy"] == 0.0
    valid = {one["name"]: one["value"] for one in morning.result("colour::valid-output")["measurements"]}
    assert (valid["valid_at_retry_0"], valid["cut_share"]) == (1.0, 0.0)


def test_a_job_that_was_not_trained_is_skipped_loudly_and_never_opens_the_gate(morning: Ran) -> None:
    mine = [one for one in morning.report["results"] if one["job"] == "later"]
    assert {one["outcome"] for one in mine} == {"skipped"}
    assert all("later was not trained: no run in runs/later" in one["reason"] for one in mine)
    assert any("later was not trained" in note for note in morning.report["notes"])
    assert morning.report["gate"]["colour"] == "open"
    assert "no-adapter" in morning.report["gate"]["later"]


def test_the_report_holds_the_schema_of_reports(morning: Ran) -> None:
    schema = json.loads(resources.files("ftcheck.tables").joinpath("report.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(morning.report)


def test_no_question_and_no_answer_stands_in_the_report(morning: Ran) -> None:
    text = (morning.folder / "r.json").read_text(encoding="utf-8")
    assert "the box is" not in text
    assert "colour\\" not in text


def test_the_verdict_gates_a_deployment_of_exactly_these_bytes(copy: Project) -> None:
    gate = ("gate", "r.json", "--policy", "morning.yaml", "--job")
    assert copy.call(*gate, "colour").code == 0
    refused = copy.call(*gate, "later")
    assert (refused.code, "no-adapter" in refused.err) == (5, True)

    config = copy.folder / "runs" / "colour" / "adapter_config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    changed = copy.call(*gate, "colour")
    assert changed.code == 5
    assert "adapter-changed" in changed.err


def test_a_job_without_a_run_alone_is_nothing_to_pass(copy: Project) -> None:
    ran = copy.call(*RUN, "--job", "later")
    assert ran.code == 4
    assert "later was not trained" in ran.out


def test_scrambled_labels_end_red_from_the_kept_answers(copy: Project) -> None:
    gold = json.loads((copy.folder / "gold.json").read_text(encoding="utf-8"))
    answers = [one["expected"] for one in gold]
    scrambled = [{**one, "expected": answers[(n + 1) % len(gold)]} for n, one in enumerate(gold)]
    copy.write("gold.json", json.dumps(scrambled))

    ran = copy.call(*RUN, "--select", "accuracy", "--job", "colour")

    assert ran.code == 1
    assert ran.report["run"]["cached"] == ["colour.answers", "colour.train"]
    assert "0 of 24 gold answers are right" in findings(ran, "colour::accuracy")[0]
    assert "field 'colour' is wrong in 24 of 24 answers" in ran.out
    assert "4 times 'red' instead of 'blue'" in ran.out  # both stand in the policy's own schema
    assert "the box is" not in ran.out


def test_an_adapter_for_another_base_does_not_load_and_says_why(copy: Project) -> None:
    config = copy.folder / "model" / "config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**values, "intermediate_size": 96}), encoding="utf-8")

    ran = copy.call(*RUN, "--select", "adapter-loads", "--select", "loss-convergence", "--job", "colour")

    assert ran.code == 1
    assert "could not be loaded" in findings(ran, "colour::adapter-loads")[0]
    assert (
        "the run's base model differs from that of the policy now"
        in findings(ran, "colour::loss-convergence")[0]
    )


def test_the_run_folder_of_another_job_and_gold_rows_with_other_keys_are_findings(copy: Project) -> None:
    night = NIGHT.replace("runs/later", "runs/colour").replace(
        "{path: gold.json}}\n    tr", "{path: gold.json, expected: label}}\n    tr"
    )
    copy.write("night.yaml", night)

    ran = copy.call(*RUN, "--job", "later", "--select", "loss-convergence", "--select", "accuracy")

    assert ran.code == 1
    assert findings(ran, "later::loss-convergence") == [
        "the folder contains a run of the job 'colour', not of 'later'"
    ]
    assert "has no key 'expected'" not in ran.out
    assert (
        "24 of 24 gold rows cannot be used; the first: has no key 'label'"
        in findings(ran, "later::accuracy")[0]
    )


def test_nothing_is_trained_on_a_verdict_of_the_morning_after(copy: Project) -> None:
    ran = copy.call("train", "morning.yaml", "--job", "colour", "--report", "r.json")
    assert ran.code == 2
    assert "its stage is after; only a policy of stage before can be trained" in ran.err


def test_the_shipped_policy_says_that_its_jobs_were_not_trained(tmp_path: Path) -> None:
    shutil.copytree(POLICIES, tmp_path / "policies", ignore=shutil.ignore_patterns("checkpoints"))
    ran = Project(tmp_path).call("run", "policies/morning_after.yaml", "--offline", "-o", "json=r.json")
    assert ran.code == 4, ran.out + ran.err
    reasons = {one["reason"] for one in ran.report["results"]}
    assert {reason.partition(":")[0] for reason in reasons} == {
        "mapper was not trained",
        "analyst was not trained",
    }
    rules = [one for one in make_host().rules.values() if one.stage is Stage.AFTER and one.only is None]
    assert {one["rule"] for one in ran.report["results"]} == {one.id for one in rules}
