"""The rows of Parquet files, row group by row group: one that cannot be read costs its own rows only."""

import hashlib
import os
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

from ftcheck.digest import canonical
from ftcheck.errors import InputError
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.remote_files import open_data, stamp_here
from ftcheck_plugins.reading.raw_rows import RawRow, readable

Key = tuple[int, str, tuple[int, int]]
"""Process, path, and what tells the file from what it was."""
BATCH = 1_000
"""Rows that are made of columns at once."""
ROW = 300
"""Bytes of a row as a line of JSON, about: what Parquet's own sizes do not tell, its columns being packed."""
OF_FILE = "write the file again: none of its rows was checked"
OF_GROUP = "write the file again: no row of this row group from here on was checked"


class RowGroups:
    """The rows of a Parquet file, or of those from number `start` on and before `stop` (from 0).

    Lines are counted from 1, at the beginning of the piece; `count` are all of its rows. A row group that
    cannot be read to its end gives a row in trouble in the place of its first missing one, and so does a file
    whose list of row groups cannot be read.
    """

    def __init__(
        self,
        file: int,
        path: str,
        start: int = 0,
        stop: int | None = None,
        changed: Callable[[Iterable[RawRow]], Iterator[RawRow]] = iter,
    ) -> None:
        """`changed` gives the rows as the job wants them."""
        self.start, self.stop = start, stop
        self.count = 0
        self._file, self._path, self._changed = file, path, changed

    @property
    def size(self) -> int:
        """Bytes as lines of JSON, about."""
        return ((self.stop or self.start) - self.start) * ROW

    def __iter__(self) -> Iterator[RawRow]:
        """The rows. Raises `InputError` where the file is not there or its disk or server fails."""
        yield from readable(self._path, self._changed(self._rows()))

    def _rows(self) -> Iterator[RawRow]:
        try:
            groups = _taken(self._path)
        except _errors() as error:
            self.count = 1
            yield self._broken(0, f"not a readable Parquet file: {_words(error)}", OF_FILE)
            return
        stop = groups.rows if self.stop is None else self.stop
        if stop > groups.rows:
            raise InputError(f"{self._path}: changed while it was read: it has {groups.rows:,} rows now")
        self.count = stop - self.start
        for first, last in groups.parts(self.start, stop):
            yield from self._of_group(groups, first, last)
        if stop < groups.rows:
            _left[groups.key] = groups

    def _of_group(self, groups: "_Groups", row: int, stop: int) -> Iterator[RawRow]:
        """These rows, all in one row group."""
        try:
            for batch in groups.batches(row, stop):
                for values in _values_of(batch):
                    yield self.row(row, row - self.start, values)
                    row += 1
        except _Broken as broken:
            if broken.row >= row:
                yield self._broken(broken.row, str(broken), OF_GROUP)

    def row(self, row: int, before: int, values: dict[str, Any] | RowError) -> RawRow:
        """A row by its data, with so many rows before it in the file and in the piece."""
        if isinstance(values, RowError):
            record = hashlib.sha256(f"{self._file}:{row + 1}".encode()).digest()
            return RawRow(self._file, before + 1, row, record, None, values)
        record = hashlib.sha256(canonical(values).encode("utf-8", "surrogatepass")).digest()
        return RawRow(self._file, before + 1, row, record, values)

    def _broken(self, row: int, message: str, fix: str) -> RawRow:
        return self.row(row, row - self.start, RowError("json", message, fix))


class _Broken(Exception):
    """A row group cannot be read from a row on."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


class _Groups:
    """The row groups of a file that is open. One that is read is read on from where reading has come to."""

    def __init__(self, path: str, key: Key) -> None:
        import pyarrow.parquet as pq

        self.key = key
        handle = open_data(path)
        weakref.finalize(self, handle.close)
        self._parquet = pq.ParquetFile(handle)
        self._before = _rows_before(self._parquet)
        self.rows = self._before[-1]
        self._group, self._at, self._end = -1, 0, 0
        self._batches: Iterator[Any] = iter(())
        self._held: Any = None
        self._broken: dict[int, _Broken] = {}

    def parts(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The rows from `start` on and before `stop`, cut where a row group ends."""
        inside = self._before[bisect_right(self._before, start) : bisect_left(self._before, stop)]
        return pairwise(dict.fromkeys([start, *inside, stop]))

    def batches(self, row: int, stop: int) -> Iterator[Any]:
        """These rows, all in one row group. Raises `_Broken`."""
        while row < stop:
            batch = self._batch(row).slice(row - self._at, stop - row)
            yield batch
            row += batch.num_rows

    def _batch(self, row: int) -> Any:
        """The batch that has a row."""
        group = bisect_right(self._before, row) - 1
        if group in self._broken:
            raise self._broken[group]
        if group != self._group or row < self._at:
            self._group, self._at, self._end = group, self._before[group], self._before[group]
            self._batches = self._parquet.iter_batches(
                batch_size=BATCH, row_groups=[group], use_threads=False
            )
        try:
            while row >= self._end:
                self._at, self._held = self._end, _next(self._batches)
                self._end += self._held.num_rows
        except _errors() as error:
            words = f"row group {group} cannot be read: {_words(error)}"
            broken = self._broken[group] = _Broken(self._end, words)
            raise broken from error
        return self._held


