"""Exact statistics of lengths: counts that merge, nearest-rank percentiles, what a length cuts off."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def nearest_rank(lengths: "NDArray[Any]", percentile: float) -> int:
    """The nearest-rank percentile: the smallest length that at least `percentile` % of all do not exceed.

    `lengths` is any integer array, not empty; `percentile` lies between 0 and 100.
    """
    import numpy as np

    rank = max(1, math.ceil(percentile / 100 * len(lengths)))
    return int(np.partition(np.asarray(lengths), rank - 1)[rank - 1])


def histogram(lengths: "NDArray[Any]") -> "NDArray[np.int64]":
    """How many sequences have each length: entry `n` counts those of `n` tokens. Histograms add up."""
    import numpy as np

    counts: NDArray[np.int64] = np.bincount(np.asarray(lengths, dtype=np.int64)).astype(np.int64)
    return counts


@dataclass(frozen=True)
class Histogram:
    """How many sequences have each length, exactly. Histograms of parts merge into that of the whole.

    `counts[n]` (int64) counts the sequences of `n` tokens; trailing zeros are cut off.
    """

    counts: "NDArray[np.int64]"

    @classmethod
    def of(cls, lengths: "NDArray[Any]") -> "Histogram":
        """The histogram of integer lengths, which may be none."""
        return cls(histogram(lengths))

    def merge(self, other: "Histogram") -> "Histogram":
        """The histogram of both sets of sequences: commutative, associative, nothing is lost."""
        long, short = sorted((self.counts, other.counts), key=len, reverse=True)
        total = long.copy()
        total[: len(short)] += short
        return Histogram(total)

    @property
    def sequences(self) -> int:
        """How many sequences there are."""
        return int(self.counts.sum())

    @property
    def tokens(self) -> int:
        """How many tokens they have in all."""
        import numpy as np

        return int((self.counts * np.arange(len(self.counts))).sum())

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence; 0 where there is none."""
        found = self.counts.nonzero()[0]
        return int(found[-1]) if len(found) else 0

    def percentile(self, percentile: float) -> int:
        """The nearest-rank percentile, as `nearest_rank` of the lengths. Raises `ValueError` if empty."""
        import numpy as np

        if not self.sequences:
            raise ValueError("an empty histogram has no percentile")
        rank = max(1, math.ceil(percentile / 100 * self.sequences))
        return int(np.searchsorted(np.cumsum(self.counts), rank))

    def above(self, length: int) -> int:
        """How many sequences are longer than `length` tokens."""
        return int(self.counts[max(0, length + 1) :].sum())

    def beyond(self, length: int) -> int:
        """How many tokens stand beyond the first `length` of their sequence."""
        import numpy as np

        part = self.counts[length:]
        return int((part * np.arange(len(part))).sum())

    def share_within(self, length: int) -> float:
        """Share of the sequences that have at most `length` tokens, 0 to 1; 1 where there is none."""
        return 1 - self.above(length) / self.sequences if self.sequences else 1.0

    def bin_width(self, number: int) -> int:
        """How many lengths each of at most `number` bins holds."""
        return max(1, -(-(self.longest + 1) // number))

    def bins(self, number: int) -> "NDArray[np.int64]":
        """The counts in at most `number` stretches of equal width, from length 0 to the longest."""
        import numpy as np

        width = self.bin_width(number)
        starts = np.arange(0, self.longest + 1, width)
        binned: NDArray[np.int64] = np.add.reduceat(self.counts[: self.longest + 1], starts)
        return binned


@dataclass(frozen=True)
class TrainedPositions:
    """Where the tokens of the loss stand in their rows: what a length would cut off, for every length.

    `counts[p]` (int64) counts the trained tokens at position `p` (from 0) of their row. `exact` is false
    where they were counted in a drawn part of the rows and scaled up to `total`.
    """

    counts: "NDArray[np.int64]"
    total: int
    exact: bool = True

    def merge(self, other: "TrainedPositions") -> "TrainedPositions":
        """The positions of both sets of rows."""
        both = Histogram(self.counts).merge(Histogram(other.counts))
        return TrainedPositions(both.counts, self.total + other.total, self.exact and other.exact)

    def lost(self, length: int) -> int:
        """Trained tokens that a cut after `length` tokens (keep_start) takes away."""
        return int(self.counts[length:].sum())

    def kept(self, length: int) -> float:
        """Share of the trained tokens that it leaves, 0 to 1; 1 where nothing is trained."""
        return 1 - self.lost(length) / self.total if self.total else 1.0
