"""Must-fail and must-pass inputs of the precision rule."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, inputs, job, model_config

FOUR_BIT = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def _job(model_type: str = "llama", **training: Any) -> Mapping[str, Any]:
    one = job(training=training)
    return {"job": one, "inputs": inputs(one, model=model_config(model_type=model_type))}


def _on(gpu: str) -> Mapping[str, Any]:
    one = job(training={"bf16": True}, hardware={"gpu": gpu})
    return {"job": one, "inputs": inputs(one, model=model_config(model_type="llama"))}


CASES: tuple[Case, ...] = (
    Case("precision", "Gemma in float16", True, lambda: _job("gemma2", fp16=True, lora={"r": 8})),
    Case("precision", "all weights trained in float16", True, lambda: _job(fp16=True)),
    Case("precision", "4-bit layers that compute in float32", True, lambda: _job(quantization=FOUR_BIT)),
    Case(
        "precision",
        "FlashAttention with float32 weights",
        True,
        lambda: _job(bf16=False, extra={"model_init_kwargs": {"attn_implementation": "flash_attention_2"}}),
    ),
    Case("precision", "bfloat16 on a T4", True, lambda: _on("T4")),
    Case("precision", "bfloat16 on an A100", False, lambda: _on("A100")),
    Case(
        "precision",
        "bfloat16 throughout",
        False,
        lambda: _job(quantization={**FOUR_BIT, "bnb_4bit_compute_dtype": "bfloat16"}, lora={"r": 8}),
    ),
)