def _next(batches: Iterator[Any]) -> Any:
    """The next batch. Raises `ValueError` where the row group has fewer rows than the file says."""
    batch = next(batches, None)
    if batch is None:
        raise ValueError("it ends before its last row")
    return batch


_left: dict[Key, _Groups] = {}
"""The file whose piece this process read last, for the next one: pieces of a file follow one another."""


def _taken(path: str) -> _Groups:
    """A file as it is now; where the piece before this one ended, if nobody changed it since."""
    key = os.getpid(), path, stamp_here(path)
    groups = _left.pop(key, None)
    _left.clear()
    return groups or _Groups(path, key)


def _errors() -> tuple[type[Exception], ...]:
    """What reading Parquet raises."""
    import pyarrow as pa

    return pa.ArrowException, OSError, ValueError, OverflowError


def _words(error: Exception) -> str:
    """What Arrow says of content that it cannot read. Raises the error of a disk or a server."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _rows_before(parquet: Any) -> list[int]:
    """How many rows stand before each row group, and in the file."""
    before = [0]
    for group in range(parquet.num_row_groups):
        before.append(before[-1] + parquet.metadata.row_group(group).num_rows)
    return before


def pieces(
    file: int, path: str, size: int, rows: int, changed: Callable[[Iterable[RawRow]], Iterator[RawRow]] = iter
) -> list[RowGroups]:
    """A file in pieces of row groups, each of about `size` bytes (as they are unpacked) or `rows` rows. Row
    groups with more rows are cut.

    One piece of a file whose list of row groups cannot be read. Raises `OSError`.
    """
    import pyarrow.parquet as pq

    with open_data(path) as handle:
        try:
            about = pq.ParquetFile(handle).metadata
        except _errors() as error:
            _words(error)
            return [RowGroups(file, path, changed=changed)]
        edges, row, held = [0], 0, 0
        for group in map(about.row_group, range(about.num_row_groups)):
            stop = row + group.num_rows
            if row > edges[-1] and (held + group.total_byte_size > size or stop - edges[-1] > rows):
                edges.append(row)
                held = 0
            edges += range(edges[-1] + _step(rows), stop, _step(rows)) if stop - edges[-1] > rows else ()
            row, held = stop, held + group.total_byte_size
        return [RowGroups(file, path, *both, changed) for both in pairwise([*edges, row])]


def _step(rows: int) -> int:
    """So many rows, in whole batches."""
    return -(-rows // BATCH) * BATCH


def count(path: str) -> int:
    """Rows of a file, by its footer. Raises `InputError`, and `OSError` where a disk or a server fails."""
    import pyarrow.parquet as pq

    try:
        with open_data(path) as handle:
            return int(pq.ParquetFile(handle).metadata.num_rows)
    except _errors() as error:
        raise InputError(f"{path}: not a readable Parquet file: {_words(error)}") from error


def rows_at(file: int, path: str, rows: Sequence[int]) -> Iterator[RawRow]:
    """Rows of a file again, by the number of rows before each, in order: their row groups alone are read.

    Raises `InputError` where the file cannot be read as far as that, and `OSError`.
    """
    import pyarrow.parquet as pq

    try:
        with open_data(path) as handle:
            parquet = pq.ParquetFile(handle)
            before = _rows_before(parquet)
            for group, wanted in groupby(rows, key=lambda row: bisect_right(before, row) - 1):
                yield from _chosen(RowGroups(file, path), parquet, group, before[group], list(wanted))
    except _errors() as error:
        raise InputError(f"{path}: not a readable Parquet file: {_words(error)}") from error


def _chosen(
    reader: RowGroups, parquet: Any, group: int, first: int, wanted: Sequence[int]
) -> Iterator[RawRow]:
    """Those rows of a row group; of each batch only they are made into values."""
    at = 0
    for batch in parquet.iter_batches(batch_size=BATCH, row_groups=[group]):
        to = bisect_left(wanted, first + batch.num_rows)
        here = wanted[at:to]
        taken = _values_of(batch.take([row - first for row in here])) if here else ()
        for row, values in zip(here, taken, strict=True):
            yield reader.row(row, row, values)
        if to == len(wanted):
            return
        at, first = to, first + batch.num_rows


def _values_of(batch: Any) -> Iterator[dict[str, Any] | RowError]:
    """The rows of a batch; an error for each that holds a value for which Python has no type."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError):
        pass
    for place in range(batch.num_rows):
        try:
            yield batch.slice(place, 1).to_pylist()[0]
        except (ValueError, OverflowError):
            yield RowError(
                "json",
                f"a value of {_out_of_range(batch.slice(place, 1))} is out of range",
                "write dates and times between the years 1 and 9999",
            )


def _out_of_range(row: Any) -> str:
    """The types of the columns of one row that cannot be read."""
    broken = []
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            column.to_pylist()
        except (ValueError, OverflowError):
            broken.append(str(row.schema.field(name).type))
    return f"the type {' or '.join(broken)}"
