"""What some real steps of a job took on this machine, and what that says of other settings of it."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ftcheck.inputs.probe import Probe
from ftcheck.plurals import counted

if TYPE_CHECKING:
    from ftcheck.estimate.interval import Interval
    from ftcheck.planning.records import Figure

STEPS = 3
"""Steps of a probe; the first one, in which libraries warm up and memory is laid out, is not timed."""
SAME = 0.02
"""Share by which another run with the probed settings may need more or less memory."""
OTHER = 0.05
"""The same for other settings, whose estimate is scaled by what the probe measured."""


def memory(estimated: "Figure", stated: "Figure", probe: Probe, *, same: bool) -> "Figure":
    """An estimate of memory in the light of a probe. `stated` is that of the probed settings.

    The probed settings (`same`) need what was measured; others what was estimated, times how far the
    estimate of the probed ones was off.
    """
    if probe.peak_gib is None:
        return estimated
    spread, likely = SAME, probe.peak_gib
    if not same:
        if estimated.likely is None or not stated.likely:
            return estimated
        spread, likely = OTHER, estimated.likely * probe.peak_gib / stated.likely
    said = f"measured: {probe.peak_gib:.2f} GiB in {counted(probe.steps, 'step')} on {probe.device}"
    return replace(
        estimated,
        low=likely * (1 - spread),
        likely=likely,
        high=likely * (1 + spread),
        unit="GiB",
        why="",
        needed=None,
        by="probe",
        at_least=None,
        assumes=(said,) if same else (said, "the estimate of other settings is off by the same factor"),
    )


def pace(estimated: "Interval | None", stated: "Interval | None", probe: Probe, *, same: bool) -> "Interval":
    """Real tokens a second of some settings, in the light of a probe of the `stated` ones."""
    from ftcheck.estimate.interval import Interval
    from ftcheck.estimate.run_time import around

    measured = around(probe.tokens_per_second)
    if same or estimated is None or stated is None:
        return measured
    factor = estimated.likely / stated.likely
    wider = 1 + OTHER
    return Interval(measured.low * factor / wider, measured.likely * factor, measured.high * factor * wider)
