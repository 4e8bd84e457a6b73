"""What a check of stage `during` looks at: the last metric lines of a run, and what was expected of it."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ftcheck.inputs.run_folder import (
    Metric,
    mapping,
    number,
    text,
)

FIRST = 50
"""Training lines that are kept from the beginning of a run."""
LAST = 500
"""Training lines, and lines of evaluations, that are kept from its end."""


@dataclass(frozen=True, slots=True)
class Span:
    """What was expected of a number: at least `low`, at most `high` (None: no limit), by whom (`source`)."""

    low: float | None
    high: float | None
    source: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What was expected of a run, by name: `tokens_per_second`, `memory_gib`, `trained_share`.

    `unknown` says of the others why nothing is expected.
    """

    known: Mapping[str, Span] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)

    def why_unknown(self, name: str) -> str:
        """Why nothing is expected of a number."""
        return self.unknown.get(name, "no expected range is known")


@dataclass(frozen=True, slots=True)
class MetricHistory:
    """A run while it goes on. `first` and `last` are training lines, oldest first; at most `LAST` are kept.

    `logged` counts the training lines since the run began. `evaluations` are lines with an `eval_loss`.
    `device` is `cuda`, `cpu` or what else torch calls it (None: nobody said); `memory_gib` is all the
    memory that the device has.
    """

    first: tuple[Metric, ...] = ()
    last: tuple[Metric, ...] = ()
    evaluations: tuple[Metric, ...] = ()
    logged: int = 0
    total: int | None = None
    expected: Expected = field(default_factory=Expected)
    device: str | None = None
    memory_gib: float | None = None

    @property
    def step(self) -> int:
        """The step of the newest line."""
        newest = (self.last[-1:], self.evaluations[-1:])
        return max((line.step for lines in newest for line in lines), default=0)


class Lines:
    """Collects metric lines of a run that goes on, and gives them as a window."""

    def __init__(self) -> None:
        """No line yet."""
        self._first: list[Metric] = []
        self._last: deque[Metric] = deque(maxlen=LAST)
        self._evaluations: deque[Metric] = deque(maxlen=LAST)
        self._logged = 0

    def add(self, line: Metric) -> bool:
        """Keep a line; whether it is one that checks look at."""
        if line.is_training:
            self._logged += 1
            self._last.append(line)
            if len(self._first) < FIRST:
                self._first.append(line)
        elif line.is_evaluation:
            self._evaluations.append(line)
        return line.is_training or line.is_evaluation

    def window(self, **about: Any) -> MetricHistory:
        """What was collected; `about` are the window's other fields."""
        kept = tuple(self._first), tuple(self._last), tuple(self._evaluations)
        return MetricHistory(*kept, self._logged, **about)


def numbers(lines: Iterable[Metric], name: str) -> list[float]:
    """The finite values of a number in these lines."""
    return [value for line in lines if (value := line.number(name)) is not None]


def middle(values: Iterable[float]) -> float | None:
    """The median; None of nothing."""
    found = list(values)
    return median(found) if found else None


def expected_to_dict(expected: Expected) -> dict[str, Any]:
    """What was expected, as run.json keeps it."""
    known = {
        name: {"low": span.low, "high": span.high, "source": span.source}
        for name, span in expected.known.items()
    }
    return {**known, "unknown": dict(expected.unknown)}


def expected_from_dict(data: Any) -> Expected:
    """What run.json keeps; what cannot be read is not there."""
    found = mapping(data)
    known = {
        name: Span(number(one.get("low")), number(one.get("high")), text(one.get("source")) or "")
        for name, one in found.items()
        if name != "unknown" and isinstance(one, Mapping)
    }
    unknown = {str(name): str(why) for name, why in mapping(found.get("unknown")).items()}
    return Expected(known, unknown)
