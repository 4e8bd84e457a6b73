import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_rules.host.cases.resume import CASES
from ftcheck_rules.host.resume import resume

from ftcheck.records import Change, Severity
from ftcheck.settings import Job
from ftcheck.testing import Case, job, run

LORA = {"r": 16, "lora_alpha": 32, "target_modules": ("q_proj", "v_proj")}
SAVED = {
    "r": 16,
    "lora_alpha": 32,
    "target_modules": ["v_proj", "q_proj"],
    "use_dora": False,
    "base_model_name_or_path": "owner/model",
}


def checkpoint(folder: Path, step: int = 10, adapter: dict[str, Any] | None = SAVED, **state: Any) -> None:
    made = folder / f"checkpoint-{step}"
    made.mkdir()
    (made / "trainer_state.json").write_text(json.dumps({"global_step": step, **state}))
    (made / "optimizer.pt").touch()
    if adapter is not None:
        (made / "adapter_config.json").write_text(json.dumps(adapter))


def resuming(folder: Path, **training: Any) -> Job:
    settings = {"output_dir": str(folder), "lora": LORA, **training}
    return job("mapper", model={"name": "owner/model"}, training=settings)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    assert run(resume, case.params, **case.inputs()).result.outcome == ("failed" if case.fails else "passed")


def test_no_checkpoint_is_nothing_to_resume(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()

    assert run(resume, jobs=(resuming(tmp_path), job())).measured == {"checkpoints": 0}


def test_a_finished_run_is_nothing_to_resume(tmp_path: Path) -> None:
    checkpoint(tmp_path, adapter={**SAVED, "r": 8})
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished"}))

    assert run(resume, jobs=(resuming(tmp_path),)).measured == {"checkpoints": 0}


def test_the_checkpoint_of_this_job_passes_and_the_highest_step_counts(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9, {**SAVED, "r": 8})
    checkpoint(tmp_path, 10, SAVED, train_batch_size=8)

    ran = run(resume, jobs=(resuming(tmp_path),))

    assert ran.findings == ()
    assert ran.measured == {"checkpoints": 1, "mapper_checkpoint": "checkpoint-10"}
    assert ran.result.outcome == "passed"


@pytest.mark.parametrize(
    ("key", "was", "is_now"),
    [
        ("r", 8, 16),
        ("lora_alpha", 16, 32),
        ("use_dora", True, False),
        ("target_modules", ["q_proj"], ["q_proj", "v_proj"]),
    ],
)
def test_an_adapter_made_otherwise_is_an_error_at_the_key(
    tmp_path: Path, key: str, was: Any, is_now: Any
) -> None:
    checkpoint(tmp_path, adapter={**SAVED, key: was})

    [finding] = run(resume, jobs=(resuming(tmp_path),)).findings

    assert finding.severity is Severity.ERROR
    assert finding.at is not None
    assert finding.at.yaml_path == f"jobs.mapper.training.lora.{key}"
    assert finding.change == Change(f"jobs.mapper.training.lora.{key}", is_now, was, safe=False)


def test_targets_that_peft_resolved_are_not_compared_with_all_linear(tmp_path: Path) -> None:
    checkpoint(tmp_path)

    assert (
        run(resume, jobs=(resuming(tmp_path, lora={**LORA, "target_modules": "all-linear"}),)).findings == ()
    )


@pytest.mark.parametrize(("adapter", "lora"), [(SAVED, None), (None, LORA)])
def test_an_adapter_on_one_side_only_is_an_error(
    tmp_path: Path, adapter: dict[str, Any] | None, lora: dict[str, Any] | None
) -> None:
    checkpoint(tmp_path, adapter=adapter)

    [finding] = run(resume, jobs=(resuming(tmp_path, lora=lora),)).findings

    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.training.lora"


@pytest.mark.parametrize(
    ("base", "same"),
    [
        ("owner/model", True),
        ("/models/model", True),
        ("/hub/models--a--b/snapshots/0a1b", True),
        ("other", False),
    ],
)
def test_another_base_is_an_error_at_the_models_name(tmp_path: Path, base: str, same: bool) -> None:
    checkpoint(tmp_path, adapter={**SAVED, "base_model_name_or_path": base})

    findings = run(resume, jobs=(resuming(tmp_path),)).findings

    assert [finding.at.yaml_path for finding in findings if finding.at] == (
        [] if same else ["jobs.mapper.model.name"]
    )


def test_another_batch_size_is_a_warning(tmp_path: Path) -> None:
    checkpoint(tmp_path, train_batch_size=4)

    [finding] = run(resume, jobs=(resuming(tmp_path),)).findings

    assert finding.severity is Severity.WARNING
    assert finding.change is not None
    assert (finding.change.old, finding.change.new) == (8, 4)


def test_a_state_that_cannot_be_read_says_nothing_about_the_batch(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text("{")

    assert run(resume, jobs=(resuming(tmp_path),)).findings == ()


def test_item_17_a_checkpoint_at_its_last_step_has_nothing_left_to_train(tmp_path: Path) -> None:
    checkpoint(tmp_path, 30, max_steps=30, num_train_epochs=2)

    [finding] = run(resume, jobs=(resuming(tmp_path, num_train_epochs=2.0),)).findings

    assert finding.severity is Severity.ERROR
    assert "at step 30 of 30: a run that resumes has nothing left to train" in finding.message
    assert run(resume, jobs=(resuming(tmp_path, num_train_epochs=3.0),)).findings == ()
    assert run(resume, jobs=(resuming(tmp_path, max_steps=30),)).worst is Severity.ERROR
    assert run(resume, jobs=(resuming(tmp_path, max_steps=31),)).findings == ()


def test_item_17_a_checkpoint_in_the_middle_of_its_run_passes(tmp_path: Path) -> None:
    checkpoint(tmp_path, 20, max_steps=30, num_train_epochs=2)
    assert run(resume, jobs=(resuming(tmp_path, num_train_epochs=2.0),)).findings == ()


def test_item_17_a_checkpoint_without_optimizer_state_is_a_warning(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    (tmp_path / "checkpoint-10" / "optimizer.pt").unlink()

    [finding] = run(resume, jobs=(resuming(tmp_path),)).findings
    assert (finding.severity, finding.message.endswith("no optimizer state (optimizer.pt)")) == (
        "warning",
        True,
    )

    (tmp_path / "checkpoint-10" / "global_step10").mkdir()  # DeepSpeed's
    assert run(resume, jobs=(resuming(tmp_path),)).findings == ()
