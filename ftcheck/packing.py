"""Packing plans on the length histogram: what TRL will do, best-fit over all rows, a lower bound.

A plan is a list of patterns: how many sequences of which lengths make up a block, and how many blocks
look like that. Its time does not depend on the number of rows.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.lengths import histogram

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TRL_GROUP = 1000
"""TRL packs every 1,000 rows on their own: `dataset.map(batched=True)` with its default batch size."""

Pattern = tuple[tuple[int, int], ...]
"""(length, how many of it) of one block, longest first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks of `capacity` tokens: `patterns` with how many blocks each makes. `tokens` are real ones."""

    capacity: int
    patterns: tuple[tuple[Pattern, int], ...]
    tokens: int

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return sum(times for _, times in self.patterns)

    @property
    def fill(self) -> float:
        """Share of the blocks' tokens that are real, 0 to 1."""
        return self.tokens / (self.blocks * self.capacity) if self.patterns else 0.0


def best_fit(lengths: "NDArray[Any]", capacity: int) -> Plan:
    """Best-fit decreasing over all sequences: as many blocks as TRL's segment tree would make of them.

    `lengths` are tokens per sequence, none above `capacity`; empty sequences are left out. Method:
    equal lengths are placed together; each open block takes as many of them as fit before the next
    larger space is touched, which is what best-fit does one by one. Hochbaum and Shmoys (1987) for
    working on the histogram; Ding et al. (arXiv 2404.10830) for best-fit packing of documents.
    """
    counts = histogram(lengths)
    spaces: list[int] = []
    blocks: dict[int, list[tuple[Pattern, int]]] = defaultdict(list)
    for length in range(len(counts) - 1, 0, -1):
        left = int(counts[length])
        while left:
            left = _place(length, left, capacity, spaces, blocks)
    patterns = tuple((pattern, times) for group in blocks.values() for pattern, times in group)
    return Plan(capacity, _merged(patterns), int(lengths.sum()))


def _place(
    length: int,
    count: int,
    capacity: int,
    spaces: list[int],
    blocks: dict[int, list[tuple[Pattern, int]]],
) -> int:
    """Put some of `count` sequences into the tightest open blocks, or open new ones; returns what is left."""
    index = bisect_left(spaces, length)
    space = spaces[index] if index < len(spaces) else capacity
    each = space // length
    if index == len(spaces):
        pattern: Pattern = ()
        available = max(1, count // each)
    else:
        pattern, available = blocks[space].pop()
    whole = min(available, count // each)
    if whole:
        _open(space - each * length, (*pattern, (length, each)), whole, spaces, blocks)
        count -= whole * each
        available -= whole
    if count and available and count < each:
        _open(space - count * length, (*pattern, (length, count)), 1, spaces, blocks)
        count, available = 0, available - 1
    if index < len(spaces) or pattern:
        _put_back(space, pattern, available, spaces, blocks)
    return count


def _open(
    space: int, pattern: Pattern, times: int, spaces: list[int], blocks: dict[int, list[tuple[Pattern, int]]]
) -> None:
    if not blocks[space] and space:
        insort(spaces, space)
    blocks[space].append((pattern, times))


def _put_back(
    space: int, pattern: Pattern, times: int, spaces: list[int], blocks: dict[int, list[tuple[Pattern, int]]]
) -> None:
    if times and pattern:
        blocks[space].append((pattern, times))
    if not blocks[space] and space in spaces:
        spaces.remove(space)


def _merged(patterns: Sequence[tuple[Pattern, int]]) -> tuple[tuple[Pattern, int], ...]:
    total: dict[Pattern, int] = defaultdict(int)
    for pattern, times in patterns:
        total[pattern] += times
    return tuple(sorted(total.items(), reverse=True))


def as_trl(lengths: "NDArray[Any]", capacity: int, strategy: str = "bfd", group: int = TRL_GROUP) -> int:
    """How many blocks TRL 1.16 makes of sequences in this order: every 1,000 of them on their own.

    `bfd` cuts longer sequences to `capacity`, `bfd_split` splits them, `wrapped` ignores boundaries.
    """
    blocks = 0
    for start in range(0, len(lengths), group):
        part = lengths[start : start + group]
        if strategy == "wrapped":
            blocks += -(-int(part.sum()) // capacity)
        else:
            blocks += best_fit(_fitted(part, capacity, strategy), capacity).blocks
    return blocks


def _fitted(lengths: "NDArray[Any]", capacity: int, strategy: str) -> "NDArray[Any]":
    import numpy as np

    cut: NDArray[Any] = np.minimum(lengths, capacity)
    if strategy == "bfd":
        return cut
    whole = np.repeat(capacity, int((lengths // capacity).sum()))
    rest = lengths % capacity
    split: NDArray[Any] = np.concatenate([whole, rest[rest > 0]])
    return split


def lower_bound(lengths: "NDArray[Any]", capacity: int) -> int:
    """No packing needs fewer blocks: Martello and Toth's L2 bound (1990), which holds the token bound.

    For each k: sequences above capacity - k stand alone, those above capacity / 2 need a block each,
    and what the small ones (at least k) need beyond the room left there needs further blocks.
    """
    import numpy as np

    counts = histogram(np.minimum(lengths, capacity))
    sizes = np.arange(len(counts))
    number = np.concatenate([[0], np.cumsum(counts)])
    tokens = np.concatenate([[0], np.cumsum(counts * sizes)])
    half = capacity // 2
    top = len(counts)

    def between(table: Any, low: int, high: int) -> int:
        low, high = min(max(low, 0), top), min(max(high, 0), top)
        return int(table[high] - table[low]) if high > low else 0

    best = 0
    for k in range(half + 1):
        alone = between(number, capacity - k + 1, top)
        large = between(number, half + 1, capacity - k + 1)
        room = large * capacity - between(tokens, half + 1, capacity - k + 1)
        small = between(tokens, k, half + 1)
        best = max(best, alone + large + max(0, -(-(small - room) // capacity)))
    return best


def assign(plan: Plan, lengths: "NDArray[Any]", seed: int) -> Iterator["NDArray[np.int64]"]:
    """The sequences of each block, by index into `lengths`; which of equal lengths go where is shuffled.

    Blocks come in shuffled order too. Every sequence that is not empty is in exactly one block.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    by_length: dict[int, list[int]] = defaultdict(list)
    for index in order.tolist():
        by_length[int(lengths[index])].append(index)
    blocks = [pattern for pattern, times in plan.patterns for _ in range(times)]
    for number in rng.permutation(len(blocks)).tolist():
        chosen = [by_length[length].pop() for length, times in blocks[number] for _ in range(times)]
        yield np.array(chosen, dtype=np.int64)
