"""Whether a job's worst batch fits, the largest batch that does, and the cheapest change that helps."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ftcheck.estimate.interval import Verdict, within
from ftcheck.estimate.memory.formulas import GIB, Memory, estimate
from ftcheck.estimate.memory.prediction import predict, scaled
from ftcheck.inputs.machine import Machine
from ftcheck.records import Change
from ftcheck.settings import Job

MOST = 1024
"""Batches above this are not looked at."""
EIGHT_BIT = "paged_adamw_8bit"
STEP = 64
"""A proposed max_length is a multiple of this many tokens."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """Changes that belong together, and the memory of the job with them."""

    changes: tuple[Change, ...]
    memory: Memory


FAR = 2
"""A limit that the formulas' interval is away from by this factor is not worth a replay."""


def worst(
    job: Job,
    config: Mapping[str, Any],
    limit_gib: float,
    *,
    longest: int,
    sequences: int | None = None,
    machine: Machine | None = None,
) -> tuple[Memory, float]:
    """The memory of a job's worst batch, and the factor by which the formulas are scaled for other settings.

    By a replayed step, unless the limit is so far away that the formulas decide. `machine` is this one.
    Raises `CannotTell`.
    """
    formula = estimate(job, config, longest=longest, sequences=sequences)
    limit = limit_gib * GIB
    if formula.high * FAR <= limit or formula.low > limit * FAR:
        said = f"by formulas: the limit is {FAR} times away, which needs no replay of a step"
        return replace(formula, assumptions=(*formula.assumptions, said)), 1.0
    memory = predict(job, config, longest=longest, sequences=sequences, machine=machine)
    return memory, memory.likely / formula.likely


def verdict(memory: Memory, limit_gib: float) -> Verdict:
    """`fits` where the whole interval is within the limit, `tight` where only the likely value is.

    What counts is the memory that the run completes in, where it is known: less than it takes where there is
    more, by what PyTorch gives back.
    """
    needed = memory if memory.least is None else memory.least
    return within(needed.likely, needed.high, limit_gib * GIB)


def largest_batch(
    job: Job,
    config: Mapping[str, Any],
    limit_gib: float,
    *,
    longest: int,
    scored: int | None = None,
    factor: float = 1.0,
) -> int:
    """The largest per_device_train_batch_size whose whole interval is within the limit; 0 for none.

    However few rows there are: `longest` is the longest row in tokens. By the formulas times `factor`.
    Raises `CannotTell`.
    """

    def fits(batch: int) -> bool:
        tried = _with(job, per_device_train_batch_size=batch)
        memory = scaled(estimate(tried, config, longest=longest, scored=scored), factor)
        return verdict(memory, limit_gib) == "fits"

    low, high = 0, 1
    while high <= MOST and fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def cheapest(
    job: Job,
    config: Mapping[str, Any],
    limit_gib: float,
    *,
    longest: int,
    sequences: int | None = None,
    factor: float = 1.0,
) -> Remedy | None:
    """The first that makes the job fit: checkpointing, a smaller batch with more accumulation (the same rows
    a step), an 8-bit optimizer, these together, and a shorter max_length last; None where nothing does.
    By the formulas times `factor`.
    """
    for keys in _candidates(job, config, limit_gib / factor, longest):
        tried = _with(job, **keys)
        length = min(longest, tried.training.max_length or longest)
        memory = scaled(estimate(tried, config, longest=length, sequences=sequences), factor)
        if verdict(memory, limit_gib) == "fits":
            return Remedy(tuple(_changes(job, keys)), memory)
    return None


def _candidates(
    job: Job, config: Mapping[str, Any], limit: float, longest: int
) -> Iterator[Mapping[str, Any]]:
    ways: tuple[Callable[[Job], Mapping[str, Any]], ...] = (
        _checkpointing,
        _smaller(config, limit, longest),
        _eight_bit,
    )
    for way in ways:
        if keys := way(job):
            yield keys
    # One after the other, each on top of those before it.
    keys = {}
    for way in (_checkpointing, _eight_bit, _smaller(config, limit, longest)):
        keys = {**keys, **way(_with(job, **keys))}
        yield keys
    yield from _shorter(_with(job, **keys), keys)


def _checkpointing(job: Job) -> Mapping[str, Any]:
    return {} if job.training.gradient_checkpointing else {"gradient_checkpointing": True}


def _eight_bit(job: Job) -> Mapping[str, Any]:
    return {} if "8bit" in str(job.training.optim) else {"optim": EIGHT_BIT}


def _smaller(config: Mapping[str, Any], limit: float, longest: int) -> Callable[[Job], Mapping[str, Any]]:
    """The largest batch that fits and divides the rows of a step; batch 1 where none fits."""

    def way(job: Job) -> Mapping[str, Any]:
        training = job.training
        rows = training.per_device_train_batch_size * training.gradient_accumulation_steps
        most = min(
            largest_batch(job, config, limit, longest=longest), training.per_device_train_batch_size - 1
        )
        batch = next((one for one in range(most, 0, -1) if rows % one == 0), 1)
        if batch >= training.per_device_train_batch_size:
            return {}
        return {"per_device_train_batch_size": batch, "gradient_accumulation_steps": rows // batch}

    return way


def _shorter(job: Job, keys: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    now = job.training.max_length
    for length in range((now or 0) // STEP * STEP - STEP, STEP, -STEP):
        yield {**keys, "max_length": length}


def _with(job: Job, **keys: Any) -> Job:
    return replace(job, training=replace(job.training, **keys))


def _changes(job: Job, keys: Mapping[str, Any]) -> Iterator[Change]:
    harmless = {"gradient_checkpointing", "per_device_train_batch_size", "gradient_accumulation_steps"}
    for key, new in keys.items():
        old = getattr(job.training, key)
        yield Change(f"jobs.{job.name}.training.{key}", old, new, safe=key in harmless)
