"""Which rows are drawn: those with the smallest keys, and a row's key is made of the seed and its number.

So the same rows are drawn on any machine, in any number of processes and in one pass, without knowing how
many rows there are. The keys are the outputs of SplitMix64 (Steele, Lea and Flood 2014), of which no two are
equal: every set of rows of one size is as likely as any other.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""The constants of SplitMix64."""
SPARE = 1 << 16
"""So many rows more than twice those that are drawn are held before the others are forgotten."""


def keys(seed: int, first: int, count: int) -> "NDArray[np.uint64]":
    """The keys of `count` rows from row `first` (from 0) on: SplitMix64's outputs, seeded with `seed`."""
    import numpy as np

    numbers = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    mixed = numbers * np.uint64(GAMMA) + np.uint64(seed % (1 << 64))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(SECOND)
    found: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return found


class Draw:
    """Draws `rows` of the rows that are offered, in one pass; memory grows with `rows` alone."""

    def __init__(self, rows: int, seed: int) -> None:
        """Nothing was offered yet."""
        self._rows, self._seed = rows, seed
        self._limit = 1 << 64
        self._held: list[tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]] = []
        self._count = 0
        self.offered = 0

    def offer(self, places: "NDArray[np.int64]") -> None:
        """The next rows, each with its place: shape (rows, columns)."""
        import numpy as np

        made = keys(self._seed, self.offered, len(places))
        chosen = (
            (made < np.uint64(self._limit)).nonzero()[0] if self._limit < 1 << 64 else np.arange(len(made))
        )
        self._held.append((made[chosen], chosen + self.offered, places[chosen]))
        self._count += len(chosen)
        self.offered += len(places)
        if self._count > 2 * self._rows + SPARE:
            self._forget()

    def drawn(self) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        """The numbers of the drawn rows (from 0), in order, and their places beside them."""
        import numpy as np

        if not self._held:
            return np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.int64)
        self._forget()
        _, numbers, places = self._held[0]
        order = np.argsort(numbers)
        return numbers[order], places[order]

    def _forget(self) -> None:
        """Keep the smallest keys only; what is above them is passed over from now on."""
        import numpy as np

        made, numbers, places = (np.concatenate(one) for one in zip(*self._held, strict=True))
        if len(made) > self._rows:
            kept = np.argpartition(made, self._rows - 1)[: self._rows]
            made, numbers, places = made[kept], numbers[kept], places[kept]
            self._limit = int(made.max())
        self._held, self._count = [(made, numbers, places)], len(made)
