"""The Arrow file of prepared rows: written in batches, then mapped by whoever needs it."""

import mmap
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, overload

from ftcheck.inputs.prepared import TokenStore
from ftcheck_plugins.preparation.batches import Batch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INT32 = ("file", "turns", "system", "ending", "length", "trained", "answer", "boundary", "first", "second")
INT64 = ("line", "offset", "asked", "said", "answered", "spelled")
ROWS = "rows.arrow"
COLUMNS = "columns.arrow"
LARGE_ID = 1 << 24
"""Ids from here on are sorted instead of marked in a table."""
KEPT_BATCHES = 8
"""Batches of a list column that stay unpacked for whoever asks row by row."""


class Columns(TokenStore, Protocol):
    """Rows that were written, wherever they lie: their columns, digests, token ids and masks."""

    def __len__(self) -> int:
        """Number of rows."""

    def column(self, name: str) -> "NDArray[Any]":
        """One column over all rows; it cannot be written to."""

    def records(self) -> Sequence[str]:
        """The digests of all rows, as hex."""


class RowWriter:
    """Writes rows: their ids and masks to an Arrow IPC file, one record batch an `add`; and beside it
    `columns.arrow`, with one record batch of all rows, so that a column is mapped as it lies.
    """

    def __init__(self, path: Path) -> None:
        """Opens `path` for writing."""
        import pyarrow as pa

        self._pa = pa
        self._columns = path.with_name(COLUMNS)
        lists = [("ids", pa.large_list(pa.int32())), ("mask", pa.large_list(pa.bool_()))]
        self._schema = pa.schema([("record", pa.binary(32)), *lists])
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema)
        self._parts = {name: self._part(name).open("wb") for name in (*INT32, *INT64)}

    def __enter__(self) -> "RowWriter":
        """Use it in a `with` block: leaving the block closes the files."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files; put the columns together if nothing went wrong."""
        self._writer.close()
        self._sink.close()
        for part in self._parts.values():
            part.close()
        if kind is None:
            self._put_together()
        for name in self._parts:
            self._part(name).unlink(missing_ok=True)

    def _part(self, name: str) -> Path:
        return self._columns.with_name(f"{name}.part")

    def _put_together(self) -> None:
        """One record batch of the parts, which are mapped: they need not fit into memory."""
        import numpy as np

        arrays = {}
        for name in self._parts:
            kind = _kind(name)
            size = self._part(name).stat().st_size
            values = np.memmap(self._part(name), dtype=kind, mode="r") if size else np.zeros(0, dtype=kind)
            arrays[name] = self._array(values)
        batch = self._pa.record_batch(list(arrays.values()), names=list(arrays))
        with (
            self._pa.OSFile(str(self._columns), "wb") as sink,
            self._pa.ipc.new_file(sink, batch.schema) as file,
        ):
            file.write_batch(batch)

    def add(self, batch: Batch) -> None:
        """Write some rows; those in trouble have no tokens."""
        import numpy as np

        if not len(batch):
            return
        ids, starts = batch.tokens.ids.flat, batch.tokens.ids.starts
        length = np.diff(starts)
        of_mask = batch.tokens.mask
        trained, answer = (length, length) if of_mask is None else _of_mask(of_mask, starts)
        values: dict[str, Any] = {
            **batch.columns,
            "length": length,
            "trained": trained,
            "answer": answer,
            "boundary": batch.tokens.boundary,
            "first": _nth(ids, starts, 0),
            "second": _nth(ids, starts, 1),
        }
        for name, part in self._parts.items():
            part.write(np.ascontiguousarray(values[name], dtype=_kind(name)).data)
        columns = {}
        columns["record"] = self._pa.FixedSizeBinaryArray.from_buffers(
            self._pa.binary(32), len(batch), [None, self._pa.py_buffer(batch.records)]
        )
        mask = np.ones(len(ids), dtype=bool) if of_mask is None else of_mask
        for name, flat in (("ids", self._array(ids)), ("mask", self._bits(mask))):
            columns[name] = self._pa.LargeListArray.from_arrays(self._array(starts), flat)
        arrays = [columns[name] for name in self._schema.names]
        self._writer.write_batch(self._pa.record_batch(arrays, schema=self._schema))

    def _array(self, values: "NDArray[Any]") -> Any:
        """Numbers as an Arrow array. Not by `pa.array`, which imports pandas where there is one."""
        import numpy as np

        kind = self._pa.from_numpy_dtype(values.dtype)
        buffer = self._pa.py_buffer(np.ascontiguousarray(values))
        return self._pa.Array.from_buffers(kind, len(values), [None, buffer])

    def _bits(self, values: "NDArray[np.bool_]") -> Any:
        """A mask as an Arrow array, eight entries a byte."""
        import numpy as np

        packed = np.packbits(values, bitorder="little").tobytes()
        return self._pa.Array.from_buffers(self._pa.bool_(), len(values), [None, self._pa.py_buffer(packed)])


