"""The words for what was checked on a sample: of a report, of a job, of a number with its interval."""

import math

from ftcheck.records import Measurement, Result
from ftcheck.report.numbers import number
from ftcheck.report.record import Report
from ftcheck.sampling.row_sample import Estimate, RowSample

SHOWN = 3
"""So many estimates stand beside a check's name."""


def state(report: Report) -> str:
    """Which jobs were checked on a sample of their rows; empty where all rows were."""
    said = [f"{job} {one.sample} (seed {one.sample.seed})" for job, one in report.jobs.items() if one.sample]
    return f"a sample was checked: {'; '.join(said)}; intervals are at 95 %" if said else ""


def sampled_words(sample: RowSample) -> str:
    """What a training behind a sample stands on."""
    rest = sample.of - sample.rows
    return (
        f"gate: on a sample: {sample} were checked (seed {sample.seed}); the other {rest:,} are trained"
        " unchecked, from the same files"
    )


def estimates(result: Result) -> str:
    """What a check's numbers say of all rows, those with a limit first; alike ones are said together."""
    told = [one for one in result.measurements if one.estimate is not None and _says(one.estimate)]
    told.sort(key=lambda one: one.limit is None)
    names: dict[str, list[str]] = {}
    for one in told:
        names.setdefault(valued(one), []).append(one.name)
    said = [f"{', '.join(those)} {value}" for value, those in list(names.items())[:SHOWN]]
    return f"all rows: {'; '.join(said)}" if said else ""


def _says(found: Estimate) -> bool:
    """Whether there is something to say of all rows that the number alone does not."""
    return found.kind != "sample" and (found.low is None or found.low != found.high)


def valued(one: Measurement) -> str:
    """A number with what it says of all rows: `600 (310 to 1,047)`, `at least 1,040`."""
    found, value = one.estimate, number(one.value)
    if found is None or (found.low is not None and found.low == found.high):
        return value
    if found.kind == "sample":
        return f"{value} (in the sample alone)"
    if found.kind == "at-least":
        return f"at least {value}" if found.low else f"{value} in the sample, which cannot rule them out"
    if found.kind == "at-most":
        return f"at most {value}"
    if found.kind == "count" and found.sampled == 0 and found.drawn and found.of:
        return _none(found)
    return f"{value} ({_ends(found)})"


def _none(found: Estimate) -> str:
    """`0 of 1,000,000 sampled rows, at most 0.0003 % of all at 95 %`."""
    share = 100 * float(found.high or 0) / float(found.of or 1)
    return f"0 of {found.drawn:,} sampled rows, at most {up(share)} % of all at 95 %"


def _ends(found: Estimate) -> str:
    low, high = found.low, found.high
    if not low and high is None:
        return "in the sample; what all rows have is unknown"
    if high is None:
        return f"at least {number(low)}"
    return f"at most {number(high)}" if low is None else f"{number(low)} to {number(high)}"


def up(share: float) -> str:
    """A number with two digits that count, rounded up: `0.0003`, `12`."""
    if share <= 0:
        return "0"
    digits = max(0, 1 - math.floor(math.log10(share)))
    text = f"{math.ceil(share * 10**digits - 1e-9) / 10**digits:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
