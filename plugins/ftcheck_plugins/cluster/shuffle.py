"""Records of all rows brought together by their first words: every shard emits its own where it lies, into
parts; each part is then fetched from all nodes, sorted and reduced by a task.

A record crosses the network once at most. What was emitted and is gone, with its node or its disk, is emitted
again.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ftcheck.dedup.shards import Emit, Piece, Reduce, sort_memory
from ftcheck.errors import EngineError
from ftcheck.records import Progress
from ftcheck_plugins.cluster import token_tasks
from ftcheck_plugins.cluster.connection import RETRIES
from ftcheck_plugins.cluster.placed_shards import PlacedShards
from ftcheck_plugins.cluster.work import Gone, Shuffle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ftcheck.dedup.records import Records

    Mask = NDArray[np.bool_]

Made = TypeVar("Made")
ROW = 256
"""Bytes of records that a row is taken to have: 16 MinHash bands, each with its row."""
PART = 16 << 20
"""Bytes of a part, about: some for each processor are in the store at once, of 256 MiB on a Ray that is
started here. N-grams of more than a tenth of the rows are not signed, so that hardly a part is much larger.
"""


def over(rows: PlacedShards, wanted: "Mask", make: Callable[[Piece], Made], *, masks: bool) -> Iterator[Made]:
    """See `ftcheck.dedup.shards.Shards`. Raises `InputError` and `EngineError`."""
    shared = rows.cluster.shared(make)
    for number, (node, made) in rows.over(token_tasks.over, rows.with_any(wanted), wanted, shared, masks):
        rows.moved(number, node)
        yield from made


def shuffled(rows: PlacedShards, wanted: "Mask", emit: Emit, reduce: Reduce) -> "Iterator[Records]":
    """See `ftcheck.dedup.shards.Shards`. Raises `InputError` and `EngineError`."""
    parts = max(-(-int(wanted.sum()) * ROW // PART), rows.cluster.processors())
    going = _Going(rows, wanted, rows.cluster.shared(emit), rows.cluster.shared(reduce), parts)
    try:
        going.emit(rows.with_any(wanted))
        yield from going.reduced()
    finally:
        going.forget()


class _Going:
    """A shuffle under way."""

    def __init__(self, rows: PlacedShards, wanted: "Mask", emit: Any, reduce: Any, parts: int) -> None:
        """`emit` and `reduce` are shared with all tasks."""
        self._rows, self._wanted, self._emit, self._reduce = rows, wanted, emit, reduce
        self._shuffle = Shuffle(
            f"{rows.work.key}-{secrets.token_hex(4)}", rows.work.base, rows.work.folder, parts
        )
        self._nodes: dict[int, str] = {}
        self._began = time.monotonic()

    def emit(self, numbers: Sequence[int]) -> None:
        """Have these shards emit their records; know on which node they are."""
        emitted = self._rows.over(token_tasks.emit, numbers, self._wanted, self._emit, self._shuffle)
        for number, node in emitted:
            self._nodes[number] = node
            self._rows.moved(number, node)

    def reduced(self) -> "Iterator[Records]":
        """What all parts come to. Where records are gone, it goes on when they have been emitted again."""
        done = tries = 0
        while done < self._shuffle.parts:
            try:
                for records in self._tasks(done):
                    yield from records
                    done, tries = done + 1, 0
            except Gone as gone:
                tries += 1
                if tries > RETRIES:
                    lost = f"records of {len(gone.shards)} shards were lost {tries} times"
                    raise EngineError(lost) from None
                self.emit(gone.shards)

    def _tasks(self, first: int) -> "Iterator[list[Records]]":
        """What each part from the first on comes to, in order."""
        rows, parts = self._rows, self._shuffle.parts
        told = Progress(rows.comparing, first, parts, "parts")
        made = rows.cluster.in_order(token_tasks.reduce, self._parts(first), lambda: rows.tell(told))
        for number, records in enumerate(made, first + 1):
            told = replace(told, done=number)
            rows.tell(told)
            yield records
        rows.end(Progress(rows.comparing, len(rows)), time.monotonic() - self._began)

    def _parts(self, first: int) -> Iterator[tuple[Any, ...]]:
        """What the task of each part from the first on is given: its records come from all nodes."""
        begun, memory, nodes = self._rows.cluster.begun, sort_memory(), self._by_node()
        for part in range(first, self._shuffle.parts):
            fetched = [begun(token_tasks.fetch, self._shuffle, some, part, node) for node, some in nodes]
            yield self._rows.work.version, self._reduce, memory, *fetched, None

    def _by_node(self) -> list[tuple[str, tuple[int, ...]]]:
        """Each node, and the shards whose records are there."""
        found: dict[str, list[int]] = {}
        for number, node in self._nodes.items():
            found.setdefault(node, []).append(number)
        return [(node, tuple(numbers)) for node, numbers in found.items()]

    def forget(self) -> None:
        """Have the nodes remove what was emitted; nobody waits for it."""
        cluster = self._rows.cluster
        if not cluster.ray.is_initialized():  # it has ended, and a task would start it anew
            return
        for node, numbers in self._by_node():
            cluster.begun(token_tasks.forget, self._shuffle, numbers, node)
