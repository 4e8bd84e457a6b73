"""Rule memory-fit: fits, tight, does not fit, what to change, and when it cannot tell."""

from dataclasses import replace
from typing import Any

import pytest
from ftcheck_rules.budget.cases.memory_fit import CASES, LLAMA_8B
from ftcheck_rules.budget.memory_fit import memory_fit

from ftcheck import Severity
from ftcheck.inputs.machine import Machine
from ftcheck.inputs.modules import Modules
from ftcheck.records import Finding, Measurement, Skip
from ftcheck.settings import Job
from ftcheck.testing import Case, gpu, inputs, job, machine, model_config, modules, prepared

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


def test_the_card_is_measured_beside_what_the_policy_allows_of_it() -> None:
    said = look(a_job(targets={"memory_gib": 16.0}, hardware={"gpu": "RTX 4090"}))
    measured = {one.name: one for one in said if isinstance(one, Measurement)}

    assert (measured["card"].value, measured["card_gib"].value) == ("RTX 4090", 23.61)
    assert measured["peak_gib"].limit == "<= 16"


def test_a_card_that_nobody_knows_has_a_name_and_no_memory() -> None:
    measured = numbers(look(a_job(targets={"memory_gib": 24.0}, hardware={"gpu": "Unheard Of 1"})))

    assert measured["card"] == "Unheard Of 1"
    assert "card_gib" not in measured


def test_it_is_measured_what_the_prediction_was_made_by(monkeypatch: pytest.MonkeyPatch) -> None:
    assert numbers(look(a_job(targets={"memory_gib": 16.0})))["predicted_by"] == "replay"
    assert numbers(look(a_job(targets={"memory_gib": 500.0})))["predicted_by"] == "formulas"

    def untraceable(*_: Any) -> None:
        raise RuntimeError("data-dependent control flow")

    monkeypatch.setattr("ftcheck.estimate.memory.prediction.replayed", untraceable)
    assert numbers(look(a_job(targets={"memory_gib": 16.0})))["predicted_by"] == "formulas"


def test_the_three_verdicts_come_in_order() -> None:
    measured = numbers(look(a_job(targets={"memory_gib": 20.0})))
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
        ({}, {"gpu": "RTX 4090"}, machine(), "<= 23.61"),
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


MOE: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "vocab_size": 151936,
    "num_experts": 128,
    "moe_intermediate_size": 768,
}
"""Qwen3-30B-A3B: 48 x 128 x 3 x 2048 x 768 weights are 54 GiB in 16 bits."""


def look_at_experts(memory: float, found: Modules | None, **training: Any) -> list[Any]:
    one = a_job(targets={"memory_gib": memory}, **training)
    opened = inputs(one, model=model_config(**MOE), prepared=prepared([64] * 4), modules=found)
    return list(memory_fit(one, machine(), opened))


def test_item_11_fused_experts_stay_in_16_bits_and_do_not_fit() -> None:
    experts = {f"model.layers.{n}.mlp.experts.gate_up_proj": (128, 1536, 2048) for n in range(48)}
    experts |= {f"model.layers.{n}.mlp.experts.down_proj": (128, 2048, 768) for n in range(48)}
    small = modules(experts=2, model_type="qwen3_moe")
    built = replace(small, parameters={**small.parameters, **experts})

    for found in (built, None):  # without torch, by the dimensions in config.json
        said = look_at_experts(22.56, found)
        [finding] = findings(said)
        assert finding.severity is Severity.ERROR
        assert "54.0 GiB of them are fused experts, which bitsandbytes does not quantise" in finding.message
        assert numbers(said)["unquantised_experts_gib"] == 54.0
    assert not findings(look_at_experts(80, built))


def test_item_11_what_fits_by_its_lower_bound_is_still_unknown() -> None:
    (said,) = look_at_experts(80, None)
    assert isinstance(said, Skip)
    assert "at least 54.0 of 80 GiB" in said.reason


def test_item_11_a_whole_model_has_gradients_and_states() -> None:
    one = a_job(targets={"memory_gib": 16.0}, lora=None, quantization=None)
    whole = replace(modules(), total=4 << 30)
    opened = inputs(one, model=model_config(**LLAMA_8B), prepared=prepared([64] * 4), modules=whole)

    [finding] = findings(list(memory_fit(one, machine(), opened)))
    assert "weights, gradients and optimizer states" in finding.message
    assert "training.lora" in (finding.fix or "")
    paged = replace(one, training=replace(one.training, optim="paged_adamw_8bit"))
    assert not findings(list(memory_fit(paged, machine(), opened)))


@pytest.mark.parametrize(
    "extra",
    [{"deepspeed": "zero3.json"}, {"fsdp": "full_shard"}, {"model_init_kwargs": {"device_map": "auto"}}],
)
def test_item_11_a_model_that_is_spread_has_no_bound_on_one_gpu(extra: Any) -> None:
    assert not findings(look_at_experts(16, None, extra=extra))


def test_item_11_a_base_in_its_own_quantization_has_no_bound() -> None:
    one = a_job(targets={"memory_gib": 16.0}, quantization=None)
    config = {**MOE, "quantization_config": {"quant_method": "mxfp4"}}
    opened = inputs(one, model=model_config(**config), prepared=prepared([64] * 4), modules=None)
    assert not findings(list(memory_fit(one, machine(), opened)))
