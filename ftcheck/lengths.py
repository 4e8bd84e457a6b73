"""Exact statistics of lengths: counts, nearest-rank percentiles."""

import math
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
