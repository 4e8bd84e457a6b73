"""The words for numbers that were counted on a sample."""

from typing import Any

import numpy as np
import pytest

from ftcheck.records import Check, Measurement, Outcome, Result, Stage
from ftcheck.report import sampled, wording
from ftcheck.report.sampled import up
from ftcheck.sampling.row_sample import RowSample
from ftcheck.sampling.statistics import (
    AllRows,
    AtLeast,
    AtMost,
    Between,
    Count,
    NotOfRows,
    OfSample,
    Quantile,
    Ratio,
    Share,
    Statistic,
    Total,
    estimated,
)

SAMPLE = RowSample(1_000_000, 100_000_000, 0)
SMALL = RowSample(100, 1_000, 0)


def said(value: Any, statistic: Statistic | None, sample: RowSample = SMALL, **about: Any) -> str:
    return wording.measured(estimated(Measurement("n", value, statistic=statistic, **about), sample))


def test_none_in_a_sample_is_not_none_at_all() -> None:
    assert said(0, Count(), SAMPLE) == "n 0 of 1,000,000 sampled rows, at most 0.0003 % of all at 95 %"


def test_a_number_stands_with_what_it_says_of_all_rows() -> None:
    """5 of 100 of 1,000: 18 and 109 by whole numbers (hypergeometric); the rest by the definitions."""
    assert said(5, Count(), unit="rows", limit="0") == "n 50 (18 to 109) rows (limit 0)"
    assert said(0.05, Share(5, 100)) == "n 0.05 (0.018 to 0.109)"
    assert said(100, AllRows()) == "n 1,000"
    assert said(70, AtLeast()) == "n at least 70"
    assert said(0, AtLeast()) == "n 0 in the sample, which cannot rule them out"
    assert said(70, AtMost()) == "n at most 70"
    assert said(7, Between(5, 9)) == "n 7 (5 to 9)"
    assert said(7, NotOfRows()) == "n 7"
    assert said("bfd", OfSample()) == "n bfd (in the sample alone)"
    assert said(7, None) == "n 7 (in the sample alone)"
    assert said(50, Quantile(np.arange(1, 101), 50)) == "n 50 (41 to 60)"
    assert said(50, Quantile(np.arange(1, 11), 99)).endswith("(at least 9)")
    assert said(200, Total(np.full(100, 2))) == "n 2,000"
    assert said(3, Total(np.arange(100) < 3)) == "n 30 (at least 3)"
    assert said(0, Total(np.zeros(100))) == "n 0 (in the sample; what all rows have is unknown)"
    assert said(1.0, Ratio(np.ones(100), np.ones(100))) == "n 1 (in the sample alone)"


def test_a_limit_that_is_a_share_of_the_rows_grows_with_them() -> None:
    one = Measurement("n", 5, limit="<= 10", statistic=Count(limit_of_drawn=True))
    assert estimated(one, SMALL).limit == "<= 100"
    assert estimated(Measurement("n", 5, limit="<= 10", statistic=Count()), SMALL).limit == "<= 10"


def test_a_sample_that_is_everything_is_certain() -> None:
    assert said(5, Count(), RowSample(100, 100, 0)) == "n 5"


def test_alike_numbers_are_said_together_and_those_with_a_limit_first() -> None:
    check = Check("job::rule", "rule", "rule", "job", Stage.BEFORE)
    measured = [
        Measurement("a", 0, statistic=Count()),
        Measurement("b", 0, statistic=Count()),
        Measurement("c", 5, limit="0", statistic=Count()),
        Measurement("d", 5),
        Measurement("e", 5, statistic=NotOfRows()),
    ]
    done = Result(
        check, Outcome.PASSED, summary="fine", measurements=tuple(estimated(m, SMALL) for m in measured)
    )

    none = "0 of 100 sampled rows, at most 2.8 % of all at 95 %"
    assert wording.telling(done) == f"fine · all rows: c 50 (18 to 109); a, b {none}"
    assert sampled.estimates(Result(check, Outcome.PASSED)) == ""


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.00029956, "0.0003"), (2.9, "2.9"), (2.91, "3"), (12.3, "13"), (100, "100"), (0, "0")],
)
def test_a_bound_is_rounded_up_to_two_digits(share: float, text: str) -> None:
    assert up(share) == text
