from typing import Any

import pytest
from ftcheck_rules.budget.cases.logits_memory import CASES
from ftcheck_rules.budget.logits_memory import logits_memory

from ftcheck.estimate.gpus import gpu_memory
from ftcheck.records import Severity
from ftcheck.settings import Evaluation
from ftcheck.testing import Case, Ran, gpu, inputs, job, machine, model_config, prepared, run

SMOOTHED = {"label_smoothing_factor": 0.1}


def ran(
    training: dict[str, Any] | None = None, hardware: dict[str, Any] | None = None, **sections: Any
) -> Ran:
    settings = {"max_length": 1024, "per_device_train_batch_size": 16, "extra": SMOOTHED, **(training or {})}
    one = job(
        "mapper",
        training=settings,
        hardware={"memory_gib": 24.0} if hardware is None else hardware,
        **sections,
    )
    rows = prepared([1024] * 40)
    opened = inputs(one, model=model_config(vocab_size=262_144), prepared=rows, prepared_eval=rows)
    return run(logits_memory, job=one, machine=machine(), inputs=opened)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    assert run(logits_memory, case.params, **case.inputs()).result.outcome == (
        "failed" if case.fails else "passed"
    )


def test_logits_above_the_memory_are_an_error_with_the_batch_that_fits_half() -> None:
    got = ran()

    [finding] = got.findings
    assert got.measured["train_logits_gib"] == 32.0
    assert (
        "the logits of 16 rows of 1,024 tokens with a vocabulary of 262,144 take 32.0 GiB" in finding.message
    )
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.training.per_device_train_batch_size"
    assert finding.change is not None
    assert (finding.change.old, finding.change.new) == (16, 6)
    assert ran({"per_device_train_batch_size": 6}).findings == ()


def test_evaluation_counts_where_somebody_evaluates() -> None:
    small = {"per_device_train_batch_size": 1, "per_device_eval_batch_size": 32}
    evaluated = {**small, "eval_strategy": "steps"}

    [finding] = ran(evaluated, data={"eval": "eval.jsonl"}).findings

    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.training.per_device_eval_batch_size"
    assert finding.change is not None
    assert finding.change.safe
    assert ran(evaluated).findings == ()
    assert ran(small, data={"eval": "eval.jsonl"}).findings == ()


def test_a_batch_has_no_more_rows_than_there_are() -> None:
    assert ran({"per_device_train_batch_size": 1000}).measured["train_logits_gib"] == 80.0


def test_packed_rows_fill_blocks() -> None:
    got = ran({"packing": True, "max_length": 4096, "per_device_train_batch_size": 2})

    assert got.measured["train_logits_gib"] == 16.0


@pytest.mark.parametrize(
    ("training", "hardware", "reason"),
    [
        ({}, {}, "this machine has no GPU"),
        ({}, {"gpu": "MI300X"}, "the memory of MI300X is unknown"),
    ],
)
def test_what_cannot_be_told_is_skipped_with_the_reason(
    training: dict[str, Any], hardware: dict[str, Any], reason: str
) -> None:
    got = ran(training, hardware)

    assert got.skipped is not None
    assert reason in got.skipped


@pytest.mark.parametrize(
    ("extra", "reason"),
    [({}, "TRL computes the loss in tiles"), ({**SMOOTHED, "use_liger_kernel": True}, "Liger's loss")],
)
def test_a_loss_that_makes_no_logits_passes(extra: dict[str, Any], reason: str) -> None:
    got = ran({"extra": extra}, {"memory_gib": 1.0})

    assert (got.result.outcome, got.measured) == ("passed", {"logits_gib": 0.0})
    assert reason in str(got.result.summary)


def test_of_another_program_it_is_not_known_how_the_loss_is_made() -> None:
    [finding] = ran({"extra": {}}, trainer={"use": "command"}).findings

    assert finding.severity is Severity.WARNING
    assert "unless the command computes its loss in tiles" in finding.message


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("RTX 4090", 23.61),
        ("NVIDIA L4", 21.84),
        ("L40S", 44.3),
        ("NVIDIA A100-SXM4-80GB", 79.14),
        ("A100-80GB", 79.14),
    ],
)
def test_memory_of_gpus_by_name(name: str, memory: float | None) -> None:
    assert gpu_memory(job(hardware={"gpu": name}), machine(gpu(memory_gib=8)))[0] == memory


def test_memory_of_this_machine_counts_where_the_policy_names_no_other() -> None:
    assert gpu_memory(job(), machine(gpu(memory_gib=80), gpu(memory_gib=40)))[0] == 40


METRICS: dict[str, Any] = {"data": {"eval": "eval.jsonl"}, "evaluation": Evaluation(compute_metrics=True)}


@pytest.mark.parametrize("trainer", [{}, {"trainer": {"use": "command", "argv": ("train",)}}])
def test_item_15_metrics_on_logits_allocate_them_in_evaluation(trainer: dict[str, Any]) -> None:
    evaluated = {"extra": {}, "eval_strategy": "steps", "per_device_eval_batch_size": 32}

    got = ran({**evaluated, "extra": {"eval_accumulation_steps": 1}}, **trainer, **METRICS)
    found = {one.at.yaml_path: one for one in got.findings if one.at is not None}

    finding = found["jobs.mapper.training.per_device_eval_batch_size"]
    assert finding.severity is Severity.ERROR
    assert "evaluation.compute_metrics" in (finding.fix or "")
    assert got.measured["eval_logits_gib"] == 64.0
    quiet = {"data": METRICS["data"], "evaluation": Evaluation()}
    assert ran(evaluated, **quiet).measured == {"logits_gib": 0.0}


def test_item_15_the_logits_of_all_evaluation_rows_are_kept_on_the_gpu() -> None:
    evaluated = {"extra": {}, "eval_strategy": "steps", "per_device_eval_batch_size": 1}

    [finding] = ran(evaluated, **METRICS).findings

    assert finding.severity is Severity.WARNING
    assert "all 40 evaluation sequences on the GPU: 40.0 GiB" in finding.message
    assert finding.change is not None
    assert finding.change.path == "jobs.mapper.training.eval_accumulation_steps"
    assert ran({**evaluated, "extra": {"eval_accumulation_steps": 1}}, **METRICS).findings == ()
    assert ran({**evaluated, "extra": {"batch_eval_metrics": True}}, **METRICS).findings == ()
    assert ran({**evaluated, "eval_strategy": "no"}, **METRICS).findings == ()
