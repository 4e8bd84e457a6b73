"""Cutting stock on a length histogram: filling blocks exactly, and column generation with rounding.

Gilmore and Gomory (1961, 1963): a linear program over patterns of a block, patterns found as they are
needed by a knapsack whose profits are the program's prices. Its optimum is a lower bound on the number
of blocks (Farley 1990 gives one at every step), and its patterns, rounded down, leave few sequences over.
Effort is counted in work and not by the clock: the same lengths give the same plan on a busy machine.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Patterns = list[tuple[dict[int, int], int]]
"""Blocks: how many of which length (tokens) make one, and how many blocks look like that."""

AT_ONCE = 10
"""Patterns that one round of pricing adds, no length in two of them: fewer linear programs are solved."""
SMOOTHING = (0.7, 0.4, 0.1, 0.0)
"""Weight of the best prices so far (Wentges 1997), tried in this order until a pattern pays."""
ROUNDS = 5
"""Column generation is not begun where not even so many rounds of it can be paid for."""
CANDIDATES = 200
"""Lengths next to the longest, and lengths below them, that an exact filling chooses from."""
CELLS = 40_000_000
"""Knapsack tables (lengths x capacity) beyond this are not made."""
PAYS = 1 + 1e-7
SLACK = 1e-6
"""Rounding errors of a linear program do not raise a bound."""


@dataclass(slots=True)
class Work:
    """Work that may still be done, in microseconds of one common CPU core (2020s, measured once)."""

    left: float

    def spend(self, amount: float) -> None:
        """Take off what was done."""
        self.left -= amount


def available() -> bool:
    """Whether highspy (HiGHS), which solves the linear programs, is installed."""
    return find_spec("highspy") is not None


def filled(counts: "NDArray[np.int64]", capacity: int, work: Work) -> tuple[Patterns, "NDArray[np.int64]"]:
    """Fill block after block as far as any subset can, the longest sequence first; also what is left over.

    `counts` holds how many sequences have each length. Each block takes the longest sequence that is left
    and, of all sets that fill it best, the one with the longest next sequences; the same block is made as
    often as the counts allow. Method: minimum bin slack (Gupta and Ho 1999) by subset sums as bits. Something
    is left over only where `work` runs out.
    """
    rest = counts.copy()
    rest[0] = 0
    found: Patterns = []
    while work.left > 0 and rest.any():
        block = _fullest(rest, capacity, work)
        times = min(int(rest[length]) // number for length, number in block.items())
        for length, number in block.items():
            rest[length] -= times * number
        found.append((block, times))
    return found, rest


def _fullest(rest: "NDArray[np.int64]", capacity: int, work: Work) -> dict[int, int]:
    """The block with the longest sequence in it that is as full as one can be."""
    import numpy as np

    lengths = _candidates(np.flatnonzero(rest).tolist(), capacity)
    longest, room = lengths[-1], capacity - lengths[-1]
    have = [min(int(rest[length]) - (length == longest), room // length) for length in lengths]
    sums = _sums(lengths, have, room)
    work.spend(20 + len(lengths) * (1.5 + room / 2000))
    block, target = {longest: 1}, sums[-1].bit_length() - 1
    for index in range(len(lengths) - 1, -1, -1):
        if not target:
            break
        length = lengths[index]
        most = min(have[index], target // length)
        number = next(n for n in range(most, -1, -1) if sums[index] >> (target - n * length) & 1)
        if number:
            block[length] = block.get(length, 0) + number
            target -= number * length
    return block


def _candidates(lengths: list[int], capacity: int) -> list[int]:
    """Of many lengths the longest, those next to it that fit beside it, and some of the shorter ones."""
    if len(lengths) <= 2 * CANDIDATES:
        return lengths
    fitting = lengths[: bisect_right(lengths, capacity - lengths[-1])]
    near, far = fitting[-CANDIDATES:], fitting[:-CANDIDATES]
    step = max(1, len(far) // CANDIDATES)
    chosen = [*far[::step], *near]
    return chosen if chosen and chosen[-1] == lengths[-1] else [*chosen, lengths[-1]]


def _sums(lengths: list[int], have: list[int], room: int) -> list[int]:
    """Bit `t` of entry `i`: the first `i` lengths have a subset of `t` tokens, none above `room`."""
    sums, reached, mask = [1], 1, (1 << (room + 1)) - 1
    for length, number in zip(lengths, have, strict=True):
        if length > room:
            number = 0
        for part in _doubling(number):
            reached |= reached << (length * part)
        reached &= mask
        sums.append(reached)
    return sums


def _doubling(number: int) -> Iterator[int]:
    """1, 2, 4, … and a rest: parts whose subsets make every number up to `number`."""
    part = 1
    while number > 0:
        yield min(part, number)
        number -= part
        part *= 2


@dataclass(slots=True)
class Cutting:
    """A cutting-stock problem as far as it is solved: patterns (columns) over distinct lengths.

    `sizes` are the lengths still to place and `demand` how many of each, shape (m,); `columns` patterns
    over them, each of shape (m,). `bound` is what the linear program proves that this demand needs.
    """

    capacity: int
    sizes: "NDArray[np.int64]"
    demand: "NDArray[np.int64]"
    columns: "list[NDArray[np.int64]]" = field(default_factory=list)
    bound: float = 0.0


def generated(
    counts: "NDArray[np.int64]", capacity: int, start: Patterns, enough: int, work: Work
) -> tuple[Patterns | None, int]:
    """The best plan that column generation and rounding find, and a proven lower bound on its blocks.

    `start` are patterns to begin with, `enough` blocks that no plan undercuts: reaching them ends the
    search. Each round solves the linear program, takes its patterns as often as it says (rounded down),
    fills blocks with what is left, and goes on with that until work runs out. None where it is too large.
    """
    cutting = _posed(counts, capacity, start)
    if len(cutting.sizes) * capacity > CELLS or ROUNDS * _round(cutting) > work.left:
        return None, enough
    taken: Patterns = []
    best: Patterns | None = None
    while work.left > 0 and cutting.demand.any():
        numbers = _relaxed(cutting, work)
        if numbers is None:
            break
        if not taken:
            enough = max(enough, math.ceil(cutting.bound - SLACK))
        taken += _rounded(cutting, numbers)
        ended, rest = filled(_histogram(cutting), capacity, work)
        if rest.any():
            break
        if best is None or blocks(taken + ended) < blocks(best):
            best = taken + ended
        if blocks(best) <= enough:
            break
        _shrink(cutting)
    return best, enough


def blocks(patterns: Patterns) -> int:
    """How many blocks some patterns make."""
    return sum(times for _, times in patterns)


def _posed(counts: "NDArray[np.int64]", capacity: int, start: Patterns) -> Cutting:
    """The whole problem, with a block of each length alone and the patterns to begin with."""
    import numpy as np

    sizes = np.flatnonzero(counts)
    sizes = sizes[sizes > 0].astype(np.int64)
    cutting = Cutting(capacity, sizes, counts[sizes].astype(np.int64))
    place = {size: index for index, size in enumerate(sizes.tolist())}
    alone = np.minimum(capacity // sizes, cutting.demand)
    cutting.columns = list(np.diag(alone))
    for block, _ in start:
        column = np.zeros(len(sizes), dtype=np.int64)
        for length, number in block.items():
            column[place[length]] = number
        cutting.columns.append(column)
    return cutting


def _histogram(cutting: Cutting) -> "NDArray[np.int64]":
    import numpy as np

    counts = np.zeros(cutting.capacity + 1, dtype=np.int64)
    counts[cutting.sizes] = cutting.demand
    return counts


def _relaxed(cutting: Cutting, work: Work) -> "NDArray[np.float64] | None":
    """How often each column is used in the linear program, once no further pattern pays or work runs out."""
    stable = cutting.sizes / cutting.capacity
    cutting.bound = float(stable @ cutting.demand)
    known = {column.tobytes() for column in cutting.columns}
    numbers = None
    while True:
        solved = _program(cutting, work)
        if solved is None:
            return numbers
        numbers, prices = solved
        if work.left <= 0:
            return numbers
        stable, found = _priced(cutting, stable, prices, work)
        fresh = [column for column in found if column.tobytes() not in known]
        if not fresh:
            return numbers
        cutting.columns += fresh
        known |= {column.tobytes() for column in fresh}


def _program(cutting: Cutting, work: Work) -> "tuple[NDArray[np.float64], NDArray[np.float64]] | None":
    """Least blocks for the demand, in fractions: how often each column is used, and a price a length."""
    import highspy
    import numpy as np

    rows, columns = len(cutting.demand), len(cutting.columns)
    used = [column.nonzero()[0] for column in cutting.columns]
    program = highspy.HighsLp()
    program.num_row_, program.num_col_ = rows, columns
    program.col_cost_ = np.ones(columns)
    program.col_lower_, program.col_upper_ = np.zeros(columns), np.full(columns, highspy.kHighsInf)
    program.row_lower_ = cutting.demand.astype(np.float64)
    program.row_upper_ = np.full(rows, highspy.kHighsInf)
    program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    program.a_matrix_.start_ = np.cumsum([0, *map(len, used)])
    program.a_matrix_.index_ = np.concatenate(used)
    values = [column[places] for column, places in zip(cutting.columns, used, strict=True)]
    program.a_matrix_.value_ = np.concatenate(values).astype(np.float64)
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("solver", "simplex")
    solver.setOptionValue("threads", 1)
    most = max(100, int(work.left / _pivot(rows, columns)))
    solver.setOptionValue("simplex_iteration_limit", most)
    solver.passModel(program)
    solver.run()
    work.spend(3000 + max(0, solver.getInfo().simplex_iteration_count) * _pivot(rows, columns))
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    solved = solver.getSolution()
    return np.array(solved.col_value), np.array(solved.row_dual)


def _round(cutting: Cutting) -> float:
    """Microseconds that one linear program and the pricing after it may take."""
    rows, columns = len(cutting.sizes), len(cutting.columns)
    return 1.5 * rows * _pivot(rows, columns) + AT_ONCE * 2 * rows * _update(cutting.capacity)


def _update(capacity: int) -> float:
    """Microseconds of one row of a knapsack table, measured."""
    return 5 + capacity / 800


def _pivot(rows: int, columns: int) -> float:
    """Microseconds of one pivot of the dual simplex on a sparse program of that size, measured."""
    return 5 + 0.06 * (rows + columns)


def _priced(
    cutting: Cutting, stable: "NDArray[np.float64]", prices: "NDArray[np.float64]", work: Work
) -> "tuple[NDArray[np.float64], list[NDArray[np.int64]]]":
    """The best prices so far, and patterns worth more than a block at the program's own prices.

    Prices between the two swing less. A knapsack of value v at some prices proves that the demand needs
    prices @ demand / v blocks (Farley 1990): v is the most that a block can be worth.
    """
    found: list[NDArray[np.int64]] = []
    for weight in SMOOTHING:
        smooth = weight * stable + (1 - weight) * prices
        value, column = knapsack(smooth, cutting.sizes, cutting.demand, cutting.capacity, work)
        proven = float(smooth @ cutting.demand) / value
        if proven > cutting.bound:
            cutting.bound, stable = proven, smooth / value
        while len(found) < AT_ONCE and float(column @ prices) > PAYS:
            found.append(column)
            smooth = smooth * (column == 0)
            if work.left <= 0 or len(found) == AT_ONCE or not smooth.any():
                break
            _, column = knapsack(smooth, cutting.sizes, cutting.demand, cutting.capacity, work)
        if found or work.left <= 0:
            break
    return stable, found


def knapsack(
    profits: "NDArray[Any]", sizes: "NDArray[Any]", most: "NDArray[Any]", capacity: int, work: Work
) -> "tuple[float, NDArray[np.int64]]":
    """The most profit that fits: the value, and how many of each size (shape (m,)) make it.

    A bounded knapsack by dynamic programming over the capacity; numbers up to `most` are made of doubling
    parts. `profits` are at least 0; sizes without profit are left out.
    """
    import numpy as np

    best = np.zeros(capacity + 1)
    taken: list[tuple[int, int, int, NDArray[np.bool_]]] = []
    items = zip(profits.tolist(), sizes.tolist(), most.tolist(), strict=True)
    for index, (profit, size, number) in enumerate(items):
        for part in _doubling(min(number, capacity // size) if profit > 0 else 0):
            weight = part * size
            other = best[:-weight] + part * profit
            better = other > best[weight:]
            np.copyto(best[weight:], other, where=better)
            taken.append((index, part, weight, better))
    work.spend(len(taken) * _update(capacity))
    chosen = np.zeros(len(sizes), dtype=np.int64)
    room = capacity
    for index, part, weight, better in reversed(taken):
        if weight <= room and better[room - weight]:
            chosen[index] += part
            room -= weight
    return float(best[capacity]), chosen


def _rounded(cutting: Cutting, numbers: "NDArray[np.float64]") -> Patterns:
    """Take each column as often as the program does, rounded down; at least the most used one, once.

    Columns hold what is still there of each length: the program may place more than there is.
    """
    import numpy as np

    whole = np.floor(numbers + SLACK).astype(np.int64)
    if not whole.any():
        whole[int(np.argmax(numbers))] = 1
    taken: Patterns = []
    for index in np.flatnonzero(whole).tolist():
        left = int(whole[index])
        while left:
            column = np.minimum(cutting.columns[index], cutting.demand)
            used = np.flatnonzero(column)
            if not len(used):
                break
            times = min(left, int((cutting.demand[used] // column[used]).min()))
            cutting.demand = cutting.demand - times * column
            block = zip(cutting.sizes[used].tolist(), column[used].tolist(), strict=True)
            taken.append((dict(block), times))
            left -= times
    return taken


def _shrink(cutting: Cutting) -> None:
    """Leave out the lengths that are all placed, and what columns hold beyond the demand."""
    import numpy as np

    keep = cutting.demand > 0
    cutting.sizes, cutting.demand = cutting.sizes[keep], cutting.demand[keep]
    cut = (np.minimum(column[keep], cutting.demand) for column in cutting.columns)
    cutting.columns = list({column.tobytes(): column for column in cut if column.any()}.values())
