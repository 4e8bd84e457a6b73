"""Builds the learning rate schedule as transformers will, for the planned steps, on a dummy optimizer."""

import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any

from ftcheck import tables
from ftcheck.estimate.blocks import fed
from ftcheck.estimate.steps import steps
from ftcheck.inputs.loader import loader
from ftcheck.inputs.prepared import Prepared
from ftcheck.settings import Job

STEPPED = 1_000
"""Steps that are tried one by one."""


@loader("scheduler")
def scheduler(job: Job, prepared: Prepared) -> str | None:
    """Why the job's schedule cannot be built, or stepped; None if it can.

    Without torch and transformers, only arguments that the dated table knows to be needed are looked for.
    """
    training = job.training
    name, kwargs = training.lr_scheduler_type, training.extra.get("lr_scheduler_kwargs") or {}
    if not kwargs and (name is None or name in tables.load("schedulers")["plain"]):
        return None
    if not isinstance(kwargs, Mapping):
        return f"lr_scheduler_kwargs must be a mapping, not {type(kwargs).__name__}"
    if any(importlib.util.find_spec(one) is None for one in ("torch", "transformers")):
        return listed(name, kwargs)
    plan = steps(job, fed(job, prepared))
    return tried(str(name or "linear"), training.learning_rate, plan.warmup, plan.total, kwargs)


def listed(name: str | None, kwargs: Mapping[str, Any]) -> str | None:
    """What is missing by the dated table."""
    needs = tables.load("schedulers")["needs"].get(name)
    if needs is None or set(needs["any"]) & set(kwargs):
        return None
    return f"it needs {' or '.join(needs['any'])} in lr_scheduler_kwargs"


def tried(name: str, rate: float, warmup: int, total: int, kwargs: Mapping[str, Any]) -> str | None:
    """What `transformers.get_scheduler` raises, or a step of the schedule; None if nothing does."""
    import torch
    from transformers.optimization import GreedyLR, get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    try:
        made = get_scheduler(
            name,
            optimizer=optimizer,
            num_warmup_steps=warmup,
            num_training_steps=total,
            scheduler_specific_kwargs=dict(kwargs),
        )
        if isinstance(made, torch.optim.lr_scheduler.ReduceLROnPlateau | GreedyLR):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(min(total, STEPPED)):
                made.step()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return None
