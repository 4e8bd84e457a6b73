"""Optimizer steps of a job, counted as transformers counts them: an epoch, all of them, the warm-up."""

import math
from dataclasses import dataclass
from typing import Any

from ftcheck.settings import Job

WITHOUT_WARMUP = frozenset({"constant", "reduce_lr_on_plateau", "greedy"})
"""Schedules of transformers that take no warm-up: `warmup_steps` is ignored."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How a job goes through its rows (or packed blocks).

    `batch` rows or blocks make one optimizer step, on all devices together. `epochs` are the passes that
    `total` steps really make. `warmup` is 0 where the schedule takes none.
    """

    fed: int
    batch: int
    an_epoch: int
    total: int
    warmup: int

    @property
    def epochs(self) -> float:
        """Passes over the rows, as far as whole steps make them."""
        return self.total / self.an_epoch if self.an_epoch else 0.0


def devices(job: Job) -> int:
    """GPUs that share the rows; 1 where the policy names none."""
    return max(1, job.hardware.count)


def effective_batch(job: Job, processes: int | None = None) -> int:
    """Rows (or blocks) of one optimizer step: batch x accumulation x devices."""
    training = job.training
    each = training.per_device_train_batch_size * training.gradient_accumulation_steps
    return each * (processes or devices(job))


def steps(job: Job, fed: int, processes: int | None = None) -> Steps:
    """Steps over `fed` rows or blocks. With `max_steps` above or at 0, that many, whatever the epochs say.

    The last step of an epoch takes what is left; only `dataloader_drop_last` drops a batch that is not full.
    `processes` take part; default: one per device.
    """
    training = job.training
    at_once = training.per_device_train_batch_size * (processes or devices(job))
    batches = fed // at_once if drops_last(job) else -(-fed // at_once)
    an_epoch = -(-batches // training.gradient_accumulation_steps)
    total = training.max_steps if training.max_steps >= 0 else math.ceil(training.num_train_epochs * an_epoch)
    return Steps(fed, effective_batch(job, processes), an_epoch, total, _warmup(training, total))


def drops_last(job: Job) -> bool:
    """Whether a batch that is not full on all devices is not trained."""
    return bool(job.training.extra.get("dataloader_drop_last"))


def shares(job: Job, fed: int) -> tuple[int, ...]:
    """How many of the `fed` rows or blocks each device trains in an epoch, in the order of the devices.

    Batches go round: the first to device 0, the next to device 1. What is left of the last round goes to the
    devices from the front (accelerate 1.15, data_loader.py: `BatchSamplerShard`).
    """
    batch, count = job.training.per_device_train_batch_size, devices(job)
    rounds, left = divmod(fed, batch * count)
    left = 0 if drops_last(job) else left
    return tuple(rounds * batch + min(batch, max(0, left - batch * number)) for number in range(count))


def _warmup(training: Any, total: int) -> int:
    if training.lr_scheduler_type in WITHOUT_WARMUP:
        return 0
    stated = training.warmup_steps
    return int(stated) if stated >= 1 else math.ceil(total * max(0.0, stated))


def every(stated: float, total: int) -> int:
    """Steps between two saves, evaluations or logs; below 1 it is a share of all steps."""
    return max(1, math.ceil(total * stated)) if stated < 1 else int(stated)
