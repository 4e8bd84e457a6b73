"""Whether a job's worst batch fits, the largest batch that does, and the cheapest change that helps."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ftcheck.estimate.interval import Interval, Verdict, within
from ftcheck.estimate.memory.formulas import GIB, Memory, estimate
from ftcheck.estimate.memory.prediction import ALIKE, predict, scale, scaled
from ftcheck.inputs.machine import Machine
from ftcheck.records import Change
from ftcheck.settings import Job

MOST = 1024
"""Batches above this are not looked at."""
EIGHT_BIT = "paged_adamw_8bit"
STEP = 64
"""A proposed max_length is a multiple of this many tokens."""


FAR = 2
"""A limit that the formulas' interval is away from by this factor is not worth a replay."""
REPLAYS = 4
"""So many settings are replayed at the most until one fits; then the formulas' word is taken."""

Replays = Callable[[Job, int, int | None], Memory]
"""The memory of a job by a replayed step, from the longest row in tokens and the number of rows (None: more
than a batch); by the formulas (`least` is None) where it cannot be replayed."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """Changes that belong together, and the job with them: its memory, by a replayed step where `least` of it
    is known, and its longest row in tokens."""

    changes: tuple[Change, ...]
    memory: Memory
    job: Job
    longest: int


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest batch that fits, 0 for none; `replayed` where its step was, or that of the smallest batch
    that does not fit."""

    batch: int
    replayed: bool


def worst(
    job: Job,
    config: Mapping[str, Any],
    limit_gib: float,
    *,
    longest: int,
    sequences: int | None = None,
    usual: int | None = None,
    machine: Machine | None = None,
) -> tuple[Memory, Interval]:
    """The memory of a job's worst batch, and what the formulas are scaled by for other settings.

    By a replayed step, unless the limit is so far away that the formulas decide. `usual` and `machine` are
    as in `predict`. Raises `CannotTell`.
    """
    formula = estimate(job, config, longest=longest, sequences=sequences)
    if far(formula.low, formula.high, limit_gib * GIB):
        said = f"by formulas: the limit is {FAR} times away, which needs no replay of a step"
        return replace(formula, assumptions=(*formula.assumptions, said)), ALIKE
    memory = predict(job, config, longest=longest, sequences=sequences, usual=usual, machine=machine)
    if memory.least is None:
        return memory, ALIKE
    known = estimate(job, config, longest=longest, sequences=sequences, traced=True)
    return memory, scale(memory, known)


def far(low: float, high: float, limit: float) -> bool:
    """Whether an interval of the formulas decides: no replay would come to another verdict."""
    return high * FAR <= limit or low > limit * FAR


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
    by: Interval = ALIKE,
) -> int:
    """The largest per_device_train_batch_size whose whole interval is within the limit; 0 for none.

    However few rows there are: `longest` is the longest row in tokens. By the formulas, scaled `by` a replay.
    Raises `CannotTell`.
    """

    def fits(batch: int) -> bool:
        tried = _with(job, per_device_train_batch_size=batch)
        made = estimate(tried, config, longest=longest, scored=scored, traced=by != ALIKE)
        memory = scaled(made, by)
        return verdict(memory, limit_gib) == "fits"

    low, high = 0, 1
    while high <= MOST and fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def confirmed_batch(
    job: Job,
    config: Mapping[str, Any],
    limit_gib: float,
    replays: Replays,
    *,
    longest: int,
    by: Interval = ALIKE,
) -> Largest:
    """The same by replayed steps: of the formulas' largest batch, and of smaller ones until one fits."""
    batch = max(1, largest_batch(job, config, limit_gib, longest=longest, by=by))
    for _ in range(REPLAYS):
        tried = _with(job, per_device_train_batch_size=batch)
        memory = replays(tried, longest, None)
        if memory.least is None:
            return Largest(batch if verdict(memory, limit_gib) == "fits" else 0, False)
        if verdict(memory, limit_gib) == "fits":
            return Largest(batch, True)
        if batch == 1:
            return Largest(0, True)
        formula = estimate(tried, config, longest=longest, traced=True)
        by = replace(by, high=memory.least.high / formula.high)
        most = min(batch - 1, largest_batch(job, config, limit_gib, longest=longest, by=by))
        batch = max(1, most)
    return Largest(most, False)


def cheapest(
    job: Job,
    config: Mapping[str, Any],
    limit_gib: float,
    *,
    longest: int,
    sequences: int | None = None,
    by: Interval = ALIKE,
    replays: Replays | None = None,
) -> Remedy | None:
    """The first that makes the job fit: checkpointing, a smaller batch with more accumulation (the same rows
    a step), an 8-bit optimizer, these together, and a shorter max_length last; None where nothing does.

    By the formulas, scaled `by` a replay. With `replays` that remedy's step is replayed; where the replay
    refuses it, the formulas are scaled to what it says, and the next is sought.
    """
    found = _by_formulas(job, config, limit_gib, longest, sequences, by)
    for _ in range(REPLAYS if replays is not None else 0):
        if found is None or replays is None:
            return found
        made = replays(found.job, found.longest, sequences)
        if made.least is None:
            return found
        if verdict(made, limit_gib) == "fits":
            return replace(found, memory=made)
        by = replace(by, high=by.high * made.least.high / found.memory.high)
        found = _by_formulas(job, config, limit_gib, longest, sequences, by)
    return found


def _by_formulas(
    job: Job,
    config: Mapping[str, Any],
    limit_gib: float,
    longest: int,
    sequences: int | None,
    by: Interval,
) -> Remedy | None:
    for keys in _candidates(job, config, limit_gib, longest, by):
        tried = _with(job, **keys)
        length = min(longest, tried.training.max_length or longest)
        made = estimate(tried, config, longest=length, sequences=sequences, traced=by != ALIKE)
        memory = scaled(made, by)
        if verdict(memory, limit_gib) == "fits":
            return Remedy(tuple(_changes(job, keys)), memory, tried, length)
    return None


def _candidates(
    job: Job, config: Mapping[str, Any], limit: float, longest: int, by: Interval
) -> Iterator[Mapping[str, Any]]:
    ways: tuple[Callable[[Job], Mapping[str, Any]], ...] = (
        _checkpointing,
        _smaller(config, limit, longest, by),
        _eight_bit,
    )
    for way in ways:
        if keys := way(job):
            yield keys
    # One after the other, each on top of those before it.
    keys = {}
    for way in (_checkpointing, _eight_bit, _smaller(config, limit, longest, by)):
        keys = {**keys, **way(_with(job, **keys))}
        yield keys
    yield from _shorter(_with(job, **keys), keys)


def _checkpointing(job: Job) -> Mapping[str, Any]:
    return {} if job.training.gradient_checkpointing else {"gradient_checkpointing": True}


def _eight_bit(job: Job) -> Mapping[str, Any]:
    return {} if "8bit" in str(job.training.optim) else {"optim": EIGHT_BIT}


def _smaller(
    config: Mapping[str, Any], limit: float, longest: int, by: Interval
) -> Callable[[Job], Mapping[str, Any]]:
    """The largest batch that fits and divides the rows of a step; batch 1 where none fits."""

    def way(job: Job) -> Mapping[str, Any]:
        training = job.training
        rows = training.per_device_train_batch_size * training.gradient_accumulation_steps
        most = min(
            largest_batch(job, config, limit, longest=longest, by=by),
            training.per_device_train_batch_size - 1,
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
