"""What a measurement is of the rows it was taken on: a rule says it, and a sample makes an estimate of it.

    yield Measurement("rows_cut", 12, unit="rows", limit="0", statistic=Count())

On all rows a statistic changes nothing. On a sample the value becomes that of all rows as far as it can be
told, with an interval; the value of the sample stands beside it. A measurement over rows without a statistic
is about the sample alone, and says so.
"""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from ftcheck.records import Measurement
from ftcheck.sampling import intervals
from ftcheck.sampling.row_sample import Estimate, RowSample

if TYPE_CHECKING:
    from numpy.typing import NDArray

Number = float | int | str | bool | None
NUMBER = re.compile(r"\d+")


class Statistic(Protocol):
    """What a value is of the rows it was taken on."""

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """The value of all rows, and the interval around it; None where it depends on no row."""


@dataclass(frozen=True, slots=True)
class NotOfRows:
    """A setting, or a fact about a tokenizer, a model, other data: the same whatever rows are drawn."""

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """The value as it is."""
        return value, None


@dataclass(frozen=True, slots=True)
class OfSample:
    """A number of which a sample tells nothing about all rows."""

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """The value as it is."""
        return value, Estimate("sample", value)


@dataclass(frozen=True, slots=True)
class AllRows:
    """The number of all rows, which is known."""

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """All rows."""
        return sample.of, Estimate("count", value, sample.of, sample.of, sample.rows, sample.of)


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows that have something. Of `drawn` rows that might; None: of all that were drawn.

    `limit_of_drawn`: the measurement's limit is a share of the rows that were looked at, and grows with them.
    """

    drawn: int | None = None
    limit_of_drawn: bool = False

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """Scaled to all rows."""
        drawn, of = part(self.drawn, sample)
        if not drawn:
            return value, Estimate("sample", value)
        low, high = intervals.count(int(_numeric(value)), drawn, of)
        return min(high, max(low, round(_numeric(value) * of / drawn))), Estimate(
            "count", value, low, high, drawn, of
        )


@dataclass(frozen=True, slots=True)
class Share:
    """A share: `found` of `drawn` rows."""

    found: int
    drawn: int

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """The same share, between two."""
        drawn, of = part(self.drawn, sample)
        if not drawn:
            return value, Estimate("sample", value)
        low, high = intervals.count(self.found, drawn, of)
        return value, Estimate("share", value, low / of, high / of, drawn, of)


@dataclass(frozen=True, slots=True)
class Quantile:
    """A nearest-rank percentile of `values`, one or more for each row."""

    values: "NDArray[Any]"
    percentile: float

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """The same percentile, between two values of the sample."""
        import numpy as np

        drawn, of = part(len(self.values), sample)
        if not drawn:
            return value, Estimate("sample", value)
        ranked = np.sort(self.values)
        low, high = intervals.quantile_ranks(self.percentile, drawn, of)
        ends = (_ranked(ranked, low), _ranked(ranked, high))
        return value, Estimate("quantile", value, *ends, drawn=drawn, of=of)


@dataclass(frozen=True, slots=True)
class Total:
    """A sum over rows of `values`, one for each row that may have any. `limit_of_drawn` as of `Count`."""

    values: "NDArray[Any]"
    limit_of_drawn: bool = False

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """Scaled to all rows."""
        drawn, of = part(len(self.values), sample)
        if not drawn:
            return value, Estimate("sample", value)
        low, high = intervals.total(self.values, drawn, of)
        ends = (round(low), None if high is None else round(high))
        return round(_numeric(value) * of / drawn), Estimate("total", value, *ends, drawn=drawn, of=of)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One sum over rows divided by another: a value of each for every row, in the same order."""

    above: "NDArray[Any]"
    below: "NDArray[Any]"

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """The same ratio, between two; rows that are all alike do not tell."""
        drawn, of = part(len(self.above), sample)
        found = intervals.ratio(self.above, self.below, drawn, of) if drawn else None
        if found is None:
            return value, Estimate("sample", value)
        return value, Estimate("share", value, max(0.0, found[0]), found[1], drawn, of)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A maximum, or a number of things that more rows can only add to."""

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """The same value, as a lower bound."""
        return value, Estimate("at-least", value, low=_numeric(value))


@dataclass(frozen=True, slots=True)
class AtMost:
    """A minimum."""

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """The same value, as an upper bound."""
        return value, Estimate("at-most", value, high=_numeric(value))


@dataclass(frozen=True, slots=True)
class Between:
    """A value that the rule has already worked out for all rows, from `low` to `high`."""

    low: float | int | None
    high: float | int | None

    def estimate(self, value: Number, sample: RowSample) -> tuple[Number, Estimate | None]:
        """As it was worked out."""
        return value, Estimate("derived", None, self.low, self.high)


def _ranked(ranked: "NDArray[Any]", rank: int | None) -> int | float | None:
    found: int | float | None = None if rank is None else ranked[rank - 1].item()
    return found


def _numeric(value: Number) -> float | int:
    """A count, a sum or a maximum. Raises `TypeError` for anything else, which is a bug of the rule."""
    if not isinstance(value, int | float):
        raise TypeError(f"a statistic of rows needs a number, not {value!r}")
    return value


def part(drawn: int | None, sample: RowSample) -> tuple[int, int]:
    """So many rows or sequences of the sample, and about how many there are of these in all."""
    if drawn is None or drawn == sample.rows:
        return sample.rows, sample.of
    return drawn, max(drawn, round(drawn * sample.of / sample.rows))


def estimated(measurement: Measurement, sample: RowSample) -> Measurement:
    """A measurement on a sample, as it stands in the report."""
    statistic: Statistic = measurement.statistic or OfSample()
    value, found = statistic.estimate(measurement.value, sample)
    limit = measurement.limit
    if limit is not None and getattr(statistic, "limit_of_drawn", False):
        limit = NUMBER.sub(lambda one: str(int(one[0]) * sample.of // sample.rows), limit)
    return replace(measurement, value=value, limit=limit, estimate=found, statistic=None)
