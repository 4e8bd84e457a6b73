"""Must-fail and must-pass inputs of the rules for several processes: distributed, data-loading."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, environment, inputs, job, machine, prepared

FOUR_BIT = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"}


def _spread(**training: Any) -> Mapping[str, Any]:
    return {"job": job(training=training, hardware={"count": 2}), "environment": environment()}


def _loading(count: int = 1, *, shm: int = 8 << 30, rows: int = 3, **extra: Any) -> Mapping[str, Any]:
    one = job(training={"extra": extra}, hardware={"count": count})
    return {
        "job": one,
        "machine": machine(),
        "environment": environment(shm=shm),
        "inputs": inputs(one, prepared=prepared([100] * rows)),
    }


CASES: tuple[Case, ...] = (
    Case(
        "distributed",
        "device_map auto for two processes",
        True,
        lambda: _spread(extra={"model_init_kwargs": {"device_map": "auto"}}),
    ),
    Case(
        "distributed",
        "4-bit weights stored as bytes under FSDP",
        True,
        lambda: _spread(quantization=FOUR_BIT, extra={"fsdp": "full_shard"}),
    ),
    Case(
        "distributed",
        "DeepSpeed with another batch",
        True,
        lambda: _spread(extra={"deepspeed": {"train_micro_batch_size_per_gpu": 3}}),
    ),
    Case(
        "distributed",
        "DeepSpeed that takes everything from the policy",
        False,
        lambda: _spread(extra={"deepspeed": {"train_micro_batch_size_per_gpu": "auto"}}),
    ),
    Case("data-loading", "more processes than processors", True, lambda: _loading(dataset_num_proc=64)),
    Case(
        "data-loading",
        "workers with Docker's shared memory",
        True,
        lambda: _loading(shm=64 << 20, dataloader_num_workers=4),
    ),
    Case(
        "data-loading", "tokenising beyond the timeout", True, lambda: _loading(2, rows=6_000, ddp_timeout=2)
    ),
    Case("data-loading", "two workers, two processes", False, lambda: _loading(2, dataloader_num_workers=2)),
)
