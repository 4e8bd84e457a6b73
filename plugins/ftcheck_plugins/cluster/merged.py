"""The parts of a preparation put together: columns in files here, ids and masks where tasks made them."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ftcheck.dedup.shards import Emit, OneMachine, Piece, Reduce, sort_memory
from ftcheck.inputs.container import Run
from ftcheck_plugins.cluster import shuffle, tasks
from ftcheck_plugins.cluster.mapped import MappedColumns, MappedDigests
from ftcheck_plugins.cluster.placed_shards import Placed, PlacedShards
from ftcheck_plugins.cluster.work import Work
from ftcheck_plugins.preparation.arrow_store import ROWS, RowFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ftcheck.dedup.records import Records

    Mask = NDArray[np.bool_]

Made = TypeVar("Made")
COLUMNS = "columns"
PARTS = "parts.pickle"
OPEN = 4
"""Files of ids and masks that stay mapped for whoever asks row by row."""
FEW = 50_000
"""Marked rows from which on tasks are worth it: so many take one core half a second to a second, and the
tasks of a shuffle over them, of 3 ms each before any work is done, about a third of a second.
"""


def keep(folder: Path, work: Work, placed: Sequence[Placed]) -> None:
    """Write where the parts are, for whoever maps the folder later: this process, or a worker after it."""
    (folder / PARTS).write_bytes(pickle.dumps((work, tuple(placed))))


def is_merged(folder: Path) -> bool:
    """Whether a folder was made on a cluster."""
    return (folder / PARTS).is_file()


class MergedRows:
    """All rows: columns as arrays, ids and masks row by row (a `Columns`), or compared where they lie (a
    `Shards`).

    `columns` are mapped from the folder, `starts` is the first row of each part and the number of rows.
    """

    def __init__(self, folder: Path, run: Run, name: str) -> None:
        """`name` is that of the job, and of the split if it is another than `train`."""
        self.folder = folder
        self.columns = MappedColumns(folder / COLUMNS)
        work, placed = pickle.loads((folder / PARTS).read_bytes())
        self._shards = PlacedShards(run, name, work, placed)
        self._open: OrderedDict[int, RowFile] = OrderedDict()
        self._last: tuple[int, int, Any] = 0, 0, None
        self._used: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._shards)

    @property
    def starts(self) -> "NDArray[np.int64]":
        """The first row of each part, and the number of rows."""
        return self._shards.starts

    def column(self, name: str) -> "NDArray[Any]":
        """One column over all rows; it cannot be written to."""
        return self.columns[name]

    def records(self) -> Sequence[str]:
        """The digests of all rows, as hex."""
        return MappedDigests(self.columns["records"])

    def know(self, used: "tuple[NDArray[np.int64], NDArray[np.int64]]") -> None:
        """Take which ids occur (all, and those in the loss), as the second pass found them."""
        self._used = used

    def ids(self, row: int) -> "NDArray[np.int32]":
        """Token ids of a row (index from 0), before truncation."""
        file, inside = self._at(row)
        return file.ids(inside)

    def mask(self, row: int) -> "NDArray[np.bool_]":
        """Which of them are in the loss."""
        file, inside = self._at(row)
        return file.mask(inside)

    def used_ids(self, *, trained: bool = False) -> "NDArray[np.int64]":
        """Ids that occur in the rows, each once, in order; with `trained` only those in the loss."""
        assert self._used is not None, "the second pass has found them"
        return self._used[trained]

    def rows_with(self, ids: Sequence[int]) -> "NDArray[np.int64]":
        """The rows (indices from 0) that have any of these ids, in order."""
        import numpy as np

        wanted = (tuple(map(int, ids)),)
        found = [np.zeros(0, dtype=np.int64)]
        made = self.each(tasks.rows_with, repeat(wanted, len(self.starts) - 1))
        found += [rows + start for start, rows in zip(self.starts, made, strict=False)]
        return np.concatenate(found)

    def each(
        self, task: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], first: int = 0
    ) -> Iterator[Any]:
        """What a task makes of as many parts, from number `first` on, as there are arguments: on the node
        where each lies.
        """
        given = list(arguments)
        return self._shards.each(task, range(first, first + len(given)), given)

    def over(self, wanted: "Mask", work: Callable[[Piece], Made], *, masks: bool = False) -> Iterator[Made]:
        """See `ftcheck.dedup.shards.Shards`."""
        if self._few(wanted):
            return OneMachine(self, sort_memory()).over(wanted, work, masks=masks)
        return shuffle.over(self._shards, wanted, work, masks=masks)

    def shuffled(self, wanted: "Mask", emit: Emit, reduce: Reduce) -> "Iterator[Records]":
        """See `ftcheck.dedup.shards.Shards`."""
        if self._few(wanted):
            return OneMachine(self, sort_memory()).shuffled(wanted, emit, reduce)
        return shuffle.shuffled(self._shards, wanted, emit, reduce)

    def _few(self, wanted: "Mask") -> bool:
        """Whether the marked rows are so few, and at hand, that tasks are not worth it."""
        return int(wanted.sum()) < FEW and self._shards.here(self._shards.with_any(wanted))

    def _at(self, row: int) -> tuple[RowFile, int]:
        """The file of the part that has a row, and the row's number in it; rows are asked for in order."""
        first, stop, file = self._last
        if not first <= row < stop:
            first, stop, file = self._last = self._part(row)
        return file, row - first

    def _part(self, row: int) -> tuple[int, int, RowFile]:
        import numpy as np

        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        if number in self._open:
            self._open.move_to_end(number)
        else:
            self._open[number] = RowFile(self._here(number))
            if len(self._open) > OPEN:
                self._open.popitem(last=False)
        return int(self.starts[number]), int(self.starts[number + 1]), self._open[number]

    def _here(self, number: int) -> Path:
        """The file of a part: where it lies on this machine, or a copy of the one on its node."""
        there = Path(self._shards.placed[number].path)
        if there.is_file():
            return there
        copy = self.folder / f"copied-{number}" / ROWS
        if not copy.is_file():
            making = copy.parent.with_name(f"{copy.parent.name}.{os.getpid()}")
            making.mkdir(exist_ok=True)
            for name, data in next(self.each(tasks.token_files, [()], number)):
                (making / name).write_bytes(data)
            making.rename(copy.parent)
        return copy
