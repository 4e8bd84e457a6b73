"""Packing plans on the length histogram: best-fit, the optimum, what other trainers do, a lower bound.

A plan is a list of patterns: how many sequences of which lengths make up a block, and how many blocks
look like that. Its time does not depend on the number of rows.
"""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ftcheck.packing import cutting_stock
from ftcheck.packing.lengths import histogram

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TRL_GROUP = 1000
"""TRL packs every 1,000 rows on their own: `dataset.map(batched=True)` with its default batch size."""

Pattern = tuple[tuple[int, int], ...]
"""(length, how many of it) of one block, longest first."""

EFFORT = 4.0
"""Seconds of one common CPU core that the search for the optimum may take, counted in work."""
LLAMA_FACTORY_GROUP = 1000
"""LLaMA-Factory packs each batch of its `dataset.map` on its own: `preprocessing_batch_size`."""
AXOLOTL_GROUP, AXOLOTL_MOST = 100_000, 200
"""axolotl packs so many sequences on their own (`sample_packing_group_size`), at most so many in a block
(`sample_packing_bin_size`)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks of `capacity` tokens: `patterns` with how many blocks each makes. `tokens` are real ones.

    `by` names how the plan was made and `note` what might make a better one; `bound` are blocks that no
    plan undercuts (0: not asked).
    """

    capacity: int
    patterns: tuple[tuple[Pattern, int], ...]
    tokens: int
    by: str = "best-fit"
    bound: int = 0
    note: str = ""

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
    return _best_fit(histogram(lengths), capacity)


def _best_fit(counts: "NDArray[np.int64]", capacity: int) -> Plan:
    spaces: list[int] = []
    blocks: dict[int, list[tuple[Pattern, int]]] = defaultdict(list)
    for length in range(len(counts) - 1, 0, -1):
        left = int(counts[length])
        while left:
            left = _place(length, left, capacity, spaces, blocks)
    patterns = tuple((pattern, times) for group in blocks.values() for pattern, times in group)
    return Plan(capacity, _merged(patterns), _tokens(counts))


def _tokens(counts: "NDArray[np.int64]") -> int:
    import numpy as np

    return int(np.arange(len(counts)) @ counts)


def optimal(lengths: "NDArray[Any]", capacity: int, effort: float = EFFORT) -> Plan:
    """The plan with the fewest blocks that can be found: never more than best-fit, often no plan has fewer.

    `lengths` are tokens per sequence, none above `capacity`; empty sequences are left out. Best-fit, then
    blocks filled exactly, then column generation with rounding (see `cutting_stock`), each only where the
    bound is not reached yet. Column generation needs highspy; without it `note` says so. `effort` limits the
    search in seconds of one CPU core, counted in work: the same lengths always give the same plan.
    Plans are remembered: the same histogram is not solved twice in a process.
    """
    return _optimal(histogram(lengths).tobytes(), capacity, effort)


@lru_cache(maxsize=32)
def _optimal(packed: bytes, capacity: int, effort: float) -> Plan:
    import numpy as np

    counts = np.frombuffer(packed, dtype=np.int64)
    fitted = _best_fit(counts, capacity)
    bound = _lower_bound(counts, capacity)
    if fitted.blocks <= bound:
        return replace(fitted, bound=bound)
    work = cutting_stock.Work(effort * 1e6)
    exact = _exact(counts, capacity, work)
    best = replace(min(exact, fitted, key=lambda plan: plan.blocks), bound=bound)
    if best.blocks <= bound:
        return best
    if not cutting_stock.available():
        return replace(best, note="highspy is not installed: with it fewer may be found")
    start = [(dict(pattern), times) for pattern, times in best.patterns]
    found, bound = cutting_stock.generated(counts, capacity, start, bound, work)
    if found is None or cutting_stock.blocks(found) >= best.blocks:
        return replace(best, bound=bound)
    return Plan(capacity, _patterns(found), fitted.tokens, "column generation", bound)


def _exact(counts: "NDArray[np.int64]", capacity: int, work: cutting_stock.Work) -> Plan:
    """Blocks filled exactly as far as work allows, best-fit for what is left then."""
    blocks, rest = cutting_stock.filled(counts, capacity, work)
    ended = _best_fit(rest, capacity)
    return Plan(capacity, _merged([*_patterns(blocks), *ended.patterns]), _tokens(counts), "exact filling")


def _patterns(blocks: cutting_stock.Patterns) -> tuple[tuple[Pattern, int], ...]:
    return _merged([(tuple(sorted(block.items(), reverse=True)), times) for block, times in blocks])


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
    index = bisect_left(spaces, space)
    if not blocks[space] and index < len(spaces) and spaces[index] == space:
        del spaces[index]


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


def as_llama_factory(lengths: "NDArray[Any]", capacity: int, group: int = LLAMA_FACTORY_GROUP) -> int:
    """How many blocks LLaMA-Factory makes of sequences in this order with `cutoff_len` = `capacity`.

    Each 1,000 rows on their own (of each worker's share, where it has several); a block takes the longest
    sequence that fits until none does. One token of a block is never used: `cutoff_len` is lowered by one
    where it packs, and each block padded by one. Longer sequences count as cut. As read in its
    data/processor/supervised.py (`greedy_knapsack`) and hparams/data_args.py (2025).
    """
    blocks, room = 0, capacity - 1
    for start in range(0, len(lengths), group):
        left = sorted(min(length, room) for length in lengths[start : start + group].tolist() if length)
        while left:
            blocks, space = blocks + 1, room
            while (index := bisect_right(left, space)) > 0:
                space -= left.pop(index - 1)
    return blocks


def as_axolotl(
    lengths: "NDArray[Any]", capacity: int, group: int = AXOLOTL_GROUP, most: int = AXOLOTL_MOST
) -> int:
    """How many blocks axolotl's multipack sampler makes of sequences that are drawn in this order.

    First-fit without sorting, each 100,000 sequences on their own, at most 200 in a block. The sampler
    shuffles anew each epoch, so the number varies a little: this is it for one order. Longer sequences
    are dropped. From the survey of its utils/samplers/multipack.py (`pack_parallel`) in the project's notes.
    """
    return sum(
        _first_fit(
            [size for size in lengths[start : start + group].tolist() if 0 < size <= capacity], capacity, most
        )
        for start in range(0, len(lengths), group)
    )


def _first_fit(sizes: Sequence[int], capacity: int, most: int) -> int:
    """Blocks of first-fit in this order. A tree of the largest space finds the first block with room."""
    leaves = 1 << max(0, len(sizes) - 1).bit_length()
    tree = [capacity] * (2 * leaves)
    held = [0] * leaves
    for size in sizes:
        node = 1
        while node < leaves:
            node *= 2
            if tree[node] < size:
                node += 1
        held[node - leaves] += 1
        room = tree[node] - size if held[node - leaves] < most else 0
        tree[node] = room
        while node > 1:
            room = max(room, tree[node ^ 1])
            node //= 2
            if tree[node] == room:
                break
            tree[node] = room
    return sum(1 for number in held if number)


def lower_bound(lengths: "NDArray[Any]", capacity: int) -> int:
    """No packing needs fewer blocks: Martello and Toth's L2 bound (1990), which holds the token bound.

    For each k: sequences above capacity - k stand alone, those above capacity / 2 need a block each,
    and what the small ones (at least k) need beyond the room left there needs further blocks.
    """
    import numpy as np

    return _lower_bound(histogram(np.minimum(lengths, capacity)), capacity)


def _lower_bound(counts: "NDArray[np.int64]", capacity: int) -> int:
    import numpy as np

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
