"""What a sample without replacement says of the whole, at 95 %: counts, quantiles, totals, ratios.

Counts and quantiles are exact (hypergeometric), counts of more than `EXACT` rows by Wilson's interval. Where
a sample has none, or nothing else, one side is certain and the other takes all of the 5 %: none of 1,000,000
is at most 0.0003 % ("the rule of three"). Totals and ratios take Student's t, by the normal approximation of
means: it needs `ENOUGH` rows that are not alike, else one end is unknown.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAIL = 0.025
"""What either end of an interval may miss."""
Z = 1.959963984540054
EXACT = 2_000
ENOUGH = 30
"""Rows with something to add up, below which a sum's distribution is not taken for normal."""


def at_most_probability(found: int, total: int, marked: int, drawn: int) -> float:
    """The probability of at most `found` marked ones among `drawn` of `total`, of which `marked` are."""
    lowest = max(0, drawn - (total - marked))
    if found < lowest:
        return 0.0
    if found >= min(drawn, marked):
        return 1.0
    if found > drawn * marked / total:
        # The other tail is the shorter sum: marked ones are those that are not.
        return 1.0 - at_most_probability(drawn - found - 1, total, total - marked, drawn)
    term = math.exp(_log_mass(found, total, marked, drawn))
    summed, number = 0.0, found
    while number >= lowest and term > summed * 1e-17:
        summed += term
        over = (marked - number + 1) * (drawn - number + 1)
        term *= number * (total - marked - drawn + number) / over
        number -= 1
    return min(1.0, summed)


def _log_mass(found: int, total: int, marked: int, drawn: int) -> float:
    return _log_choose(marked, found) + _log_choose(total - marked, drawn - found) - _log_choose(total, drawn)


def _log_choose(whole: int, part: int) -> float:
    return math.lgamma(whole + 1) - math.lgamma(part + 1) - math.lgamma(whole - part + 1)


def count(found: int, drawn: int, total: int) -> tuple[int, int]:
    """How many of `total` there are at least and at most, if `found` of `drawn` are. `drawn` is not 0."""
    if drawn >= total:
        return found, found
    if min(found, drawn - found) > EXACT:
        return _wilson(found, drawn, total)
    return total - _most(drawn - found, drawn, total), _most(found, drawn, total)


def _most(found: int, drawn: int, total: int) -> int:
    """The largest number with which so few found ones are not too improbable."""
    low, high = found, total - (drawn - found)
    tail = 2 * TAIL if found == 0 else TAIL
    while low < high:
        middle = (low + high + 1) // 2
        if at_most_probability(found, total, middle, drawn) > tail:
            low = middle
        else:
            high = middle - 1
    return low


def _wilson(found: int, drawn: int, total: int) -> tuple[int, int]:
    """Wilson's interval, with the correction for drawing from a finite whole."""
    square = Z * Z * (total - drawn) / (total - 1)
    share, scale = found / drawn, 1 + square / drawn
    middle = (share + square / (2 * drawn)) / scale
    half = math.sqrt(square * (share * (1 - share) / drawn + square / (4 * drawn * drawn))) / scale
    low, high = math.floor(total * (middle - half)), math.ceil(total * (middle + half))
    return max(found, low), min(total - (drawn - found), high)


def quantile_ranks(percentile: float, drawn: int, total: int) -> tuple[int | None, int | None]:
    """Between which ranks of the sample (from 1) the nearest-rank percentile of all lies; None: beyond it."""
    if drawn >= total:
        rank = max(1, math.ceil(percentile / 100 * total))
        return rank, rank
    rank = min(total, max(1, math.ceil(percentile / 100 * total)))
    # The l-th is not above it if at least l drawn ones are among the `rank` smallest.
    low = _rank(lambda one: at_most_probability(one - 1, total, rank, drawn) <= TAIL, drawn)
    # The u-th is not below it if fewer than u drawn ones are among those before it.
    below = _rank(lambda one: at_most_probability(one - 1, total, rank - 1, drawn) < 1 - TAIL, drawn)
    return low or None, below + 1 if below < drawn else None


def _rank(holds: Callable[[int], bool], drawn: int) -> int:
    """The largest rank for which it holds, which it does up to some rank; 0 where for none."""
    low, high = 0, drawn
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def total(values: "NDArray[Any]", drawn: int, of: int) -> tuple[float, float | None]:
    """What the sum over all `of` rows is at least and at most, if the drawn rows have these values.

    Values are not negative. `drawn` may be more than there are values: the others are 0. The sum of the
    sample is certain; with fewer than `ENOUGH` values above 0 there is no upper end.
    """
    import numpy as np

    found = np.asarray(values, dtype=np.float64)
    summed = float(found.sum())
    if drawn >= of:
        return summed, summed
    if int((found > 0).sum()) < ENOUGH:
        return summed, None
    mean = summed / drawn
    spread = float((found * found).sum()) - drawn * mean * mean
    half = _students_t(drawn - 1) * of * math.sqrt(max(0.0, spread) / (drawn - 1) / drawn * (1 - drawn / of))
    return max(summed, of * mean - half), of * mean + half


def ratio(above: "NDArray[Any]", below: "NDArray[Any]", drawn: int, of: int) -> tuple[float, float] | None:
    """Between which values one sum divided by another lies; None where rows are too much alike to tell.

    Both have a value for each row, in the same order. By the linear approximation (Cochran 1977, 6.4).
    """
    import numpy as np

    upper, lower = (np.asarray(one, dtype=np.float64) for one in (above, below))
    if not lower.sum():
        return None
    found = float(upper.sum() / lower.sum())
    if drawn >= of:
        return found, found
    rest = upper - found * lower
    if int((np.abs(rest) > 1e-9).sum()) < ENOUGH:
        return None
    error = math.sqrt(float((rest * rest).sum()) / (drawn - 1) / drawn * (1 - drawn / of))
    half = _students_t(drawn - 1) * error / (float(lower.sum()) / drawn)
    return found - half, found + half


def _students_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, by the first terms of its expansion (Abramowitz, Stegun 26.7.5)."""
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    return Z + first / degrees + second / degrees**2
