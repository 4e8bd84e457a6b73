"""The parts of a preparation put together: columns in files here, ids and masks where tasks made them."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.inputs.container import Run
from ftcheck.records import Progress
from ftcheck_plugins.cluster import connection, tasks
from ftcheck_plugins.cluster.connection import Connection
from ftcheck_plugins.cluster.data_shards import Shard
from ftcheck_plugins.cluster.mapped import MappedColumns, MappedDigests
from ftcheck_plugins.cluster.work import Work
from ftcheck_plugins.preparation.arrow_store import ROWS, RowFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS = "columns"
PARTS = "parts.pickle"
OPEN = 4
"""Files of ids and masks that stay mapped for whoever asks row by row."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A shard that was prepared: its number of rows, and where its ids and masks were put."""

    shard: Shard
    rows: int
    node: str
    path: str


def keep(folder: Path, work: Work, placed: Sequence[Placed]) -> None:
    """Write where the parts are, for whoever maps the folder later: this process, or a worker after it."""
    (folder / PARTS).write_bytes(pickle.dumps((work, tuple(placed))))


def is_merged(folder: Path) -> bool:
    """Whether a folder was made on a cluster."""
    return (folder / PARTS).is_file()


class MergedRows:
    """All rows: columns as arrays, ids and masks row by row (a `Columns`).

    `columns` are mapped from the folder, `starts` is the first row of each part and the number of rows.
    """

    def __init__(self, folder: Path, run: Run, task: str) -> None:
        """`task` is how the preparation is named while it goes on."""
        self.folder, self._run, self._task = folder, run, task
        self.columns = MappedColumns(folder / COLUMNS)
        read: tuple[Work, tuple[Placed, ...]] = pickle.loads((folder / PARTS).read_bytes())
        self._work, self._placed = read
        self._open: OrderedDict[int, RowFile] = OrderedDict()
        self._last: tuple[int, int, Any] = 0, 0, None
        self._used: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> "NDArray[np.int64]":
        """The first row of each part, and the number of rows."""
        import numpy as np

        return np.concatenate([[0], np.cumsum([one.rows for one in self._placed], dtype=np.int64)])

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
        made = self.each(tasks.rows_with, [wanted] * len(self._placed))
        found += [rows + start for start, rows in zip(self.starts, made, strict=False)]
        return np.concatenate(found)

    def each(
        self, task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], first: int = 0
    ) -> Iterator[Any]:
        """What a task makes of as many parts, from number `first` on, as there are arguments: on the node
        where each lies.
        """
        cluster = connection.connect(self._run)
        work = cluster.shared(self._work)
        parts = zip(self._placed[first:], arguments, strict=False)
        given = [(work, one.shard, *more, one.node) for one, more in parts]
        yield from cluster.in_order(task, given, lambda: self._tell(cluster))

    def _tell(self, cluster: Connection) -> None:
        self._run.report(Progress(self._task, len(self), None, "rows", detail=cluster.words()))

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
        there = Path(self._placed[number].path)
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
