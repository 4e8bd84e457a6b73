"""A number that is not known exactly."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Interval:
    """The least, the likeliest and the most that a number may be."""

    low: float
    likely: float
    high: float

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, factor: float) -> "Interval":
        """Every end times a positive number."""
        return Interval(self.low * factor, self.likely * factor, self.high * factor)

    def into(self, amount: float) -> "Interval":
        """`amount` by this, turned round: tokens by seconds are tokens a second."""
        ends = (self.high, self.likely, self.low)
        return Interval(*(amount / one if one else math.inf for one in ends))


Verdict = Literal["fits", "tight", "does not fit"]


def within(likely: float, high: float, limit: float) -> Verdict:
    """`fits` where also the upper end is within the limit, `tight` where only the likely value is."""
    if high <= limit:
        return "fits"
    return "tight" if likely <= limit else "does not fit"
