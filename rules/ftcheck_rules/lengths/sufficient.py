"""The smallest max_length that holds a job's rows: one answer, for all checks that propose one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck import Job, Prepared
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
    good = could_be_fed(job, prepared) & ~prepared.outlier
    lengths = prepared.length[good].astype(int)
    trained = _trained(prepared)[good]
    allowed = (1 - needs.keep) * int(trained.sum())
    low, high = 0, rounded_up(int(lengths.max(initial=0))) // STEP
    while high - low > 1:
        middle = (low + high) // 2
        left = _left(job, lengths, trained, middle * STEP)
        untrained = int(((left == 0) & (trained > 0)).sum())
        enough = int((trained - left).sum()) <= allowed and untrained <= needs.max_untrained
        low, high = (low, middle) if enough else (middle, high)
    return high * STEP


def share_kept(job: Job, prepared: Prepared, limit: int) -> float:
    """The share of the trained tokens that a max_length of `limit` tokens keeps, 0 to 1."""
    good = could_be_fed(job, prepared)
    trained = _trained(prepared)[good]
    everything = int(trained.sum())
    kept = int(_left(job, prepared.length[good].astype(int), trained, limit).sum())
    return kept / everything if everything else 1.0


def _trained(prepared: Prepared) -> "NDArray[Any]":
    """Tokens in the loss of each row, before truncation."""
    return (prepared.trained + prepared.trained_lost).astype(int)


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

    return np.concatenate([prepared.lengths(), prepared.length[cut_to_nothing(prepared)].astype(np.int64)])


def cut_to_nothing(prepared: Prepared) -> "NDArray[np.bool_]":
    """Rows that are not trained on because truncation left no token in the loss (outliers excepted)."""
    cut: NDArray[np.bool_] = ~prepared.used & (prepared.trained_lost > 0) & ~prepared.outlier
    cut[list(prepared.row_errors)] = False
    return cut


def rounded_up(length: int) -> int:
    """The next multiple of `STEP`."""
    return -(-length // STEP) * STEP
