"""A data set in shards: pieces of its files that tasks prepare on their own."""

import sys
from dataclasses import dataclass
from itertools import pairwise

from ftcheck.errors import InputError
from ftcheck_plugins.reading import files, parquet_rows
from ftcheck_plugins.reading.files import Lines, Source
from ftcheck_plugins.reading.parquet_rows import RowGroups

LARGEST = 64 << 20
"""Bytes of a shard: of JSON lines, or of columns as they are unpacked."""
SMALLEST = 1 << 20
MOST_ROWS = 250_000
"""Rows of a shard, where its file tells them beforehand."""
EACH = 8
"""Shards for each processor, so that all of them are at work until the end."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A piece of a file: bytes of JSON lines from `start` to `stop`, or so many rows of Parquet."""

    number: int
    file: int
    start: int
    stop: int | None

    def rows(self, source: Source) -> Lines | RowGroups:
        """Its rows. Lines are counted from 1."""
        name = source.files[self.file]
        if name.endswith(".parquet"):
            return RowGroups(self.file, name, self.start, self.stop, source.changed)
        excluded = source.excluded.get(self.file, frozenset())
        stop = sys.maxsize if self.stop is None else self.stop
        return Lines(self.file, name, self.start, stop, excluded, source.changed)


def cut(source: Source, processors: int) -> list[Shard] | None:
    """The shards of a data set, in data order; None where its rows cannot be read piece by piece.

    Raises `InputError` for a file that is not there.
    """
    if not files.in_pieces(source):
        return None
    wanted = files.size(source) // max(1, processors * EACH)
    size = min(LARGEST, max(SMALLEST, wanted))
    found: list[Shard] = []
    for file, name in enumerate(source.files):
        try:
            pieces = _pieces(file, name, size)
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
        found += [Shard(len(found) + n, file, *both) for n, both in enumerate(pieces)]
    return found


def _pieces(file: int, name: str, size: int) -> list[tuple[int, int | None]]:
    if name.endswith(".parquet"):
        return [(one.start, one.stop) for one in parquet_rows.pieces(file, name, size, MOST_ROWS)]
    return list(pairwise(files.edges(name, size)))
