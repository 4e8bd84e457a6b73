"""How many blocks a job's rows need, and how full they are: as TRL packs, best-fit, and as planned."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.estimate.interval import Interval
from ftcheck.inputs.prepared import Prepared
from ftcheck.packing.plans import (
    Plan,
    as_trl,
    best_fit,
    lower_bound,
    optimal,
)
from ftcheck.sampling import intervals
from ftcheck.settings import Job

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Packed:
    """How many blocks of `capacity` tokens some sequences need, and how full they are.

    `note` says what might find a better plan, if anything.
    """

    capacity: int
    sequences: int
    tokens: int
    trl: int
    best_fit: int
    planned: int
    lower_bound: int
    emptiest: int = 0
    note: str = ""

    def fill(self, blocks: int) -> float:
        """Share of the tokens of so many blocks that are real."""
        return self.tokens / (blocks * self.capacity) if blocks else 0.0


def as_stored(prepared: Prepared, job: Job) -> Packed | None:
    """Rows that were packed before, and that a command trains so; None of all other rows."""
    blocks = prepared.stored.blocks if prepared.stored is not None else None
    if blocks is None or not len(blocks) or job.trainer.use != "command":
        return None
    count, capacity, tokens = len(blocks), int(blocks.max()), int(prepared.kept.sum())
    bound = -(-tokens // capacity)
    return Packed(capacity, len(prepared.sequences), tokens, count, count, count, bound)


def packed(prepared: Prepared, job: Job, capacity: int, *, quick: bool = False) -> Packed:
    """What packing makes of the rows: by TRL (1,000 rows at a time), by best-fit over all, as planned.

    Rows that a command reads packed stay as they are. With `quick`, best-fit stands for the optimum: a few
    blocks more at most, found at once.
    """
    stored = as_stored(prepared, job)
    if stored is not None:
        return stored
    training = job.training
    strategy = training.packing_strategy
    lengths = prepared.fed(capacity, cut=strategy == "bfd")
    pieces = _pieces(lengths, capacity, strategy)
    tokens, sequences = int(pieces.sum()), int((lengths > 0).sum())
    trl = as_trl(lengths, capacity, strategy)
    if strategy == "wrapped":
        best = -(-tokens // capacity)
        return Packed(capacity, sequences, tokens, trl, best, trl, best, tokens - (best - 1) * capacity)
    fitted, bound = best_fit(pieces, capacity), lower_bound(pieces, capacity)
    if training.packing_planner == "trl":
        emptiest = _emptiest(fitted)
        return Packed(capacity, sequences, tokens, trl, fitted.blocks, trl, bound, emptiest)
    plan = fitted if quick else optimal(pieces, capacity)
    counted = (capacity, sequences, tokens, trl, fitted.blocks, plan.blocks, bound)
    return Packed(*counted, _emptiest(plan), plan.note)


def _emptiest(plan: Plan) -> int:
    """Tokens in the block that holds the fewest."""
    return min((sum(length * times for length, times in block) for block, _ in plan.patterns), default=0)


def _pieces(lengths: "NDArray[Any]", capacity: int, strategy: str) -> "NDArray[Any]":
    """What is put into blocks: whole sequences, or what `bfd_split` makes of those that are too long."""
    import numpy as np

    if strategy != "bfd_split":
        return lengths
    whole = np.repeat(capacity, int((lengths // capacity).sum()))
    return np.concatenate([whole, lengths % capacity]).astype(np.int64)


def fed(job: Job, prepared: Prepared) -> int:
    """Rows per epoch, or blocks where they are packed; of a sample those of all rows, as is likely."""
    return round(fed_between(job, prepared).likely)


def fed_between(job: Job, prepared: Prepared) -> Interval:
    """The same as an interval: a point where all rows were prepared, else at 95 %.

    All rows fill blocks no worse than a sample of them does, and no better than full. Of few rows that are
    fed it is only known that each takes a block at the most.
    """
    found, sample = _fed(job, prepared), prepared.sample
    if sample is None:
        return Interval(found, found, found)
    likely = found * sample.of / sample.rows
    if not _packs(job):
        low, high = intervals.count(min(found, sample.rows), sample.rows, sample.of)
        return Interval(min(likely, low), likely, max(likely, high))
    tokens = int(prepared.kept.sum())
    low_tokens, high_tokens = intervals.total(prepared.kept, sample.rows, sample.of)
    least = low_tokens / int(job.training.max_length or 1)
    most = sample.of if high_tokens is None or not tokens else found * high_tokens / tokens
    return Interval(min(likely, least), likely, max(likely, most))


def spread(job: Job, prepared: Prepared) -> Interval:
    """By which factors a number that grows with what is fed may be off because rows were drawn."""
    found = fed_between(job, prepared)
    if not found.likely:
        return Interval(1.0, 1.0, 1.0)
    return Interval(found.low / found.likely, 1.0, found.high / found.likely)


def _packs(job: Job) -> bool:
    return job.training.packing and job.training.max_length is not None


def _fed(job: Job, prepared: Prepared) -> int:
    """Of the rows that were prepared."""
    training, stored = job.training, as_stored(prepared, job)
    if stored is not None:
        return stored.planned
    if training.packing and training.max_length is not None:
        return packed(prepared, job, training.max_length).planned
    return len(prepared.sequences)
