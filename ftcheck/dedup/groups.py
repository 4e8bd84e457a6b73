"""Rows that hang together by pairs of rows."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


def groups(pairs: "Ints") -> "tuple[Ints, Ints]":
    """The rows of pairs (shape (n, 2)) in order, and for each the first row of its group.

    Pairs of all shards and parts are united at once. A row takes over the lowest row that its pairs lead to,
    until nothing changes: each round halves the way that is left.
    """
    import numpy as np

    rows, flat = np.unique(pairs, return_inverse=True)
    one, other = flat.reshape(-1, 2).T
    first = np.arange(len(rows), dtype=np.int64)
    while True:
        lower = np.minimum(first[one], first[other])
        found = first.copy()
        np.minimum.at(found, first[one], lower)
        np.minimum.at(found, first[other], lower)
        found = found[found]
        if (found == first).all():
            return rows, rows[first]
        first = found
