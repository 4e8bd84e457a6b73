"""The smallest max_length that holds a job's rows: one answer, for all checks that propose one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck import Job, Prepared
from ftcheck.inputs.prepared import BLOCK
from ftcheck.packing.lengths import Histogram

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP = 64
"""Proposed lengths are multiples of this."""


@dataclass(frozen=True)
class Needs:
    """What a max_length must hold; by default what `percentile-seq-len` and `truncation` ask for."""

    percentile: float = 95.0
    """Nearest-rank percentile of the rows' lengths, above 0 and up to 100."""
    keep: float = 0.99
    """Share of the trained tokens, 0 to 1."""
    max_untrained: int = 0
    """Rows that may be left without a token in the loss."""


def sufficient(job: Job, prepared: Prepared, needs: Needs | None = None) -> int:
    """The smallest multiple of `STEP` tokens that holds all that is needed; 0 where there are no rows.

    Assumes that a row's trained tokens are its last ones.
    """
    needs = needs or Needs()
    lengths = before_truncation(prepared)
    if not len(lengths):
        return 0
    by_length = rounded_up(Histogram.of(lengths).percentile(needs.percentile))
    return max(by_length, _by_tokens(job, prepared, needs))


def _by_tokens(job: Job, prepared: Prepared, needs: Needs) -> int:
    """The part that the tokens in the loss ask for; what data.outliers changes is not max_length's doing."""
    if job.training.packing and job.training.packing_strategy != "bfd":
        return 0  # nothing is cut
    lengths, trained, rows = _counted(prepared, could_be_fed(job, prepared) & ~prepared.outlier)
    allowed = (1 - needs.keep) * int((trained * rows).sum())
    low, high = 0, rounded_up(int(lengths.max(initial=0))) // STEP
    while high - low > 1:
        middle = (low + high) // 2
        left = _left(job, lengths, trained, middle * STEP)
        untrained = int(rows[(left == 0) & (trained > 0)].sum())
        enough = int(((trained - left) * rows).sum()) <= allowed and untrained <= needs.max_untrained
        low, high = (low, middle) if enough else (middle, high)
    return high * STEP


def share_kept(job: Job, prepared: Prepared, limit: int) -> float:
    """The share of the trained tokens that a max_length of `limit` tokens keeps, 0 to 1."""
    lengths, trained, rows = _counted(prepared, could_be_fed(job, prepared))
    everything = int((trained * rows).sum())
    kept = int((_left(job, lengths, trained, limit) * rows).sum())
    return kept / everything if everything else 1.0


def _counted(
    prepared: Prepared, good: "NDArray[np.bool_]"
) -> "tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]":
    """Which lengths these rows have with which numbers of tokens in the loss (both before truncation), and
    how many rows each time: far fewer than rows.
    """
    import numpy as np

    found, counts = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for first in range(0, len(good), BLOCK):
        some = slice(first, first + BLOCK)
        trained = prepared.trained[some].astype(np.int64) + prepared.trained_lost[some]
        both = (prepared.length[some].astype(np.int64) << 32 | trained)[good[some]]
        values, numbers = np.unique(both, return_counts=True)
        found.append(values)
        counts.append(numbers)
    pairs, where = np.unique(np.concatenate(found), return_inverse=True)
    rows = np.bincount(where, weights=np.concatenate(counts), minlength=len(pairs)).astype(np.int64)
    return pairs >> 32, pairs & 0xFFFFFFFF, rows


def _left(job: Job, lengths: "NDArray[Any]", trained: "NDArray[Any]", limit: int) -> "NDArray[Any]":
    """Trained tokens that a cut to `limit` leaves, where they are the row's last ones."""
    ends = job.training.truncation_mode == "keep_end" and not job.training.packing
    over = 0 if ends else (lengths - limit).clip(min=0)
    return (trained - over).clip(min=0).clip(max=limit)


def could_be_fed(job: Job, prepared: Prepared) -> "NDArray[np.bool_]":
    """Rows that could be prepared and that data.outliers does not drop."""
    good = ~dropped_outliers(job, prepared)
    good[list(prepared.row_errors)] = False
    return good


def dropped_outliers(job: Job, prepared: Prepared) -> "NDArray[np.bool_]":
    """Rows that data.outliers drops."""
    outliers = job.data.outliers
    drops = outliers is not None and outliers.action == "drop"
    dropped: NDArray[np.bool_] = prepared.outlier & ~prepared.used & drops
    return dropped


def before_truncation(prepared: Prepared) -> "NDArray[np.int64]":
    """Tokens of every sequence before truncation, including rows that only truncation removed."""
    import numpy as np

    more = prepared.length[cut_to_nothing(prepared)]
    found = np.empty(len(prepared.sequences) + len(more), dtype=np.int64)
    np.subtract(prepared.sequences[:, 2], prepared.sequences[:, 1], out=found[: len(prepared.sequences)])
    found[len(prepared.sequences) :] = more
    return found


def cut_to_nothing(prepared: Prepared) -> "NDArray[np.bool_]":
    """Rows that are not trained on because truncation left no token in the loss (outliers excepted)."""
    cut: NDArray[np.bool_] = ~prepared.used & (prepared.trained_lost > 0) & ~prepared.outlier
    cut[list(prepared.row_errors)] = False
    return cut


def rounded_up(length: int) -> int:
    """The next multiple of `STEP`."""
    return -(-length // STEP) * STEP
