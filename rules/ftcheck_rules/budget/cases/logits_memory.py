"""Must-fail and must-pass inputs of the memory rule."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, inputs, job, machine, model_config, prepared


def _job(batch: int, **extra: Any) -> Mapping[str, Any]:
    training = {"max_length": 2048, "per_device_train_batch_size": batch, "extra": extra}
    one = job(training=training, hardware={"memory_gib": 24.0})
    opened = inputs(one, model=model_config(vocab_size=256_000), prepared=prepared([2048] * 16))
    return {"job": one, "machine": machine(), "inputs": opened}


CASES: tuple[Case, ...] = (
    Case("logits-memory", "a batch of 16 rows", True, lambda: _job(16, label_smoothing_factor=0.1)),
    Case("logits-memory", "a batch of one row", False, lambda: _job(1, label_smoothing_factor=0.1)),
)
