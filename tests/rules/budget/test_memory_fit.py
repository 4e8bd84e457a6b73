"""Rule memory-fit: fits, tight, does not fit, what to change, and when it cannot tell."""

from typing import Any

import pytest
from ftcheck_rules.budget.cases.memory_fit import CASES, LLAMA_8B
from ftcheck_rules.budget.memory_fit import memory_fit

from ftcheck import Severity
from ftcheck.inputs.machine import Machine
from ftcheck.records import Finding, Measurement, Skip
from ftcheck.settings import Job
from ftcheck.testing import Case, gpu, inputs, job, machine, model_config, prepared

TRAINING = {
    "max_length": 2048,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
    "lora": {"r": 16, "target_modules": "all-linear"},
    "quantization": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
}


def a_job(*, targets: Any = None, hardware: Any = None, **training: Any) -> Job:
    return job(training={**TRAINING, **training}, targets=targets or {}, hardware=hardware or {})


def look(
    one: Job, here: Machine | None = None, length: int = 2048, rows: int = 64, **config: Any
) -> list[Any]:
    opened = inputs(one, model=model_config(**{**LLAMA_8B, **config}), prepared=prepared([length] * rows))
    return list(memory_fit(one, here or machine(), opened))


def findings(said: list[Any]) -> list[Finding]:
    return [one for one in said if isinstance(one, Finding)]


def numbers(said: list[Any]) -> dict[str, Any]:
    return {one.name: one.value for one in said if isinstance(one, Measurement)}


def limit(said: list[Any]) -> str | None:
    return next(one.limit for one in said if isinstance(one, Measurement) and one.name == "peak_gib")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases(case: Case) -> None:
    said = findings(list(memory_fit(**case.inputs())))
    assert any(one.severity is not Severity.INFO for one in said) == case.fails


def test_a_batch_that_fits_is_quiet_and_measured() -> None:
    said = look(a_job(targets={"memory_gib": 24.0}))
    assert findings(said) == []
    measured = numbers(said)
    assert measured["peak_gib_low"] < measured["peak_gib"] < measured["peak_gib_high"] <= 24
    assert measured["largest_batch"] >= 4


def test_the_three_verdicts_come_in_order() -> None:
    measured = numbers(look(a_job(targets={"memory_gib": 24.0})))
    middle = (measured["peak_gib"] + measured["peak_gib_high"]) / 2
    (tight, *_) = findings(look(a_job(targets={"memory_gib": middle})))
    assert tight.severity is Severity.WARNING
    below = (measured["peak_gib_low"] + measured["peak_gib"]) / 2
    (over, *_) = findings(look(a_job(targets={"memory_gib": below})))
    assert over.severity is Severity.ERROR
    assert findings(look(a_job(targets={"memory_gib": measured["peak_gib_high"] + 0.1}))) == []


def test_a_smaller_batch_with_as_many_rows_a_step_is_proposed_and_then_fits() -> None:
    said = findings(look(a_job(targets={"memory_gib": 16.0}, per_device_train_batch_size=16)))
    assert said[0].at is not None
    assert said[0].at.yaml_path == "jobs.job.training.per_device_train_batch_size"
    new = {one.change.path.rpartition(".")[2]: one.change.new for one in said if one.change}
    assert new["per_device_train_batch_size"] * new["gradient_accumulation_steps"] == 64
    assert [one.severity for one in said[1:]] == [Severity.INFO]
    assert findings(look(a_job(targets={"memory_gib": 16.0}, **new))) == []


def test_checkpointing_comes_first() -> None:
    said = findings(look(a_job(targets={"memory_gib": 24.0}, gradient_checkpointing=False)))
    assert len(said) == 1
    assert said[0].change is not None
    assert (said[0].change.path, said[0].change.new) == ("jobs.job.training.gradient_checkpointing", True)


def test_a_model_that_is_too_large_has_no_remedy() -> None:
    (said,) = findings(look(a_job(targets={"memory_gib": 4.0})))
    assert said.change is None
    assert "larger GPU" in (said.fix or "")


@pytest.mark.parametrize(
    ("targets", "hardware", "here", "expected"),
    [
        ({"memory_gib": 16.0}, {"memory_gib": 24.0}, machine(), "<= 16"),
        ({"memory_gib": 30.0}, {"memory_gib": 24.0}, machine(), "<= 24"),
        ({}, {"gpu": "RTX 4090"}, machine(), "<= 22.56"),
        ({}, {}, machine(gpu(memory_gib=40)), "<= 40"),
    ],
)
def test_the_smaller_of_target_and_hardware_counts(
    targets: Any, hardware: Any, here: Machine, expected: str
) -> None:
    assert limit(look(a_job(targets=targets, hardware=hardware), here)) == expected


def test_few_rows_are_a_small_batch() -> None:
    one = a_job(targets={"memory_gib": 16.0}, per_device_train_batch_size=16)
    assert findings(look(one, rows=1)) == []


@pytest.mark.parametrize(
    "one",
    [
        a_job(),
        a_job(hardware={"gpu": "Unheard-of 3000"}),
        a_job(targets={"memory_gib": 16.0}, lora=None),
        a_job(targets={"memory_gib": 16.0}, extra={"deepspeed": "zero3.json"}),
    ],
)
def test_what_cannot_be_told_is_skipped_with_a_reason(one: Job) -> None:
    (said,) = look(one)
    assert isinstance(said, Skip)
    assert said.reason


def test_experts_are_skipped() -> None:
    (said,) = look(a_job(targets={"memory_gib": 16.0}), num_local_experts=8)
    assert isinstance(said, Skip)
    assert "experts" in said.reason


def test_a_known_model_needs_no_config_and_no_rows() -> None:
    one = job(
        model={"name": "meta-llama/Meta-Llama-3-8B-Instruct"}, training=TRAINING, targets={"memory_gib": 24.0}
    )
    opened = inputs(one, broken={"model": "not in the cache", "prepared": "no file"})
    said = list(memory_fit(one, machine(), opened))
    assert findings(said) == []
    assert numbers(said)["peak_gib"] > 6