def _kind(name: str) -> str:
    """The numpy type of a column."""
    return "<i8" if name in INT64 else "<i4"


def _nth(ids: "NDArray[np.int32]", starts: "NDArray[np.int64]", place: int) -> "NDArray[np.int32]":
    """The id at one place of each row; -1 in rows that are shorter."""
    import numpy as np

    found = np.full(len(starts) - 1, -1, dtype=np.int32)
    there = np.diff(starts) > place
    found[there] = ids[starts[:-1][there] + place]
    return found


def _of_mask(
    mask: "NDArray[np.bool_]", starts: "NDArray[np.int64]"
) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """For each row the number of trained tokens, and how many of them its last unbroken run has."""
    import numpy as np

    before = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
    trained = before[starts[1:]] - before[starts[:-1]]
    places = np.arange(len(mask), dtype=np.int64)
    last_in = np.maximum.accumulate(np.where(mask, places, -1)) if len(mask) else places
    last_out = np.maximum.accumulate(np.where(mask, -1, places)) if len(mask) else places
    answer = np.zeros(len(starts) - 1, dtype=np.int64)
    some = trained > 0
    last = last_in[starts[1:][some] - 1]
    answer[some] = last - np.maximum(last_out[last], starts[:-1][some] - 1)
    return trained, answer


class RowFile:
    """A written file, mapped: columns as arrays, token ids and masks row by row (a `TokenStore`)."""

    def __init__(self, path: Path, rows: Callable[[], Path] | None = None) -> None:
        """Maps the columns beside `path`. `rows` tells where the file of ids and masks lies when they are
        first asked for; without it that is `path`.
        """
        import pyarrow as pa

        columns = pa.ipc.open_file(pa.memory_map(str(path.with_name(COLUMNS)), "r"))
        self._columns = columns.get_batch(0)
        self._where = rows or (lambda: path)
        self._used: dict[bool, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._columns.num_rows)

    @cached_property
    def parts(self) -> list[Any]:
        """The record batches of digests, ids and masks, mapped now if they were not."""
        import pyarrow as pa

        reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._mapped)))
        return [reader.get_batch(index) for index in range(reader.num_record_batches)]

    @cached_property
    def _mapped(self) -> mmap.mmap:
        with self._where().open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _let_go(self, column: Any) -> None:
        """Give the memory of a batch's column back: read again, its pages are mapped again.

        Else a pass over very many rows ends with all of the file resident.
        """
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        import pyarrow as pa

        start = pa.py_buffer(self._mapped).address
        for buffer in column.buffers():
            if buffer is not None and buffer.size >= mmap.PAGESIZE:
                first = (buffer.address - start) // mmap.PAGESIZE * mmap.PAGESIZE
                self._mapped.madvise(mmap.MADV_DONTNEED, first, buffer.address - start + buffer.size - first)

    @cached_property
    def starts(self) -> "NDArray[np.int64]":
        """The first row of each part, and the number of rows."""
        import numpy as np

        sizes = [part.num_rows for part in self.parts]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    @cached_property
    def _lists(self) -> "dict[str, _Lists]":
        return {
            name: _Lists([part.column(name) for part in self.parts], read, self._let_go)
            for name, read in (("ids", _ids), ("mask", _mask))
        }

    def column(self, name: str) -> "NDArray[Any]":
        """One column over all rows, as it lies in the file: it cannot be written to."""
        return _numbers(self._columns.column(name), _kind(name))

    def records(self) -> Sequence[str]:
        """The digests of all rows, as hex."""
        return _OfFile(self)

    def batches(self) -> "Iterator[tuple[int, NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]]":
        """Batch by batch: its first row, where each of its rows begins, and its ids and mask."""
        for number, first in enumerate(self.starts[:-1].tolist()):
            starts, ids = self._lists["ids"][number]
            yield first, starts, ids, self._lists["mask"][number][1]

    def ids(self, row: int) -> "NDArray[np.int32]":
        """Token ids of a row (index from 0), before truncation."""
        return self._slice("ids", row)

    def mask(self, row: int) -> "NDArray[np.bool_]":
        """Which of them are in the loss."""
        return self._slice("mask", row)

    def used_ids(self, *, trained: bool = False) -> "NDArray[np.int64]":
        """Ids that occur in the rows, each once, in order; with `trained` only those in the loss."""
        import numpy as np

        if trained not in self._used:
            parts = [
                _distinct(ids[mask] if trained else ids)
                for (_, ids), (_, mask) in zip(self._lists["ids"], self._lists["mask"], strict=True)
            ]
            self._used[trained] = _distinct(np.concatenate([np.zeros(0, dtype=np.int64), *parts]))
        return self._used[trained]

    def rows_with(self, ids: Sequence[int]) -> "NDArray[np.int64]":
        """The rows (indices from 0) that have any of these ids, in order."""
        import numpy as np

        found = [np.zeros(0, dtype=np.int64)]
        for start, (offsets, values) in zip(self.starts, self._lists["ids"], strict=False):
            places = np.isin(values, np.asarray(ids)).nonzero()[0]
            found.append(np.unique(np.searchsorted(offsets, places, side="right") - 1) + start)
        return np.concatenate(found)

    def _slice(self, name: str, row: int) -> "NDArray[Any]":
        import numpy as np

        batch = int(np.searchsorted(self.starts, row, side="right")) - 1
        offsets, values = self._lists[name][batch]
        inside = row - int(self.starts[batch])
        return values[int(offsets[inside]) : int(offsets[inside + 1])]


