"""Rows drawn at random from all rows of a data set: found in one pass that parses no more than it must.

Where rows are is told without reading them where that is possible: Parquet counts them in its footer, JSON
lines are told apart by their line feeds, and a data set on the hub states how many it has. CSV and JSON must
be parsed to tell where rows begin. Only rows that are drawn are made into values: of Parquet files the row
groups that hold one are read, of JSON lines their lines. A data set on the hub is streamed once.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.errors import InputError
from ftcheck.inputs.remote_files import open_data, stamp_here
from ftcheck.sampling.draw import Draw
from ftcheck.settings import Sampling
from ftcheck_plugins.reading import files, parquet_rows
from ftcheck_plugins.reading.files import MAX_LINE, Lines, Source
from ftcheck_plugins.reading.parquet_rows import RowGroups
from ftcheck_plugins.reading.raw_rows import RawRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Column = NDArray[np.int64]
    Places = NDArray[np.int64]

BLOCK = 1 << 16
"""Rows whose places are offered at a time."""


@dataclass(frozen=True)
class Drawn:
    """Rows that were drawn of the `of` rows that a source's shape leaves; `found` there are before that.

    `numbers` are their indices among these (int64, from 0, in order), `places` the file, line and byte offset
    of each (int64, shape (rows, 3)). `first` is the place of the first row of all.
    """

    of: int
    found: int
    numbers: "NDArray[np.int64]"
    places: "Places"
    first: "Places"


@dataclass(frozen=True)
class SampledRows:
    """Draws the rows of a source that `data.sample` asks for (`files.Picks`)."""

    sampling: Sampling

    def drawn(self, source: Source, *, offline: bool = False) -> Drawn | None:
        """The rows; None where there are no more than are asked for. Raises `InputError`."""
        stamps = () if source.hub is not None else tuple(map(stamp_here, source.files))
        excluded = tuple(sorted(source.excluded.items()))
        bare = _Bare(source.files, source.hub, stamps, excluded, source.shape.first, source.shape.split)
        found = _drawn(bare, self.sampling, offline)
        return found if found.of > len(found.numbers) else None

    def stream(self, source: Source, *, offline: bool) -> Iterator[RawRow]:
        """The rows that are drawn; all where there are no more."""
        found = self.drawn(source, offline=offline)
        if found is None:
            yield from files.stream(replace(source, picks=None, change=None), offline=offline)
            return
        yield from _named(source, _picked(source, found, offline))

    def opening(self, source: Source, *, offline: bool = False) -> RawRow | None:
        """The first row of all, drawn or not; None where no rows are drawn, so that the first is there."""
        found = self.drawn(source, offline=offline)
        if found is None:
            return None
        first = replace(found, places=found.first, found=0)
        return next(source.changed(_named(source, _picked(source, first, offline))), None)

    def pieces(self, source: Source, size: int) -> list[Lines | RowGroups] | None:
        """The same in pieces, where they stand in JSON lines."""
        found = self.drawn(source)
        if found is None:
            return files.pieces(replace(source, picks=None), size)
        if not files.lines_only(source):
            return None
        row_bytes = max(1, files.size(source) // found.found)
        step = max(1, size // row_bytes)
        return [
            DrawnLines(file, source.files[file], places[at : at + step], row_bytes, source.changed)
            for file, places in _by_file(found.places)
            for at in range(0, len(places), step)
        ]


def _named(source: Source, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """Rows with the names of columns and roles that the job gives them."""
    names = replace(source.shape, first=None, split=None)
    return files.renamed(rows, names) if names else rows


class DrawnLines(Lines):
    """Some lines of a file of JSON lines. Their numbers are those in the file, so `count` stays 0."""

    def __init__(
        self,
        file: int,
        path: str,
        places: "Places",
        row_bytes: int,
        changed: Callable[[Iterable[RawRow]], Iterator[RawRow]],
    ) -> None:
        """`places` are those of the lines, all in this file; `row_bytes` is about the length of a line."""
        super().__init__(file, path, 0, len(places) * row_bytes, changed=changed)
        self._places = places

    def _rows(self) -> Iterator[RawRow]:
        return _lines_at(self._file, self._path, self._places)


@dataclass(frozen=True)
class _Bare:
    """What decides which rows there are; `stamps` are sizes and times of the files."""

    files: tuple[str, ...]
    hub: str | None
    stamps: tuple[tuple[int, int], ...]
    excluded: tuple[tuple[int, frozenset[int]], ...]
    first: int | None
    split: Any


@lru_cache(maxsize=8)
def _drawn(source: _Bare, sampling: Sampling, offline: bool) -> Drawn:
    draw, found = Draw(sampling.rows, sampling.seed), 0
    chosen, first = _held(source, offline), None
    for places in _first(source, offline):
        meant = places if chosen is None else places[chosen[found : found + len(places)]]
        first = meant[:1] if first is None and len(meant) else first
        found += len(places)
        draw.offer(meant)
    numbers, drawn = draw.drawn()
    return Drawn(draw.offered, found, numbers, drawn, drawn[:1] if first is None else first)


def _held(source: _Bare, offline: bool) -> "NDArray[np.bool_] | None":
    """Which rows of a divided data set are meant: they are counted first."""
    import numpy as np

    if source.split is None:
        return None
    total = sum(map(len, _first(source, offline)))
    try:
        return np.array(source.split.rows(total), dtype=bool)
    except ValueError as error:
        raise InputError(f"data.validation_split: {error}") from error


def _first(source: _Bare, offline: bool) -> "Iterator[Places]":
    """The places of the rows, block by block; of the first ones where no others are meant."""
    left = source.first
    for places in _all(source, offline):
        if left is None:
            yield places
            continue
        yield places[:left]
        left -= len(places)
        if left <= 0:
            return


def _all(source: _Bare, offline: bool) -> "Iterator[Places]":
    if source.hub is not None:
        yield from _numbered(0, _hub_rows(source.hub, offline))
        return
    excluded = dict(source.excluded)
    for file, name in enumerate(source.files):
        suffix = Path(name).suffix
        try:
            if suffix == ".jsonl":
                yield from _line_places(file, name, excluded.get(file, frozenset()))
            elif suffix == ".parquet":
                yield from _numbered(file, parquet_rows.count(name))
            else:
                yield from _row_places(file, name, files.READERS[suffix](file, name))
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error


def _row_places(file: int, path: str, rows: Iterator[RawRow]) -> "Iterator[Places]":
    """The places of rows that were parsed to be found.

    Raises `InputError` for a file that ends in a fault: nobody knows how many rows are behind it.
    """
    trouble = None
    while block := list(islice(rows, BLOCK)):
        line, trouble = block[-1].line, block[-1].trouble
        yield _places(file, [row.line for row in block], [row.offset for row in block])
    if trouble is not None and trouble.code in ("json", "encoding"):
        why = "a sample needs files that can be read to their end"
        raise InputError(f"{path}:{line}: {trouble.message}: {why}")


def _places(file: int, lines: "Sequence[int] | Column", offsets: "Sequence[int] | Column") -> "Places":
    import numpy as np

    return np.stack([np.full(len(lines), file), lines, offsets], axis=1).astype(np.int64)


def _numbered(file: int, total: int) -> "Iterator[Places]":
    """The places of rows that have numbers alone, from 1."""
    import numpy as np

    for first in range(0, total, BLOCK):
        lines = np.arange(first + 1, min(total, first + BLOCK) + 1)
        yield _places(file, lines, np.zeros_like(lines))


def _line_places(file: int, path: str, excluded: frozenset[int]) -> "Iterator[Places]":
    """Where the lines begin that are rows. Nothing is parsed."""
    numbers: list[int] = []
    offsets: list[int] = []
    with open_data(path) as handle:
        for number, (offset, raw) in enumerate(files.lines(handle, 0, sys.maxsize), start=1):
            if (raw.isspace() and not files.is_too_long(raw)) or offset in excluded:
                continue
            numbers.append(number)
            offsets.append(offset)
            if len(numbers) == BLOCK:
                yield _places(file, numbers, offsets)
                numbers, offsets = [], []
    if numbers:
        yield _places(file, numbers, offsets)


def _hub_rows(name: str, offline: bool) -> int:
    """Rows of a data set on the hub, as it states them; counted where it does not."""
    rows: Any = files.load_hub(name, offline, streaming=not offline)
    if hasattr(rows, "__len__"):
        return len(rows)
    stated = (getattr(rows.info, "splits", None) or {}).get(str(rows.split))
    return int(stated.num_examples) if stated and stated.num_examples else sum(1 for _ in rows)


def _by_file(places: "Places") -> "Iterator[tuple[int, Places]]":
    import numpy as np

    for file in np.unique(places[:, 0]).tolist():
        yield file, places[places[:, 0] == file]


def _picked(source: Source, found: Drawn, offline: bool) -> Iterator[RawRow]:
    """The rows at these places, in order."""
    if source.hub is not None:
        stated = found.found if source.shape.first is None and found.found else None
        yield from _hub_at(source.hub, offline, found.places[:, 1].tolist(), stated)
        return
    for file, places in _by_file(found.places):
        name = source.files[file]
        try:
            if name.endswith(".jsonl"):
                yield from _lines_at(file, name, places)
            elif name.endswith(".parquet"):
                yield from parquet_rows.rows_at(file, name, (places[:, 1] - 1).tolist())
            else:
                yield from _rows_at(file, name, places)
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error


def _lines_at(file: int, path: str, places: "Places") -> Iterator[RawRow]:
    with open_data(path) as handle:
        for _, line, offset in places.tolist():
            handle.seek(offset)
            yield files.line_row(file, line, offset, handle.readline(MAX_LINE))


def _rows_at(file: int, path: str, places: "Places") -> Iterator[RawRow]:
    """Rows of a file that must be parsed to be found again."""
    wanted = iter(places[:, 1:].tolist())
    following = next(wanted, None)
    for row in files.READERS[Path(path).suffix](file, path):
        if following is None:
            return
        if [row.line, row.offset] == following:
            yield row
            following = next(wanted, None)


def _hub_at(name: str, offline: bool, wanted: Sequence[int], stated: int | None) -> Iterator[RawRow]:
    """Rows by their position; they stream by, and must be as many as the data set stated."""
    rows: Any = files.load_hub(name, offline, streaming=not offline)
    if hasattr(rows, "__len__"):
        yield from (files.hub_row(line, rows[line - 1]) for line in wanted)
        return
    those, seen = set(wanted), 0
    for seen, values in enumerate(rows, start=1):
        if seen in those:
            yield files.hub_row(seen, values)
    if stated is not None and seen != stated:
        raise InputError(f"hub dataset {name}: it states {stated:,} rows and has {seen:,}")
