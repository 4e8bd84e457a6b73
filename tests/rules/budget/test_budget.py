from typing import Any

import pytest
from ftcheck_rules.budget.budget import (
    cost,
    in_words,
    plan,
    run_time,
)
from ftcheck_rules.budget.cases.budget import CASES, LLAMA_3_8B

from ftcheck.records import Severity
from ftcheck.testing import Case, Ran, gpu, inputs, job, machine, model_config, prepared, run

RULES = {"run-time": run_time, "cost": cost}
QLORA: dict[str, Any] = {
    "max_length": 1024,
    "per_device_train_batch_size": 4,
    "lora": {"r": 16, "target_modules": "all-linear"},
    "quantization": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
}


def ran(
    rule: str,
    targets: dict[str, Any],
    *,
    lengths: list[int] | None = None,
    training: dict[str, Any] | None = None,
    hardware: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    on: Any = None,
    **opened: Any,
) -> Ran:
    one = job(
        "mapper",
        training={**QLORA, **(training or {})},
        hardware={"gpu": "RTX 4090", "price_per_hour": 0.4} if hardware is None else hardware,
        targets=targets,
        data={"eval": "eval.jsonl"},
    )
    return run(
        RULES[rule],
        params,
        job=one,
        model=model_config(**(config or LLAMA_3_8B)),
        prepared=prepared(lengths or [1000] * 4000, max_length=1024),
        machine=on or machine(),
        inputs=inputs(one, **opened),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_case(case: Case) -> None:
    got = run(RULES[case.rule], case.params, **case.inputs())
    assert got.result.outcome == ("failed" if case.fails else "passed")


def test_measurements_are_an_interval_with_the_limit() -> None:
    got = ran("run-time", {"deadline": "24h"})

    assert 0 < got.measured["hours_low"] < got.measured["hours"] < got.measured["hours_high"] < 24
    assert got.measured["tokens"] == 12_000_000
    assert got.measured["steps"] == 3000
    low, high = got.measured["tokens_per_second_low"], got.measured["tokens_per_second_high"]
    assert low < got.measured["tokens_per_second"] < high
    assert [one.limit for one in got.measurements if one.name == "hours"] == ["<= 24"]
    assert got.findings == ()


def test_a_likely_time_past_the_deadline_is_an_error_and_fewer_epochs_mend_it() -> None:
    likely = ran("run-time", {"deadline": "24h"}).measured["hours"]
    got = ran("run-time", {"deadline": f"{likely * 0.8:.2f}h"})

    [finding] = got.findings
    assert finding.severity is Severity.ERROR
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.targets.deadline"
    assert "assuming RTX 4090 multiplies at 55% to 97% (likely 82%) of 165.2 TFLOP/s" in finding.message
    assert finding.change is not None
    assert finding.change.path == "jobs.mapper.training.num_train_epochs"
    assert (finding.change.old, finding.change.new, finding.change.safe) == (3.0, 1.0, False)
    assert finding.fix is not None
    assert "gradient_checkpointing: false" in finding.fix
    mended = ran("run-time", {"deadline": f"{likely * 0.8:.2f}h"}, training={"num_train_epochs": 1.0})
    assert mended.findings == ()


def test_an_interval_that_reaches_over_the_deadline_is_a_warning() -> None:
    free = ran("run-time", {"deadline": "24h"}).measured
    between = (free["hours"] + free["hours_high"]) / 2

    [finding] = ran("run-time", {"deadline": f"{between:.2f}h"}).findings

    assert finding.severity is Severity.WARNING
    assert "may take longer" in finding.message


def test_packing_is_proposed_where_padding_takes_the_time() -> None:
    lengths = [30, 40, 50, 1000] * 1000
    free = ran("run-time", {"deadline": "99h"}, lengths=lengths).measured["hours"]

    [finding] = ran("run-time", {"deadline": f"{free * 0.95:.2f}h"}, lengths=lengths).findings

    assert finding.change is not None
    assert (finding.change.path, finding.change.new) == ("jobs.mapper.training.packing", True)
    packed = ran("run-time", {"deadline": "99h"}, lengths=lengths, training={"packing": True}).measured
    assert packed["hours"] < 0.8 * free
    assert packed["tokens"] == 3 * sum(lengths)


def test_a_target_speed_is_a_demand() -> None:
    got = ran("run-time", {"tokens_per_second": 2500.0})
    [finding] = got.findings
    assert finding.severity is Severity.ERROR
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.targets.tokens_per_second"
    assert "hours_left" not in got.measured

    [wide] = ran("run-time", {"tokens_per_second": got.measured["tokens_per_second"] - 100.0}).findings
    assert wide.severity is Severity.WARNING
    assert ran("run-time", {"tokens_per_second": 100.0}).findings == ()


def test_a_time_of_day_is_counted_from_the_start() -> None:
    short = ran("run-time", {"deadline": "22:30"}, params={"start": "22:00"})
    assert [one.severity for one in short.findings] == [Severity.ERROR]
    long = ran("run-time", {"deadline": "2030-01-02T12:00"}, params={"start": "2030-01-01T12:00"})
    assert long.findings == ()
    left = next(one for one in long.measurements if one.name == "hours_left")
    assert (left.value, left.volatile) == (24.0, True)
    assert [one.limit for one in long.measurements if one.name == "hours"] == [None]


def test_a_deadline_that_has_passed_and_a_start_that_is_none() -> None:
    [passed] = ran("run-time", {"deadline": "2020-01-01"}).findings
    assert "has passed" in passed.message
    [bad] = ran("run-time", {"deadline": "07:00"}, params={"start": "tonight"}).findings
    assert "'tonight' is neither a duration nor a time" in bad.message


@pytest.mark.parametrize("rule", ["run-time", "cost"])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"hardware": {"price_per_hour": 1.0}}, "this machine has no GPU, and hardware.gpu is not set"),
        ({"hardware": {"gpu": "Gaudi 3", "price_per_hour": 1.0}}, "unknown speed: Gaudi 3"),
        ({"config": {"model_type": "mixtral"}}, "the architecture 'mixtral' is unknown"),
        ({"training": {"packing": True, "max_length": None}}, "max_length is null"),
    ],
)
def test_what_is_not_known_is_skipped(rule: str, given: dict[str, Any], why: str) -> None:
    got = ran(rule, {"deadline": "1h", "budget": 1.0}, **given)
    assert got.skipped is not None
    assert "is unknown: " in got.skipped
    assert why in got.skipped