class _Lists:
    """One list column, batch by batch: offsets and values. Masks are unpacked when asked for. A few batches
    are kept; `let_go` is told of the column of one that is no longer."""

    def __init__(
        self,
        columns: Sequence[Any],
        read: "Callable[[Any], NDArray[Any]]",
        let_go: Callable[[Any], None],
    ) -> None:
        self._columns = columns
        self._read = read
        self._let_go = let_go
        self._kept: OrderedDict[int, tuple[NDArray[np.int64], NDArray[Any]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> "Iterator[tuple[NDArray[np.int64], NDArray[Any]]]":
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> "tuple[NDArray[np.int64], NDArray[Any]]":
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        import numpy as np

        column = self._columns[number]
        made = _numbers(column.offsets, np.int64), self._read(column.values)
        self._kept[number] = made
        if len(self._kept) > KEPT_BATCHES:
            self._let_go(self._columns[self._kept.popitem(last=False)[0]])
        return made


def _numbers(array: Any, kind: Any) -> "NDArray[Any]":
    """An Arrow array of numbers where it lies. Not by `to_numpy`, which imports pandas where there is one."""
    import numpy as np

    if not len(array):
        return np.zeros(0, dtype=kind)
    size = np.dtype(kind).itemsize
    return np.frombuffer(array.buffers()[-1], dtype=kind, count=len(array), offset=array.offset * size)


def _ids(array: Any) -> "NDArray[np.int32]":
    import numpy as np

    return _numbers(array, np.int32)


def _mask(array: Any) -> "NDArray[np.bool_]":
    """A mask unpacked: an entry a byte."""
    import numpy as np

    if not len(array):
        return np.zeros(0, dtype=bool)
    packed = np.frombuffer(array.buffers()[-1], dtype=np.uint8)
    bits = np.unpackbits(packed, count=array.offset + len(array), bitorder="little")
    return bits[array.offset :].view(bool)


class HexDigests(Sequence[str]):
    """The digests of rows as hex, made when asked for: of millions of rows they would fill the memory."""

    def _hex(self, row: int) -> str:
        """The digest of a row, by its index from 0."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        return map(self._hex, range(len(self)))

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        at = row + len(self) if row < 0 else row
        if not 0 <= at < len(self):
            raise IndexError(row)
        return self._hex(at)


class _OfFile(HexDigests):
    """Those of a file of rows."""

    def __init__(self, file: RowFile) -> None:
        self._file = file

    def __len__(self) -> int:
        return len(self._file)

    def __iter__(self) -> Iterator[str]:
        return (value.hex() for part in self._file.parts for value in part.column("record").to_pylist())

    def _hex(self, row: int) -> str:
        import numpy as np

        starts = self._file.starts
        number = int(np.searchsorted(starts, row, side="right")) - 1
        return str(self._file.parts[number].column("record")[row - int(starts[number])].as_py().hex())


def _distinct(values: "NDArray[Any]") -> "NDArray[np.int64]":
    """The different values, in order: by a table of marks, which takes one look at each."""
    import numpy as np

    if not len(values) or int(values.max()) >= LARGE_ID or int(values.min()) < 0:
        return np.unique(values).astype(np.int64)
    seen = np.zeros(int(values.max()) + 1, dtype=bool)
    seen[values] = True
    return seen.nonzero()[0].astype(np.int64)
