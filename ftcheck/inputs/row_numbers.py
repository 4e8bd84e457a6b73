"""Numbers of rows in little memory, where they are few and where they are all: a bit a row."""

import base64
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1 << 13
"""Bytes of bits that are made into numbers at once."""


class RowNumbers(Sequence[int]):
    """Numbers of rows (from 0), in order and each once.

    They are held in parts: the number of the first row, and a bit for it and each row after it.
    """

    def __init__(self, numbers: Sequence[int] = ()) -> None:
        """`numbers` in any order."""
        self._parts: list[tuple[int, NDArray[np.uint8]]] = []
        self._count = 0
        self.add(numbers)

    def add(self, numbers: Sequence[int], before: int = 0) -> None:
        """More of them, in any order, all after those that are there; 0 stands for the row with `before` rows
        before it.
        """
        if isinstance(numbers, RowNumbers):
            # copied: what travelled from another process may be a view of all that came with it
            self._parts += [(before + first, bits.copy()) for first, bits in numbers._parts]
            self._count += len(numbers)
        elif len(numbers):
            self._pack(numbers, before)

    def _pack(self, numbers: Sequence[int], before: int) -> None:
        import numpy as np

        given = np.asarray(numbers, dtype=np.int64)
        first = int(given.min())
        mask = np.zeros(int(given.max()) - first + 1, dtype=bool)
        mask[given - first] = True
        self._parts.append((before + first, np.packbits(mask)))
        self._count += int(np.count_nonzero(mask))

    @classmethod
    def of_text(cls, text: str) -> "RowNumbers":
        """As `text` wrote them. Raises `ValueError` or `zlib.error` for any other text."""
        import numpy as np

        made = cls()
        bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
        made._parts = [(0, bits)]
        made._count = sum(int(np.unpackbits(block).sum()) for _, block in made._blocks())
        return made

    def text(self) -> str:
        """All of them in few characters, for JSON."""
        import numpy as np

        mask = np.zeros(max((first + 8 * len(bits) for first, bits in self._parts), default=0), dtype=bool)
        for first, bits in self._parts:
            mask[first : first + 8 * len(bits)] |= np.unpackbits(bits).view(bool)
        return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 1)).decode("ascii")

    def _blocks(self) -> "Iterator[tuple[int, NDArray[np.uint8]]]":
        """Pieces of the parts: the number of the first row, and bits."""
        for first, bits in self._parts:
            for at in range(0, len(bits), BLOCK):
                yield first + 8 * at, bits[at : at + BLOCK]

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def __iter__(self) -> Iterator[int]:
        """The numbers, in order."""
        import numpy as np

        for first, bits in self._blocks():
            yield from (np.flatnonzero(np.unpackbits(bits)) + first).tolist()

    def __contains__(self, row: object) -> bool:
        """Whether a row is one of them."""
        if not isinstance(row, int):
            return False
        places = ((row - first, bits) for first, bits in self._parts)
        return any(0 <= at < 8 * len(bits) and bits[at >> 3] >> (7 - (at & 7)) & 1 for at, bits in places)

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[int, ...]: ...

    def __getitem__(self, place: int | slice) -> int | tuple[int, ...]:
        if isinstance(place, slice):
            start, stop, step = place.indices(self._count)
            return tuple(islice(self, start, stop, step)) if step > 0 else tuple(self)[place]
        at = place + self._count if place < 0 else place
        if not 0 <= at < self._count:
            raise IndexError(place)
        return next(islice(self, at, None))

    def __eq__(self, other: object) -> bool:
        """Whether another sequence has the same numbers."""
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(map(int.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """The first of them."""
        more = ", ..." if self._count > 10 else ""
        return f"RowNumbers([{', '.join(map(str, self[:10]))}{more}])"
