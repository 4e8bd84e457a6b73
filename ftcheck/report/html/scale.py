"""Axes: round numbers for their ticks, and where a value stands between the ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

STEPS = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` on the stretch from `start` to `end`, in units of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value stands; one outside stands at the nearer end."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.0
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, about: int = 5) -> Sequence[float]:
        """Round numbers between the ends."""
        return ticks(self.low, self.high, about)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """About so many round numbers from `low` to `high`, both included where they are round."""
    if not high > low:
        return [low]
    step = _round_up((high - low) / about)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def _round_up(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(one for one in STEPS if one * power >= rough * (1 - 1e-9)) * power


def top(value: float, about: int = 5) -> float:
    """The smallest end of an axis at a round number that holds a value."""
    if value <= 0:
        return 1.0
    step = _round_up(value / about)
    return math.ceil(value / step - 1e-9) * step


def label(value: float) -> str:
    """A tick's number: `1,500`, `0.2`, `20k`, `1.5M`."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 20_000:
        return f"{value / 1e3:g}k"
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"
