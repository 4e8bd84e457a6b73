"""Must-fail and must-pass inputs of the memory model's rule."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, inputs, job, machine, model_config, prepared

LLAMA_8B: Mapping[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def _job(batch: int, checkpointing: bool = True) -> Mapping[str, Any]:
    training = {
        "max_length": 2048,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 4,
        "gradient_checkpointing": checkpointing,
        "lora": {"r": 16, "target_modules": "all-linear"},
        "quantization": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
    }
    one = job(training=training, targets={"memory_gib": 16.0})
    opened = inputs(one, model=model_config(**LLAMA_8B), prepared=prepared([2048] * 64))
    return {"job": one, "machine": machine(), "inputs": opened}


CASES: tuple[Case, ...] = (
    Case("memory-fit", "sixteen long rows on 16 GiB", True, lambda: _job(16)),
    Case("memory-fit", "every layer's activations kept", True, lambda: _job(4, checkpointing=False)),
    Case("memory-fit", "one row at a time", False, lambda: _job(1)),
)
