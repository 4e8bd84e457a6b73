"""Must-fail and must-pass inputs of the packing rules."""

from collections.abc import Sequence
from typing import Any

from ftcheck.inputs.packed_batch import TINY_MODEL, PackedBatch
from ftcheck.testing import Case, inputs, job, machine, model_config, packages, prepared


def _packed(lengths: Sequence[int], capacity: int, *, batch: int = 1, steps: int = 1) -> dict[str, Any]:
    training = {
        "max_length": capacity,
        "packing": True,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": steps,
    }
    made = job(training=training)
    return {"job": made, "prepared": prepared(lengths, max_length=capacity, packing=True)}


def _step(steps: int) -> dict[str, Any]:
    training = {
        "max_length": 768,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": steps,
    }
    made = job(training=training, targets={"tokens_per_step": (32768, 65536)})
    return {"job": made, "prepared": prepared([100, 700])}


def _padded(lengths: Sequence[int]) -> dict[str, Any]:
    made = job(training={"max_length": 1000, "per_device_train_batch_size": 8})
    return {"job": made, "prepared": prepared(lengths, max_length=1000)}


def _together(batch: PackedBatch | None = None, **training: Any) -> dict[str, Any]:
    made = job(training={"packing": True, "max_length": 512, **training})
    opened = inputs(made, packed_batch=batch, model=model_config(model_type="jamba"), machine=machine())
    return {"job": made, "packages": packages(transformers="5.23.0", trl="1.16.0"), "inputs": opened}


CASES = (
    Case("packing-efficiency", "most of it padding", True, lambda: _padded(([20] * 9 + [900]) * 40)),
    Case("packing-isolation", "wrapped packing", True, lambda: _together(packing_strategy="wrapped")),
    Case(
        "packing-isolation",
        "an attention without a mask",
        True,
        lambda: _together(extra={"model_init_kwargs": {"attn_implementation": "xformers"}}),
    ),
    Case(
        "packing-isolation",
        "recurrent layers that ignore the boundaries of rows",
        True,
        lambda: _together(PackedBatch("leaks", TINY_MODEL, difference=0.1)),
    ),
    Case(
        "packing-isolation",
        "a model that refuses packed rows",
        True,
        lambda: _together(PackedBatch("refused", TINY_MODEL, "ValueError: no kernel")),
    ),
    Case(
        "packing-isolation",
        "recurrent layers that isolate rows",
        False,
        lambda: _together(PackedBatch("isolated", TINY_MODEL, difference=1e-7)),
    ),
    Case("packing-isolation", "best-fit packing, any known attention", False, _together),
    Case("packing-efficiency", "rows just over half a block", True, lambda: _packed([6] * 8, 10)),
    Case(
        "packing-efficiency", "fewer blocks than a step", True, lambda: _packed([5] * 8, 10, batch=2, steps=4)
    ),
    Case("packing-efficiency", "full blocks", False, lambda: _packed([5] * 8, 10, batch=2, steps=2)),
    Case("tokens-per-step", "4 x 8 x 768 for at least 32k", True, lambda: _step(8)),
    Case("tokens-per-step", "4 x 16 x 768", False, lambda: _step(16)),
)
