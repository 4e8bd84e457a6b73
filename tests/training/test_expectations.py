"""What a run is held against: the report first, the plan where it is silent, and a reason for the rest."""

from typing import Any

from ftcheck import testing
from ftcheck.inputs.metric_history import Expected, Span
from ftcheck.records import Check, Measurement, Outcome, Result, Stage
from ftcheck.report.record import Report
from ftcheck.training.expectations import expectations, planned

LLAMA_3_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def result(rule: str, *measured: Measurement, job: str = "job", reason: str | None = None) -> Result:
    check = Check(f"{job}::{rule}", rule, rule, job, Stage.BEFORE)
    return Result(check, Outcome.SKIPPED if reason else Outcome.PASSED, reason=reason, measurements=measured)


def report(*results: Result) -> Report:
    return Report("complete", "policy.yaml", "policy", results=results)


def test_pace_and_memory_come_from_the_report() -> None:
    memory = result("memory-fit", Measurement("peak_gib_low", 11.1), Measurement("peak_gib_high", 11.9))
    other = result("run-time", Measurement("tokens_per_second_low", 1), job="other")
    pace = result(
        "run-time", Measurement("tokens_per_second_low", 4900), Measurement("tokens_per_second_high", 6600)
    )

    found = expectations(testing.job(), report(memory, other, pace))

    assert found.known == {
        "tokens_per_second": Span(4900.0, 6600.0, "run-time"),
        "memory_gib": Span(10.85, 11.1, "memory-fit, less CUDA's context"),
    }


def test_what_the_report_does_not_say_is_unknown_with_the_reason() -> None:
    skipped = result("memory-fit", reason="cannot tell: experts are not modelled")

    assert expectations(testing.job(), report(skipped)).unknown == {
        "tokens_per_second": "the report does not contain the check run-time",
        "memory_gib": "memory-fit: cannot tell: experts are not modelled",
    }
    assert "no report" in expectations(testing.job(), None).unknown["memory_gib"]


def test_a_target_is_a_lower_bound() -> None:
    asked = testing.job(targets={"tokens_per_second": 5000.0})

    assert expectations(asked, None).known["tokens_per_second"] == Span(
        5000.0, None, "targets.tokens_per_second"
    )


def test_the_plan_fills_in_what_the_report_leaves_open() -> None:
    training = {
        "max_length": 1024,
        "per_device_train_batch_size": 4,
        "lora": {"r": 16, "target_modules": "all-linear"},
        "quantization": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
    }
    one = testing.job(training=training)
    rows = testing.prepared([1000] * 200, max_length=1024)
    opened: dict[str, Any] = {"prepared": rows, "model": testing.model_config(**LLAMA_3_8B)}
    on_gpu = testing.inputs(one, **opened, machine=testing.machine(testing.gpu("NVIDIA L4", 24)))
    on_cpu = testing.inputs(one, **opened, machine=testing.machine())
    told = Expected({"memory_gib": Span(1.0, 2.0, "memory-fit")}, {"tokens_per_second": "not checked"})

    found, without = planned(one, on_gpu, told), planned(one, on_cpu, Expected())

    pace = found.known["tokens_per_second"]
    assert found.known["memory_gib"].source == "memory-fit"
    assert pace.source == "plan"
    assert pace.low is not None
    assert pace.high is not None
    assert 0 < pace.low < pace.high
    assert found.unknown == {}
    assert "tokens_per_second" not in without.known
    assert without.known["memory_gib"].source == "plan, less CUDA's context"
