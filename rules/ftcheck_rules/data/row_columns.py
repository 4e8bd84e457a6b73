"""Columns of rows, some rows at a time, and how messages name a row."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import Location, Rows
from ftcheck.dedup.fingerprints import NOTHING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

SHINGLE = 5
"""Tokens of an n-gram where two rows are compared."""
SCANNED = 1 << 20
"""Rows whose columns are looked at together."""


def slices(count: int) -> Iterator[tuple[slice, "Ints"]]:
    """All rows, some at a time: where they lie in a column, and their numbers."""
    import numpy as np

    for start in range(0, count, SCANNED):
        stop = min(start + SCANNED, count)
        yield slice(start, stop), np.arange(start, stop, dtype=np.int64)


def single_rows(rows: Rows, some: slice = slice(None)) -> "Mask":
    """Which of some rows have one question and at most one answer."""
    single: Mask = (rows.asked[some] != NOTHING) & (rows.turns[some] - (rows.system[some] >= 0) <= 2)
    return single


def place_name(at: Location) -> str:
    """A row by its file and line, without folders."""
    return f"{Path(at.path or '').name}:{at.line}"
