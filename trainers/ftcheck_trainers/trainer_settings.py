"""Arguments of a trainer that would train the checked rows otherwise than the policy states."""

from collections.abc import Iterator
from typing import Any

from ftcheck.estimate.steps import effective_batch, steps
from ftcheck.paths import near
from ftcheck.plurals import counted
from ftcheck.settings import Job

COMPARED = (
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "label_smoothing_factor",
    "neftune_noise_alpha",
    "loss_type",
    "packing_strategy",
    "max_length",
    "seed",
    "dataloader_drop_last",
)
"""What decides about steps, and what a step does. What decides about ids is compared as ids; what saves,
logs and evaluates is the script's own."""
BATCH = ("training.per_device_train_batch_size", "training.gradient_accumulation_steps", "hardware.count")
"""Their product is what a step trains: the same rows in other portions are the same step."""


def differences(job: Job, args: Any, *, packed: bool, rows: int, at_once: int | None = None) -> list[str]:
    """A line for each setting that the policy states and the trainer has otherwise.

    `packed` says whether its `rows` are blocks, whoever packed them. `at_once` is the batch of one process
    where it is not the one of the arguments: `auto_find_batch_size` takes a smaller one.
    """
    at_once = args.train_batch_size if at_once is None else at_once
    return [*_settings(job, args, packed=packed), *_epochs(job, args, rows), *_batch(job, args, at_once)]


def _settings(job: Job, args: Any, *, packed: bool) -> Iterator[str]:
    key = "training.packing"
    if key in job.places and job.training.packing != packed:
        yield f"{key} is {job.training.packing} in the policy ({place_of(job, key)}), {packed} in the trainer"
    for name in COMPARED:
        key = f"training.{name}"
        if key not in job.places or not hasattr(args, name) or _overruled(name, args, packed=packed):
            continue
        stated = job.training.extra.get(name, getattr(job.training, name, None))
        found = getattr(args, name)
        found = getattr(found, "value", found)
        if stated is not None and stated != found:
            yield f"{key} is {stated} in the policy ({place_of(job, key)}), {found} in the trainer"


def _overruled(name: str, args: Any, *, packed: bool) -> bool:
    """Steps overrule epochs; without packing its strategy and the length of a block say nothing."""
    if name == "num_train_epochs":
        return bool(args.max_steps > 0)
    return name in ("packing_strategy", "max_length") and not packed


def _epochs(job: Job, args: Any, rows: int) -> Iterator[str]:
    """Steps that overrule the epochs of the policy."""
    key = "training.num_train_epochs"
    if key not in job.places or job.training.max_steps >= 0 or args.max_steps <= 0:
        return
    planned = steps(job, rows).total
    if planned != args.max_steps:
        stated = f"{job.training.num_train_epochs} in the policy ({place_of(job, key)})"
        yield f"{key} is {stated}, which is {planned} steps; max_steps is {args.max_steps} in the trainer"


def _batch(job: Job, args: Any, at_once: int) -> Iterator[str]:
    """Rows or blocks that one step trains."""
    stated = [key for key in BATCH if key in job.places]
    planned = effective_batch(job)
    here = at_once * args.gradient_accumulation_steps * args.world_size
    if stated and planned != here:
        yield (
            f"a step trains {planned} rows in the policy ({place_of(job, stated[0])}), {here} in the trainer:"
            f" per_device_train_batch_size {at_once // max(1, args.n_gpu)}, gradient_accumulation_steps"
            f" {args.gradient_accumulation_steps}, {counted(args.world_size, 'process', 'processes')}"
        )


def place_of(job: Job, key: str) -> str:
    """Where a key stands in the policy, or where it would."""
    place = job.at(key)
    return f"{near(place.path or '')}:{place.line}" if place.line is not None else str(place.path)
