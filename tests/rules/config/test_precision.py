from typing import Any

import pytest
from ftcheck_rules.config.cases.precision import CASES
from ftcheck_rules.config.precision import precision

from ftcheck.records import Change, Severity
from ftcheck.testing import Case, Ran, inputs, job, model_config, run


def ran(model_type: str = "llama", trainer: str = "qlora", **training: Any) -> Ran:
    one = job("mapper", training=training, trainer={"use": trainer})
    return run(precision, job=one, inputs=inputs(one, model=model_config(model_type=model_type)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    assert run(precision, case.params, **case.inputs()).result.outcome == (
        "failed" if case.fails else "passed"
    )


def test_float16_for_gemma_is_a_warning_at_fp16_with_a_change_to_bfloat16() -> None:
    [finding] = ran("gemma3_text", fp16=True, lora={"r": 8}).findings

    assert finding.severity is Severity.WARNING
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.training.fp16"
    assert "65,504" in finding.message
    assert finding.change == Change("jobs.mapper.training.fp16", True, False, safe=False)


def test_float16_for_another_family_and_bfloat16_for_gemma_are_fine() -> None:
    assert ran("llama", fp16=True, lora={"r": 8}).findings == ()
    assert ran("gemma2", lora={"r": 8}).findings == ()


def test_a_model_that_cannot_be_opened_leaves_the_rest_of_the_rule_standing() -> None:
    one = job(training={"fp16": True})

    got = run(precision, job=one, inputs=inputs(one, broken={"model": "no such folder"}))

    assert [finding.severity for finding in got.findings] == [Severity.ERROR, Severity.INFO]


@pytest.mark.parametrize(
    ("trainer", "dtype", "lora", "fails"),
    [
        ("qlora", None, None, True),
        ("qlora", "float32", None, False),
        ("qlora", "float16", {"r": 8}, False),
        ("command", "torch.float16", None, True),
        ("command", None, None, False),
    ],
)
def test_weights_that_are_trained_in_float16_stop_the_gradient_scaler(
    trainer: str, dtype: str | None, lora: dict[str, Any] | None, fails: bool
) -> None:
    extra = {"model_init_kwargs": {"dtype": dtype}} if dtype else {}

    got = ran(trainer=trainer, fp16=True, lora=lora, extra=extra)

    assert [finding.severity for finding in got.findings] == [Severity.ERROR] * fails
    if fails:
        assert "Attempting to unscale FP16 gradients" in got.findings[0].message
        assert got.findings[0].change is not None
        assert got.findings[0].change.new == "float32"


@pytest.mark.parametrize(("bf16", "severity"), [(False, Severity.ERROR), (None, Severity.WARNING)])
def test_flash_attention_with_float32_weights_fails_without_mixed_precision(
    bf16: bool | None, severity: Severity
) -> None:
    stated = {"attn_implementation": "flash_attention_2", "dtype": "float32"}

    [finding] = ran(bf16=bf16, extra={"model_init_kwargs": stated}).findings

    assert finding.severity is severity
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.training.model_init_kwargs"
    assert finding.change == Change(
        "jobs.mapper.training.model_init_kwargs.dtype", "float32", "bfloat16", safe=False
    )


def test_float32_weights_with_sdpa_are_fine() -> None:
    stated = {"attn_implementation": "sdpa", "dtype": "float32"}

    assert ran(extra={"model_init_kwargs": stated}).findings == ()


@pytest.mark.parametrize(
    ("training", "new"),
    [({}, "bfloat16"), ({"fp16": True, "lora": {"r": 8}}, "float16"), ({"bf16": False}, None)],
)
def test_4_bit_layers_compute_in_what_training_computes_in(training: dict[str, Any], new: str | None) -> None:
    findings = ran(quantization={"load_in_4bit": True}, **training).findings

    assert [finding.change.new for finding in findings if finding.change] == ([new] if new else [])


def test_8_bit_weights_have_no_compute_dtype() -> None:
    assert ran(quantization={"load_in_8bit": True}).findings == ()


def on(gpu: str | None, **training: Any) -> Ran:
    one = job("mapper", training=training, hardware={"gpu": gpu})
    return run(precision, job=one, inputs=inputs(one, model=model_config(model_type="llama")))


def test_item_13_bfloat16_on_a_named_t4_is_an_error_at_each_setting() -> None:
    four_bit = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}

    findings = on("T4", bf16=True, quantization=four_bit).findings

    assert {finding.severity for finding in findings} == {Severity.ERROR}
    assert [finding.at.yaml_path for finding in findings if finding.at is not None] == [
        "jobs.mapper.training.bf16",
        "jobs.mapper.training.quantization.bnb_4bit_compute_dtype",
    ]
    [default] = on("NVIDIA Tesla V100-SXM2-32GB").findings
    assert default.change == Change("jobs.mapper.training.fp16", False, True, safe=False)


@pytest.mark.parametrize("gpu", ["A100 80GB", "RTX 4090", "H100", "L4", "a GPU that nobody knows", None])
def test_item_13_newer_and_unknown_gpus_compute_in_bfloat16(gpu: str | None) -> None:
    assert on(gpu, bf16=True).findings == ()


def test_item_13_float16_on_a_t4_is_fine() -> None:
    four_bit = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float16"}
    assert on("T4", fp16=True, lora={"r": 8}, quantization=four_bit).findings == ()


def test_item_13_tf32_and_flash_attention_need_newer_gpus_than_the_named_one() -> None:
    flash = {"model_init_kwargs": {"attn_implementation": "flash_attention_2"}}
    half = {"fp16": True, "lora": {"r": 8}}

    assert on("T4", extra={"tf32": True}, **half).worst is Severity.ERROR
    assert on("T4", extra=flash, **half).worst is Severity.ERROR
    assert on("A100", extra={**flash, "tf32": True}).findings == ()
    third = {"model_init_kwargs": {"attn_implementation": "flash_attention_3"}}
    assert on("A100", extra=third).worst is Severity.ERROR
    assert on("H100", extra=third).findings == ()
