"""A number that is not known exactly."""

import math
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["fits", "tight", "does not fit"]


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

    def by(self, other: "Interval") -> "Interval":
        """The product of two positive numbers, either of which may be anywhere in its interval."""
        return Interval(self.low * other.low, self.likely * other.likely, self.high * other.high)

    def into(self, amount: float) -> "Interval":
        """`amount` by this, turned round: tokens by seconds are tokens a second."""
        ends = (self.high, self.likely, self.low)
        return Interval(*(amount / one if one else math.inf for one in ends))


def between(*ones: Interval) -> Interval:
    """One interval for a number that may be any of these: likely in the middle (of logarithms).

    Which of them it is, and where in it, are independent of each other: their spreads add up as squares.
    """
    if len(ones) == 1:
        return ones[0]
    likely = [math.log(one.likely) for one in ones]
    middle, half = (max(likely) + min(likely)) / 2, (max(likely) - min(likely)) / 2
    down = max(math.log(one.likely / one.low) for one in ones)
    up = max(math.log(one.high / one.likely) for one in ones)
    return Interval(
        math.exp(middle - math.hypot(half, down)), math.exp(middle), math.exp(middle + math.hypot(half, up))
    )


def within(likely: float, high: float, limit: float) -> Verdict:
    """`fits` where also the upper end is within the limit, `tight` where only the likely value is."""
    if high <= limit:
        return "fits"
    return "tight" if likely <= limit else "does not fit"
