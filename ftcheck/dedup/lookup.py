"""Where a few fingerprints stand among those of very many rows.

The few are known everywhere, sorted; each shard tells what it has of them, and what two tell is put together.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from ftcheck.dedup.grams import among

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """Rows that have wanted fingerprints: the place among those that are wanted, and the row; in this order.

    Of each fingerprint the first `most` rows are kept.
    """

    places: "Ints"
    rows: "Ints"
    most: int

    def of(self, place: int) -> "Ints":
        """The rows with the fingerprint at a place."""
        import numpy as np

        low, high = (int(np.searchsorted(self.places, place, side)) for side in ("left", "right"))
        return self.rows[low:high]


def find(column: "Ints", wanted: "Ints", most: int, first: int = 0) -> Found:
    """The rows of a shard with `wanted` fingerprints (sorted); its first row has the number `first`."""
    import numpy as np

    rows = among(wanted, column).nonzero()[0]
    return _kept(np.searchsorted(wanted, column[rows]), rows + first, most)


def together(parts: Iterable[Found]) -> Found:
    """What shards found, in the order of their rows."""
    import numpy as np

    def both(one: Found, other: Found) -> Found:
        places, rows = (np.concatenate(ends) for ends in ((one.places, other.places), (one.rows, other.rows)))
        return _kept(places, rows, one.most)

    return reduce(both, parts)


def _kept(places: "Ints", rows: "Ints", most: int) -> Found:
    import numpy as np

    order = np.argsort(places, kind="stable")
    places = places[order]
    few = np.arange(len(places)) - np.searchsorted(places, places) < most
    return Found(places[few], rows[order][few], most)


def different_answers(asked: "Ints", said: "Ints", wanted: "Ints", most: int) -> "Ints":
    """The different answers of some rows to `wanted` questions (sorted): questions and answers, shape (n, 2).

    Of each question `most` answers are kept.
    """
    import numpy as np

    there = among(wanted, asked)
    return _capped(np.stack([asked[there], said[there]], axis=1), most)


def every_answer(parts: Iterable["Ints"], most: int) -> "Ints":
    """The different answers of all shards."""
    import numpy as np

    return reduce(lambda one, other: _capped(np.concatenate([one, other]), most), parts)


def _capped(pairs: "Ints", most: int) -> "Ints":
    import numpy as np

    pairs = np.unique(pairs, axis=0)
    return pairs[np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0]) < most]
