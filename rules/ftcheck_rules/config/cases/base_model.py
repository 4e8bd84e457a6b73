"""Must-fail and must-pass inputs of the base-model rule."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, job, model_config

FOUR_BIT = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def _of(method: str | None, **training: Any) -> Mapping[str, Any]:
    stated: dict[str, Any] = {} if method is None else {"quantization_config": {"quant_method": method}}
    return {"job": job(training=training), "model": model_config(**stated)}


CASES: tuple[Case, ...] = (
    Case(
        "base-model",
        "an MXFP4 base under BitsAndBytesConfig",
        True,
        lambda: _of("mxfp4", lora={"r": 8}, quantization=FOUR_BIT),
    ),
    Case("base-model", "LoRA on NVFP4", True, lambda: _of("nvfp4", lora={"r": 8})),
    Case("base-model", "GPTQ without an adapter", True, lambda: _of("gptq")),
    Case("base-model", "LoRA on GPTQ", False, lambda: _of("gptq", lora={"r": 8})),
    Case(
        "base-model",
        "a base that is not quantised",
        False,
        lambda: _of(None, lora={"r": 8}, quantization=FOUR_BIT),
    ),
)
