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


def effective_batch(job: Job) -> int:
    """Rows (or blocks) of one optimizer step: batch x accumulation x devices."""
    training = job.training
    return training.per_device_train_batch_size * training.gradient_accumulation_steps * devices(job)


def steps(job: Job, fed: int) -> Steps:
    """Steps over `fed` rows or blocks. With `max_steps` above or at 0, that many, whatever the epochs say.

    The last step of an epoch takes what is left; only `dataloader_drop_last` drops a batch that is not full.
    """
    training = job.training
    at_once = training.per_device_train_batch_size * devices(job)
    whole = bool(training.extra.get("dataloader_drop_last"))
    batches = fed // at_once if whole else -(-fed // at_once)
    an_epoch = -(-batches // training.gradient_accumulation_steps)
    total = training.max_steps if training.max_steps >= 0 else math.ceil(training.num_train_epochs * an_epoch)
    return Steps(fed, effective_batch(job), an_epoch, total, _warmup(training, total))


def _warmup(training: Any, total: int) -> int:
    if training.lr_scheduler_type in WITHOUT_WARMUP:
        return 0
    stated = training.warmup_steps
    return int(stated) if stated >= 1 else math.ceil(total * max(0.0, stated))


def every(stated: float, total: int) -> int:
    """Steps between two saves, evaluations or logs; below 1 it is a share of all steps."""
    return max(1, math.ceil(total * stated)) if stated < 1 else int(stated)
