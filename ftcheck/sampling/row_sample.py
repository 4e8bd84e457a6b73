"""A sample of the rows of a data set: how many, of how many, by which seed."""

from dataclasses import dataclass
from typing import Literal

CONFIDENCE = 0.95
"""Intervals hold the value of all rows in this share of samples."""

Kind = Literal["count", "share", "quantile", "total", "at-least", "at-most", "derived", "sample"]


@dataclass(frozen=True, slots=True)
class RowSample:
    """`rows` drawn of `of` rows with `seed`, each as likely as any other, none twice.

    `ids` is the digest over ids and labels of the drawn rows alone, in data order; None where a row could not
    be prepared, or nothing was tokenised.
    """

    rows: int
    of: int
    seed: int
    ids: str | None = None

    def __str__(self) -> str:
        """`1,000 of 50,000 rows`."""
        return f"{self.rows:,} of {self.of:,} rows"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a number counted on a sample says of all rows.

    `sampled` is the number in the sample. `low` and `high` hold the number of all rows at 95 %; None: on that
    side nothing is known. `kind` says how: `count` (rows, scaled to all), `share`, `quantile`, `total` (a sum
    over rows, scaled), `at-least` and `at-most` (a maximum, a minimum: other rows may go beyond), `derived`
    (worked out of other estimates), `sample`: nothing is said of the rows that were not drawn. `drawn` rows
    (or sequences) of the sample could have had what is counted, about `of` of all.
    """

    kind: Kind
    sampled: float | int | str | bool | None
    low: float | int | None = None
    high: float | int | None = None
    drawn: int | None = None
    of: int | None = None
