"""Work over the rows' tokens, shard by shard: on one machine here, on many where an engine brings it.

What is found in the tokens of all rows is put together of two steps: `over` does some work on each piece of
the rows, `shuffled` brings records with the same first word together. The work knows of one piece of rows
only, and can be pickled.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from ftcheck import cache
from ftcheck.dedup.records import Sorter
from ftcheck.inputs.machine_memory import machine_memory
from ftcheck.inputs.prepared import TokenStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ftcheck.dedup.records import Records

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

Made = TypeVar("Made")
Emit = Callable[["Piece"], "Records"]
Reduce = Callable[[Iterable["Records"]], Iterator["Records"]]

PIECE_TOKENS = 500_000
"""Tokens of a piece, about."""
SCANNED = 1 << 16
"""Rows whose marks are looked at together."""
SHARE, LEAST, MOST = 16, 64 << 20, 256 << 20
"""Sorting may hold this part of the machine's memory, but not less or more than this."""


@dataclass(frozen=True)
class Piece:
    """Some rows: their numbers over all rows, in order, and their tokens one behind the other.

    Row `k` begins at `starts[k]` (one more: the end). `mask` marks the tokens in the loss; None where it was
    not asked for.
    """

    rows: "Ints"
    starts: "Ints"
    ids: "NDArray[np.int32]"
    mask: "Mask | None" = None


@runtime_checkable
class Shards(Protocol):
    """Rows that lie in shards. A `TokenStore` that is one does this work where its rows lie."""

    def over(self, wanted: "Mask", work: Callable[[Piece], Made], *, masks: bool = False) -> Iterator[Made]:
        """What `work` makes of all rows that `wanted` marks, piece by piece, in the order of the rows."""

    def shuffled(self, wanted: "Mask", emit: Emit, reduce: Reduce) -> Iterator["Records"]:
        """What `emit` makes of the pieces is brought into order, all with one first word together, and goes
        through `reduce`, of which one call sees a part of the first words. In any order.
        """


def shards_of(tokens: TokenStore) -> Shards:
    """The rows as shards: their own, or those of this machine."""
    return tokens if isinstance(tokens, Shards) else OneMachine(tokens, sort_memory())


@dataclass(frozen=True)
class OneMachine:
    """Rows of this machine: one shard and one part. `memory` in bytes is what sorting may hold."""

    tokens: TokenStore
    memory: int

    def over(self, wanted: "Mask", work: Callable[[Piece], Made], *, masks: bool = False) -> Iterator[Made]:
        """See `Shards`."""
        return map(work, pieces(self.tokens, wanted, masks=masks))

    def shuffled(self, wanted: "Mask", emit: Emit, reduce: Reduce) -> Iterator["Records"]:
        """See `Shards`."""
        return reduced(self.over(wanted, emit), reduce, self.memory)


def reduced(records: Iterable["Records"], reduce: Reduce, memory: int) -> Iterator["Records"]:
    """What `reduce` makes of one part of the records, sorted in `memory` bytes and on the disk."""
    with Sorter(memory) as sorter:
        for some in records:
            sorter.add(some)
        yield from reduce(sorter.pieces())


def pieces(tokens: TokenStore, wanted: "Mask", *, masks: bool = False, first: int = 0) -> Iterator[Piece]:
    """The marked rows of one shard, whose first row has the number `first` over all shards."""
    taken: list[int] = []
    ids: list[Any] = []
    count = 0
    for row in marked(wanted):
        taken.append(row)
        ids.append(tokens.ids(row))
        count += len(ids[-1])
        if count >= PIECE_TOKENS:
            yield _piece(tokens, taken, ids, masks, first)
            taken, ids, count = [], [], 0
    if taken:
        yield _piece(tokens, taken, ids, masks, first)


def _piece(tokens: TokenStore, taken: list[int], ids: list[Any], masks: bool, first: int) -> Piece:
    import numpy as np

    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    mask = np.concatenate([tokens.mask(row) for row in taken]) if masks else None
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Piece(np.array(taken, dtype=np.int64) + first, starts, np.concatenate(ids), mask)


def marked(wanted: "Mask") -> Iterator[int]:
    """The numbers of marked rows, which never stand in memory all at once."""
    for start in range(0, len(wanted), SCANNED):
        yield from (wanted[start : start + SCANNED].nonzero()[0] + start).tolist()


def sort_memory() -> int:
    """Bytes that sorting holds before it uses the disk: FTCHECK_SORT_MEMORY such as `2GiB`, else a sixteenth
    of the machine's memory (of its control group's limit), from 64 to 256 MiB. Raises `UsageError`.
    """
    default = min(max(machine_memory() // SHARE, LEAST), MOST)
    return cache.stated_size("FTCHECK_SORT_MEMORY", default)
