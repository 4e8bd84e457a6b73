"""What an earlier run's morning after measured: the record that rules ask for as `baseline`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Baseline:
    """The accuracy of a job in an earlier JSON report; None where it was not measured there.

    `same_gold` is whether the same gold questions were asked.
    """

    path: str
    accuracy: float | None
    rows: int | None = None
    same_gold: bool = True
