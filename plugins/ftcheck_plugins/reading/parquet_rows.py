"""The rows of Parquet files, row group by row group: one that cannot be read costs its own rows only."""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

from ftcheck.digest import canonical
from ftcheck.errors import InputError
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.remote_files import open_data
from ftcheck_plugins.reading.raw_rows import RawRow, readable

BATCH = 1_000
"""Rows that are made of columns at once."""
REMEDY = "write the file again: none of its rows from here on was checked"


class RowGroups:
    """The rows of a Parquet file, or of its row groups from `first` on and before `stop`.

    Lines are counted from 1, at the beginning of the piece; `count` are those of all its row groups. A row
    group that cannot be read to its end gives a row in trouble in the place of its first missing one, and so
    does a file whose list of row groups cannot be read.
    """

    def __init__(
        self,
        file: int,
        path: str,
        first: int = 0,
        stop: int | None = None,
        changed: Callable[[Iterable[RawRow]], Iterator[RawRow]] = iter,
    ) -> None:
        """`changed` gives the rows as the job wants them."""
        self.first, self.stop = first, stop
        self.count = 0
        self._file, self._path, self._changed = file, path, changed

    def __iter__(self) -> Iterator[RawRow]:
        """The rows. Raises `InputError` where the file is not there or its disk or server fails."""
        yield from readable(self._path, self._changed(self._rows()))

    def _rows(self) -> Iterator[RawRow]:
        import pyarrow.parquet as pq

        with open_data(self._path) as handle:
            try:
                parquet = pq.ParquetFile(handle)
            except _errors() as error:
                self.count = 1
                yield self._broken(0, 0, f"not a readable Parquet file: {_words(error)}")
                return
            before = _rows_before(parquet)
            stop = parquet.num_row_groups if self.stop is None else self.stop
            self.count = before[stop] - before[self.first]
            for group in range(self.first, stop):
                yield from self._of_group(parquet, group, before[group], before[self.first])

    def _of_group(self, parquet: Any, group: int, row: int, start: int) -> Iterator[RawRow]:
        """The rows of a row group, the first of which has `row` before it in the file."""
        try:
            for batch in parquet.iter_batches(batch_size=BATCH, row_groups=[group]):
                for values in _values_of(batch):
                    yield self.row(row, row - start, values)
                    row += 1
        except _errors() as error:
            yield self._broken(row, row - start, f"row group {group} cannot be read: {_words(error)}")

    def row(self, row: int, before: int, values: dict[str, Any] | RowError) -> RawRow:
        """A row by its data, with so many rows before it in the file and in the piece."""
        if isinstance(values, RowError):
            record = hashlib.sha256(f"{self._file}:{row + 1}".encode()).digest()
            return RawRow(self._file, before + 1, row, record, None, values)
        record = hashlib.sha256(canonical(values).encode("utf-8", "surrogatepass")).digest()
        return RawRow(self._file, before + 1, row, record, values)

    def _broken(self, row: int, before: int, message: str) -> RawRow:
        return self.row(row, before, RowError("json", message, REMEDY))


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
    """A file in pieces of row groups, each of about `size` bytes (as they are unpacked) or `rows` rows.

    One piece of a file whose list of row groups cannot be read. Raises `OSError`.
    """
    import pyarrow.parquet as pq

    with open_data(path) as handle:
        try:
            about = pq.ParquetFile(handle).metadata
        except _errors() as error:
            _words(error)
            return [RowGroups(file, path, changed=changed)]
        edges, held, counted = [0], 0, 0
        for group in range(about.num_row_groups):
            one = about.row_group(group)
            if group > edges[-1] and (held + one.total_byte_size > size or counted + one.num_rows > rows):
                edges.append(group)
                held = counted = 0
            held, counted = held + one.total_byte_size, counted + one.num_rows
        return [RowGroups(file, path, *both, changed) for both in pairwise([*edges, about.num_row_groups])]


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
