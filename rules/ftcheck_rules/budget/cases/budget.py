"""Must-fail and must-pass inputs of the budget rules."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, inputs, job, machine, model_config, prepared

LLAMA_3_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def _qlora(rows: int, targets: Mapping[str, Any], **training: Any) -> dict[str, Any]:
    """Rows of 1,000 tokens for an 8B model on an RTX 4090 at 0.40 an hour."""
    one = job(
        training={
            "max_length": 1024,
            "per_device_train_batch_size": 4,
            "lora": {"r": 16, "target_modules": "all-linear"},
            "quantization": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
            **training,
        },
        hardware={"gpu": "RTX 4090", "price_per_hour": 0.4},
        targets=targets,
    )
    return {
        "job": one,
        "model": model_config(**LLAMA_3_8B),
        "prepared": prepared([1000] * rows, max_length=1024),
        "machine": machine(),
        "inputs": inputs(one),
    }


CASES: tuple[Case, ...] = (
    Case("run-time", "30 million tokens in an hour", True, lambda: _qlora(10_000, {"deadline": "1h"})),
    Case("run-time", "a million tokens a second", True, lambda: _qlora(64, {"tokens_per_second": 1e6})),
    Case("run-time", "600,000 tokens in eight hours", False, lambda: _qlora(200, {"deadline": "8h"})),
    Case("cost", "30 million tokens for 0.50", True, lambda: _qlora(10_000, {"budget": 0.5})),
    Case("cost", "600,000 tokens for 20", False, lambda: _qlora(200, {"budget": 20.0})),
)
