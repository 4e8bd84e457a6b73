"""How many blocks a job's rows need, and how full they are: as TRL packs, best-fit, and as planned."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.inputs.prepared import Prepared
from ftcheck.packing.plans import (
    Plan,
    as_trl,
    best_fit,
    lower_bound,
    optimal,
)
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
    """Rows per epoch, or blocks where they are packed."""
    training, stored = job.training, as_stored(prepared, job)
    if stored is not None:
        return stored.planned
    if training.packing and training.max_length is not None:
        return packed(prepared, job, training.max_length).planned
    return len(prepared.sequences)