def test_this_machines_gpu_counts_where_none_is_stated() -> None:
    got = ran("run-time", {"deadline": "99h"}, hardware={}, on=machine(gpu("NVIDIA GeForce RTX 4090")))
    assert got.measured["hours"] == ran("run-time", {"deadline": "99h"}).measured["hours"]


def test_cost_is_judged_like_time() -> None:
    free = ran("cost", {"budget": 1000.0}).measured
    assert free["cost_low"] < free["cost"] < free["cost_high"]
    assert free["cost"] == pytest.approx(0.4 * free["hours"], abs=0.01)

    [over] = ran("cost", {"budget": free["cost"] * 0.8}).findings
    assert over.severity is Severity.ERROR
    assert over.at is not None
    assert over.at.yaml_path == "jobs.mapper.targets.budget"
    assert over.change is not None
    assert over.change.path == "jobs.mapper.training.num_train_epochs"
    [near] = ran("cost", {"budget": (free["cost"] + free["cost_high"]) / 2}).findings
    assert near.severity is Severity.WARNING
    without = ran("cost", {"budget": 1.0}, hardware={"gpu": "RTX 4090"})
    assert without.skipped == "the cost is unknown: hardware.price_per_hour is not set"


def test_evaluations_take_their_time_where_somebody_evaluates() -> None:
    rows = prepared([1000] * 4000, max_length=1024)
    stated = {"eval_strategy": "epoch"}
    plain = ran("run-time", {"deadline": "99h"}).measured["hours"]
    evaluated = ran("run-time", {"deadline": "99h"}, training=stated, prepared_eval=rows).measured["hours"]
    unread = ran("run-time", {"deadline": "99h"}, training=stated).measured["hours"]

    # A forward pass over as many rows, three times as in training: between a fifth and a half of it.
    assert 1.2 * plain < evaluated < 1.5 * plain
    assert unread == plain


def test_checkpoints_are_counted_with_their_bytes() -> None:
    one = job(
        training={**QLORA, "save_strategy": "epoch", "num_train_epochs": 2.0}, hardware={"gpu": "RTX 4090"}
    )
    found = plan(one, model_config(**LLAMA_3_8B), prepared([1000] * 400, max_length=1024), None, "RTX 4090")
    # Rank 16 on seven modules of 32 layers: 41,943,040 weights of 12 bytes, after both epochs and at the end.
    assert found.checkpoint_bytes == 3 * 12 * 41_943_040


def test_hours_in_words() -> None:
    assert [in_words(one) for one in (0.25, 1.5, 2.0, 30.0)] == ["15 min", "90 min", "2.0 h", "30.0 h"]
