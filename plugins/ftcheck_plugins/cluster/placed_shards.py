"""The shards of a preparation where they lie on the cluster, and tasks over them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.inputs.container import Run
from ftcheck.records import Progress
from ftcheck_plugins.cluster import connection
from ftcheck_plugins.cluster.connection import Connection
from ftcheck_plugins.cluster.data_shards import Shard
from ftcheck_plugins.cluster.work import Marked, Work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

PREPARING, COMPARING = "preparing", "comparing"
"""What is done with the rows while the run waits."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A shard that was prepared: its number of rows, and where its ids and masks were put."""

    shard: Shard
    rows: int
    node: str
    path: str


class PlacedShards:
    """All shards of a preparation, in data order."""

    def __init__(self, run: Run, name: str, work: Work, placed: Sequence[Placed]) -> None:
        """`name` is that of the job, and of the split if it is another than `train`."""
        self._run, self._name = run, name
        self.work, self.placed = work, list(placed)

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> "NDArray[np.int64]":
        """The first row of each shard, and the number of rows."""
        import numpy as np

        return np.concatenate([[0], np.cumsum([one.rows for one in self.placed], dtype=np.int64)])

    @cached_property
    def cluster(self) -> Connection:
        """The connection, which is made when tasks are first wanted."""
        return connection.connect(self._run)

    @cached_property
    def _kept_work(self) -> Any:
        return self.cluster.kept(self.work)

    def each(
        self, task: Callable[..., Any], numbers: Iterable[int], arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[Any]:
        """What a task makes of shards, with the arguments of each: on the node where it lies."""
        told = Progress(f"{PREPARING} {self._name}", len(self))
        yield from self.cluster.in_order(task, self._given(numbers, arguments), lambda: self.tell(told))
        self.end(told)

    def over(
        self, task: Callable[..., Any], numbers: Sequence[int], wanted: "Mask", *arguments: Any
    ) -> Iterator[tuple[int, Any]]:
        """The same of the rows that `wanted` marks (one bool a row of all): the number of each shard, with
        what the task makes of it.
        """
        told = Progress(self.comparing, 0, len(self))
        marked = ((self._marked(number, wanted), *arguments) for number in numbers)
        made = self.cluster.in_order(task, self._given(numbers, marked), lambda: self.tell(told))
        for number, one in zip(numbers, made, strict=True):
            told = replace(told, done=int(self.starts[number + 1]))
            self.tell(told)
            yield number, one
        self.end(told)

    @property
    def comparing(self) -> str:
        """The name of what goes on while rows are compared."""
        return f"{COMPARING} {self._name}"

    def tell(self, told: Progress) -> None:
        """Say how far it has come, and where."""
        self._run.report(replace(told, detail=self.cluster.words()))

    def end(self, told: Progress, took: float | None = None) -> None:
        """Say that it has come to its end; a line stays where it is known how many seconds that took."""
        detail = f"{self.cluster.words()}  {took:.1f} s" if took is not None else None
        self._run.report(replace(told, finished=True, detail=detail, line=took is not None))

    def _given(
        self, numbers: Iterable[int], arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[Any, ...]]:
        for number, more in zip(numbers, arguments, strict=True):
            yield self._kept_work, self.placed[number].shard, *more, self.placed[number].node

    def _marked(self, number: int, wanted: "Mask") -> Marked:
        start, stop = self.starts[number : number + 2].tolist()
        return Marked.of(wanted[start:stop], start)

    def with_any(self, wanted: "Mask") -> list[int]:
        """The numbers of shards of which a row is marked."""
        ends = pairwise(self.starts.tolist())
        return [number for number, (start, stop) in enumerate(ends) if wanted[start:stop].any()]

    def here(self, numbers: Iterable[int]) -> bool:
        """Whether the files of these shards lie on this machine."""
        return all(Path(self.placed[number].path).is_file() for number in numbers)

    def moved(self, number: int, node: str) -> None:
        """Take that a shard's file is on this node: it is prepared again where it was not."""
        self.placed[number] = replace(self.placed[number], node=node)
