"""Intervals against numbers worked out by hand, scipy's distributions, and the coverage that they promise."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from ftcheck.sampling import intervals

FAR = 100_000_000


def test_none_of_a_million_is_at_most_three_in_a_million() -> None:
    """(1 - p)^1,000,000 = 0.05 gives p = 2.9957e-6; of 10^8 rows 1 % is drawn, which takes a little off."""
    low, high = intervals.count(0, 1_000_000, FAR)
    assert low == 0
    assert 2.97e-6 < high / FAR < 2.996e-6


def test_none_of_half_by_hand() -> None:
    """1 of 2 drawn, of 2 rows in all with 1 marked: a half. So none of 1 excludes no more than 2 of 2."""
    assert intervals.count(0, 1, 2) == (0, 1)
    assert intervals.count(1, 1, 2) == (1, 2)


def test_all_drawn_is_certain() -> None:
    assert intervals.count(3, 10, 10) == (3, 3)


def at_most(found: int, total: int, marked: int, drawn: int) -> float:
    """The hypergeometric distribution by whole numbers, without any rounding before the end."""
    ways = sum(
        math.comb(marked, one) * math.comb(total - marked, drawn - one)
        for one in range(found + 1)
        if drawn - one <= total - marked
    )
    return float(Fraction(ways, math.comb(total, drawn)))


@pytest.mark.parametrize(
    ("found", "drawn", "total"), [(0, 50, 500), (1, 50, 500), (7, 200, 800), (199, 200, 800), (40, 90, 100)]
)
def test_counts_are_those_of_the_hypergeometric_distribution(found: int, drawn: int, total: int) -> None:
    """The largest and the least number that the observation does not speak against."""
    up = 0.05 if found == 0 else 0.025
    down = 0.05 if found == drawn else 0.025
    possible = range(found, total - (drawn - found) + 1)
    high = max(m for m in possible if at_most(found, total, m, drawn) > up)
    low = min(m for m in possible if 1 - at_most(found - 1, total, m, drawn) > down)
    assert intervals.count(found, drawn, total) == (low, high)


def test_the_tail_is_right_for_large_numbers_too() -> None:
    for found, total, marked, drawn in ((940, 100_000, 95_000, 1_000), (960, 100_000, 95_000, 1_000)):
        mine = intervals.at_most_probability(found, total, marked, drawn)
        assert mine == pytest.approx(at_most(found, total, marked, drawn), rel=1e-6)


def test_wilson_takes_over_without_a_step() -> None:
    """On the last count that is exact both agree within a hundredth of the interval's width."""
    found, drawn, total = intervals.EXACT, 100_000, 10_000_000
    exact, by_wilson = intervals.count(found, drawn, total), intervals._wilson(found, drawn, total)
    width = exact[1] - exact[0]
    assert max(abs(a - b) for a, b in zip(exact, by_wilson, strict=True)) < width / 50


def test_ranks_of_the_median_of_ten() -> None:
    """The textbook's distribution-free interval for a median of n = 10 at 95 %: the 2nd to the 9th value
    (binomial(10, 1/2): at most 1 has 0.0107, at most 2 has 0.0547)."""
    assert intervals.quantile_ranks(50, 10, FAR) == (2, 9)


def test_a_high_percentile_of_a_small_sample_has_no_upper_end() -> None:
    """0.95^50 = 0.077: with that probability all of 50 lie below the p95."""
    low, high = intervals.quantile_ranks(95, 50, FAR)
    assert low == 44
    assert high is None
    assert intervals.quantile_ranks(95, 80, FAR)[1] == 80  # 0.95^80 = 0.0165


def test_a_total_by_hand() -> None:
    """100 rows of 1,000, half of them 10 and half 20: mean 15, s = 5.0252, t(99) = 1.98422, f = 0.1:
    15,000 +- 1.98422 x 1,000 x 5.0252 / 10 x sqrt(0.9) = 945.9."""
    values = np.array([10, 20] * 50)
    low, high = intervals.total(values, 100, 1_000)
    assert high is not None
    assert low == pytest.approx(15_000 - 945.9, abs=0.2)
    assert high == pytest.approx(15_000 + 945.9, abs=0.2)


def test_a_sum_of_few_rows_is_a_lower_bound_only() -> None:
    values = np.zeros(1_000, dtype=int)
    values[:3] = 7
    assert intervals.total(values, 1_000, 5_000) == (21, None)
    assert intervals.total(np.zeros(1_000), 1_000, 5_000) == (0, None)


def test_a_ratio_of_rows_that_are_alike_is_not_told() -> None:
    ones = np.ones(100)
    assert intervals.ratio(ones, ones, 100, 1_000) is None


def covered(bounds: Sequence[tuple[float | None, float | None]], truth: float) -> float:
    """In which share of the intervals the truth lies."""
    held = [(low is None or low <= truth) and (high is None or truth <= high) for low, high in bounds]
    return sum(held) / len(held)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """20,000 lengths as chat data has them: log-normal, from 20 tokens to some thousands."""
    return np.round(np.exp(np.random.default_rng(1).normal(5.0, 0.8, 20_000))).astype(np.int64)


def test_intervals_cover_the_truth_in_95_of_100_samples(rows: np.ndarray) -> None:
    """500 samples of 1,000: the binomial's middle 99.9 % around 95 % is 91.8 to 98.2."""
    total, drawn = len(rows), 1_000
    samples = [np.random.default_rng(n).choice(rows, drawn, replace=False) for n in range(500)]
    long = [intervals.count(int((one > 500).sum()), drawn, total) for one in samples]
    assert covered(long, int((rows > 500).sum())) > 0.918
    sums = [intervals.total(one, drawn, total) for one in samples]
    assert 0.918 < covered(sums, float(rows.sum())) < 0.985
    half = [intervals.ratio(one // 2, one, drawn, total) for one in samples]
    assert 0.918 < covered([one for one in half if one], float((rows // 2).sum() / rows.sum())) < 0.985
    for percentile in (50, 95, 99):
        low, high = intervals.quantile_ranks(percentile, drawn, total)
        assert low is not None
        assert high is not None
        truth = np.sort(rows)[math.ceil(percentile / 100 * total) - 1]
        ends = [np.sort(one)[[low - 1, high - 1]] for one in samples]
        assert covered([(a, b) for a, b in ends], truth) > 0.918
