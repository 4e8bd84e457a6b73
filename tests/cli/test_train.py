"""`ftcheck train` for real, on CPU: what was checked is trained, and anything else is refused."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.project import Project, Ran
from tests.places import POLICIES

pytest.importorskip("trl")
pytestmark = pytest.mark.train

SHORT = ("--set", "jobs.mapper.training.max_steps=2", "--set", "jobs.mapper.training.save_strategy=no")
POLICY = "policies/night_before.yaml"


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The shipped jobs, on fewer rows, with a stored report for two steps of training."""
    project = Project(tmp_path_factory.mktemp("train"))
    shutil.copytree(POLICIES, project.folder / "policies", ignore=shutil.ignore_patterns("checkpoints"))
    for job in ("mapper", "analyst"):
        data = project.folder / "policies" / "samples" / job / "train.jsonl"
        lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
        data.write_text("".join(lines[:200]), encoding="utf-8")
    ran = project.call("run", POLICY, *SHORT, "-o", "json=r.json", "--offline")
    assert ran.code == 0, ran.out + ran.err
    return project


@pytest.fixture
def project(checked: Project, tmp_path: Path) -> Project:
    shutil.copytree(checked.folder, tmp_path / "copy")
    return Project(tmp_path / "copy")


def train(project: Project, *arguments: str, job: str = "mapper") -> Ran:
    return project.call("train", POLICY, "--job", job, *SHORT, "--offline", *arguments)


def test_what_was_checked_is_trained_and_the_adapter_loads(project: Project) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tests.plugins.preparation.trl_side import quiet

    ran = train(project, "--report", "r.json")

    assert ran.code == 0, ran.out + ran.err
    run = project.folder / "policies" / "checkpoints" / "mapper"
    with quiet():
        base = AutoModelForCausalLM.from_pretrained(
            project.folder / "policies" / "samples" / "models" / "mapper-tiny"
        )
        adapted = PeftModel.from_pretrained(base, run)
        assert AutoTokenizer.from_pretrained(run).chat_template
    changed = [
        w for name, w in adapted.named_parameters() if "lora_B" in name and float(w.detach().abs().sum())
    ]
    assert changed
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert about["status"] == "finished"
    assert about["ticket"]["ids"] == ran.report["jobs"]["mapper"]["ids"]


def test_a_check_of_stage_during_ends_the_run_with_exit_code_6(project: Project) -> None:
    asked = "{params: {max_padding: -1, patience: 1, action: stop}}"
    text = f"ftcheck: 1\nname: strict\nextends: [night_before.yaml]\nchecks: {{fed-batches: {asked}}}\n"
    project.write("policies/strict.yaml", text)
    train = ("train", "policies/strict.yaml", "--job", "mapper", *SHORT, "--offline")

    stale, ran = project.call(*train, "--report", "r.json"), project.call(*train)

    assert stale.code == 5
    assert "policy-changed" in stale.err
    assert ran.code == 6
    assert "stopped by mapper::fed-batches at step 1: 0.0% of the computed tokens are padding" in ran.err
    run = json.loads(
        (project.folder / "policies" / "checkpoints" / "mapper" / "run.json").read_text(encoding="utf-8")
    )
    assert (run["status"], run["stopped_by"]["check"]) == ("failed", "mapper::fed-batches")
    assert {one["id"]: one["outcome"] for one in run["during"]}["mapper::finite-loss"] == "passed"


def test_without_a_report_the_checks_run_first(project: Project) -> None:
    ran = train(project)

    assert ran.code == 0, ran.out + ran.err
    assert "gate: open for mapper" in ran.out
    assert (project.folder / "policies" / "checkpoints" / "mapper" / "adapter_model.safetensors").exists()


def refused(ran: Ran, code: str) -> None:
    assert ran.code == 5, ran.out + ran.err
    assert code in ran.err
    assert not (ran.folder / "policies" / "checkpoints" / "mapper").exists()


def test_one_changed_byte_of_the_data_is_refused(project: Project) -> None:
    data = project.folder / "policies" / "samples" / "mapper" / "train.jsonl"
    data.write_bytes(data.read_bytes().replace(b"help-desk", b"help_desk", 1))

    refused(train(project, "--report", "r.json"), "data-changed")


def test_a_changed_job_section_is_refused_and_a_change_to_the_other_job_is_not(project: Project) -> None:
    refused(train(project, "--report", "r.json", "--set", "jobs.mapper.training.seed=7"), "policy-changed")

    other = project.call("gate", "r.json", "--policy", POLICY, "--job", "mapper", *SHORT)
    changed = ("--set", "jobs.analyst.training.seed=7")

    assert other.code == 0
    assert project.call("gate", "r.json", "--policy", POLICY, "--job", "mapper", *SHORT, *changed).code == 0


def test_one_changed_label_mask_is_refused_by_the_trainer(project: Project) -> None:
    report = json.loads((project.folder / "r.json").read_text(encoding="utf-8"))
    ids = report["jobs"]["mapper"]["ids"]
    report["jobs"]["mapper"]["ids"] = ids[:-1] + ("0" if ids[-1] != "0" else "1")
    (project.folder / "r.json").write_text(json.dumps(report), encoding="utf-8")

    refused(train(project, "--report", "r.json"), "ids-changed")


def test_a_sentinel_is_refused(project: Project) -> None:
    report = json.loads((project.folder / "r.json").read_text(encoding="utf-8"))
    report["status"], report["verdict"] = "started", None
    (project.folder / "r.json").write_text(json.dumps(report), encoding="utf-8")

    refused(train(project, "--report", "r.json"), "started")


def test_failing_checks_train_nothing(project: Project) -> None:
    refused(train(project, "--set", "jobs.mapper.serving.max_new_tokens=8"), "failed")
