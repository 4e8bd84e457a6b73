"""The Arrow file of prepared rows: written in batches, then mapped by whoever needs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True, slots=True)
class Words:
    """What is known of a row before any tokenizer: messages, its system prompt's index, fingerprints."""

    turns: int = 0
    system: int = -1
    asked: int = NOTHING
    said: int = NOTHING


class RowWriter:
    """Writes rows to an Arrow IPC file, one record batch a `flush`."""

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
        self._rows: dict[str, list[Any]] = {name: [] for name in self._schema.names}

    def __enter__(self) -> "RowWriter":
        """Use it in a `with` block: leaving the block closes the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._writer.close()
        self._sink.close()

    def add(self, raw: RawRow, tokens: Tokens, words: Words) -> None:
        """Add one row; a row in trouble has no tokens."""
        import numpy as np

        ids = np.asarray(tokens.ids, dtype=np.int32)
        mask = np.ones(len(ids), dtype=bool) if tokens.mask is None else np.asarray(tokens.mask, dtype=bool)
        values = {
            "file": raw.file,
            "turns": words.turns,
            "system": words.system,
            "length": len(ids),
            "trained": int(mask.sum()),
            "answer": last_stretch(mask),
            "boundary": tokens.boundary,
            "first": int(ids[0]) if len(ids) else -1,
            "second": int(ids[1]) if len(ids) > 1 else -1,
            "line": raw.line,
            "offset": raw.offset,
            "asked": words.asked,
            "said": words.said,
            "record": bytes.fromhex(raw.record),
            "ids": ids,
            "mask": mask,
        }
        for name, value in values.items():
            self._rows[name].append(value)

    def flush(self) -> None:
        """Write what was added since the last time."""
        if self._rows["line"]:
            columns = [self._column(field) for field in self._schema]
            self._writer.write_batch(self._pa.record_batch(columns, schema=self._schema))
            self._rows = {name: [] for name in self._schema.names}

    def _column(self, field: Any) -> Any:
        """One column as an Arrow array; lists are put together from whole arrays, not value by value."""
        import numpy as np

        rows = self._rows[field.name]
        if field.name not in ("ids", "mask"):
            return self._pa.array(rows, type=field.type)
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        values = self._pa.array(np.concatenate(rows), type=field.type.value_type)
        return self._pa.LargeListArray.from_arrays(self._pa.array(offsets), values)


def last_stretch(mask: "NDArray[np.bool_]") -> int:
    """How many tokens the last unbroken run of trained ones has."""
    trained = mask.nonzero()[0]
    if not len(trained):
        return 0
    last = int(trained[-1])
    masked = (~mask[:last]).nonzero()[0]
    return last - int(masked[-1]) if len(masked) else last + 1


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
        self._lists = {
            name: [_flat(batch.column(name)) for batch in self._batches] for name in ("ids", "mask")
        }

    def column(self, name: str) -> "NDArray[Any]":
        """One column over all rows."""
        import numpy as np

        kind = np.int64 if name in INT64 else np.int32
        parts = [batch.column(name).to_numpy(zero_copy_only=False) for batch in self._batches]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)

    def records(self) -> Sequence[str]:
        """The digests of all rows, as hex."""
        return [value.hex() for batch in self._batches for value in batch.column("record").to_pylist()]

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


def _flat(column: Any) -> "tuple[NDArray[np.int64], NDArray[Any]]":
    return column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False)


def _distinct(values: "NDArray[Any]") -> "NDArray[np.int64]":
    """The different values, in order: by a table of marks, which takes one look at each."""
    import numpy as np

    if not len(values) or int(values.max()) >= LARGE_ID or int(values.min()) < 0:
        return np.unique(values).astype(np.int64)
    seen = np.zeros(int(values.max()) + 1, dtype=bool)
    seen[values] = True
    return seen.nonzero()[0].astype(np.int64)
