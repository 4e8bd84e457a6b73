"""The Arrow file of prepared rows: written in batches, then mapped by whoever needs it."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from ftcheck.likeness import NOTHING
from ftcheck_plugins.files import RawRow
from ftcheck_plugins.tokenize import Tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INT32 = ("file", "turns", "system", "length", "trained", "answer", "boundary", "first", "second")
INT64 = ("line", "offset", "asked", "said")
LARGE_ID = 1 << 24
"""Ids from here on are sorted instead of marked in a table."""
KEPT_BATCHES = 8
"""Batches of a list column that stay unpacked for whoever asks row by row."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is known of a row before any tokenizer: messages, its system prompt's index, fingerprints."""

    turns: int = 0
    system: int = -1
    asked: int = NOTHING
    said: int = NOTHING


class RowWriter:
    """Writes rows to an Arrow IPC file, one record batch an `add`."""

    def __init__(self, path: Path) -> None:
        """Opens `path` for writing."""
        import pyarrow as pa

        self._pa = pa
        fields = [(name, pa.int32()) for name in INT32] + [(name, pa.int64()) for name in INT64]
        tokens = [
            ("record", pa.binary(32)),
            ("ids", pa.large_list(pa.int32())),
            ("mask", pa.large_list(pa.bool_())),
        ]
        self._schema = pa.schema(fields + tokens)
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema)

    def __enter__(self) -> "RowWriter":
        """Use it in a `with` block: leaving the block closes the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._writer.close()
        self._sink.close()

    def add(self, raws: Sequence[RawRow], tokens: Tokens, words: Sequence[Words]) -> None:
        """Write some rows; those in trouble have no tokens."""
        import numpy as np

        if not raws:
            return
        ids, starts = tokens.ids.flat, tokens.ids.starts
        length = np.diff(starts)
        trained, answer = (length, length) if tokens.mask is None else _of_mask(tokens.mask, starts)
        values: dict[str, Any] = {
            "file": [raw.file for raw in raws],
            "line": [raw.line for raw in raws],
            "offset": [raw.offset for raw in raws],
            "turns": [one.turns for one in words],
            "system": [one.system for one in words],
            "asked": [one.asked for one in words],
            "said": [one.said for one in words],
            "length": length,
            "trained": trained,
            "answer": answer,
            "boundary": tokens.boundary,
            "first": _nth(ids, starts, 0),
            "second": _nth(ids, starts, 1),
        }
        columns = {
            name: self._pa.array(np.asarray(values[name], dtype=np.int32 if name in INT32 else np.int64))
            for name in (*INT32, *INT64)
        }
        digests = bytes.fromhex("".join(raw.record for raw in raws))
        columns["record"] = self._pa.FixedSizeBinaryArray.from_buffers(
            self._pa.binary(32), len(raws), [None, self._pa.py_buffer(digests)]
        )
        mask = np.ones(len(ids), dtype=bool) if tokens.mask is None else tokens.mask
        for name, flat in (("ids", ids), ("mask", mask)):
            columns[name] = self._pa.LargeListArray.from_arrays(self._pa.array(starts), self._pa.array(flat))
        arrays = [columns[name] for name in self._schema.names]
        self._writer.write_batch(self._pa.record_batch(arrays, schema=self._schema))


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

    def __init__(self, path: Path) -> None:
        """Maps `path`; the file must be complete."""
        import numpy as np
        import pyarrow as pa

        reader = pa.ipc.open_file(pa.memory_map(str(path), "r"))
        self._batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        sizes = [batch.num_rows for batch in self._batches]
        self._starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._lists: dict[str, _Lists] = {
            name: _Lists([batch.column(name) for batch in self._batches]) for name in ("ids", "mask")
        }

    def column(self, name: str) -> "NDArray[Any]":
        """One column over all rows."""
        import numpy as np

        kind = np.int64 if name in INT64 else np.int32
        parts = [batch.column(name).to_numpy(zero_copy_only=False) for batch in self._batches]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)

    def records(self) -> Sequence[str]:
        """The digests of all rows, as hex."""
        return _Hex([batch.column("record") for batch in self._batches], self._starts)

    def batches(self) -> "Iterator[tuple[int, NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]]":
        """Batch by batch: its first row, where each of its rows begins, and its ids and mask."""
        for number, first in enumerate(self._starts[:-1].tolist()):
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

        found: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        for (_, ids), (_, mask) in zip(self._lists["ids"], self._lists["mask"], strict=True):
            found = np.union1d(found, _distinct(ids[mask] if trained else ids))
        return found

    def rows_with(self, ids: Sequence[int]) -> "NDArray[np.int64]":
        """The rows (indices from 0) that have any of these ids, in order."""
        import numpy as np

        found = [np.zeros(0, dtype=np.int64)]
        for start, (offsets, values) in zip(self._starts, self._lists["ids"], strict=False):
            places = np.isin(values, np.asarray(ids)).nonzero()[0]
            found.append(np.unique(np.searchsorted(offsets, places, side="right") - 1) + start)
        return np.concatenate(found)

    def _slice(self, name: str, row: int) -> "NDArray[Any]":
        import numpy as np

        batch = int(np.searchsorted(self._starts, row, side="right")) - 1
        offsets, values = self._lists[name][batch]
        inside = row - int(self._starts[batch])
        return values[int(offsets[inside]) : int(offsets[inside + 1])]


class _Lists:
    """One list column, batch by batch: offsets and values. Masks are unpacked when asked for, a few kept."""

    def __init__(self, columns: Sequence[Any]) -> None:
        self._columns = columns
        self._kept: OrderedDict[int, tuple[NDArray[np.int64], NDArray[Any]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> "Iterator[tuple[NDArray[np.int64], NDArray[Any]]]":
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> "tuple[NDArray[np.int64], NDArray[Any]]":
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        column = self._columns[number]
        made = column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False)
        self._kept[number] = made
        if len(self._kept) > KEPT_BATCHES:
            self._kept.popitem(last=False)
        return made


class _Hex(Sequence[str]):
    """The digests of rows as hex, made when asked for: of millions of rows they would fill the memory."""

    def __init__(self, columns: Sequence[Any], starts: "NDArray[np.int64]") -> None:
        self._columns, self._starts = columns, starts

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[str]:
        return (value.hex() for column in self._columns for value in column.to_pylist())

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        import numpy as np

        at = row + len(self) if row < 0 else row
        if not 0 <= at < len(self):
            raise IndexError(row)
        batch = int(np.searchsorted(self._starts, at, side="right")) - 1
        return str(self._columns[batch][at - int(self._starts[batch])].as_py().hex())


def _distinct(values: "NDArray[Any]") -> "NDArray[np.int64]":
    """The different values, in order: by a table of marks, which takes one look at each."""
    import numpy as np

    if not len(values) or int(values.max()) >= LARGE_ID or int(values.min()) < 0:
        return np.unique(values).astype(np.int64)
    seen = np.zeros(int(values.max()) + 1, dtype=bool)
    seen[values] = True
    return seen.nonzero()[0].astype(np.int64)
