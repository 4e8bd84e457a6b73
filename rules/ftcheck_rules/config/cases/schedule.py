"""Must-fail and must-pass inputs of the schedule rules."""

from typing import Any

from ftcheck.testing import Case, inputs, job, model_config, prepared


def _rows(count: int, **training: Any) -> dict[str, Any]:
    stated = {"max_length": 10, "per_device_train_batch_size": 1, **training}
    one, rows = job(training=stated), prepared([5] * count, max_length=10)
    return {"job": one, "prepared": rows, "inputs": inputs(one, scheduler=None)}


def _scheduler(problem: str | None) -> dict[str, Any]:
    made = _rows(40, lr_scheduler_type="cosine_with_min_lr")
    return {**made, "inputs": inputs(made["job"], scheduler=problem)}


def _rate(rate: float, width: int = 4096, alpha: int = 32) -> dict[str, Any]:
    training = {"learning_rate": rate, "lora": {"r": 16, "lora_alpha": alpha}}
    return {"job": job(training=training), "model": model_config(hidden_size=width)}


CASES = (
    Case("schedule", "two steps in all", True, lambda: _rows(2, num_train_epochs=1)),
    Case("schedule", "forty epochs", True, lambda: _rows(80, num_train_epochs=40)),
    Case("schedule", "a warm-up longer than the run", True, lambda: _rows(40, warmup_steps=500)),
    Case("schedule", "three epochs of forty steps", False, lambda: _rows(40, warmup_steps=0.03)),
    Case("schedule", "a schedule that cannot be built", True, lambda: _scheduler("ValueError: no min_lr")),
    Case("schedule", "a schedule that can be built", False, lambda: _scheduler(None)),
    Case("learning-rate", "TRL's default for an adapter", True, lambda: _rate(2e-5)),
    Case("learning-rate", "a scaling of 32", True, lambda: _rate(2e-4, alpha=512)),
    Case("learning-rate", "2e-4 for an adapter", False, lambda: _rate(2e-4)),
    Case("learning-rate", "4e-3 for an adapter on a tiny model", False, lambda: _rate(4e-3, width=128)),
)
