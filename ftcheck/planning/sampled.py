"""What a plan on a sample of the rows (data.sample) says of all of them."""

from collections.abc import Sequence
from dataclasses import replace

from ftcheck.estimate.blocks import fed_between
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.steps import steps
from ftcheck.inputs.prepared import Prepared
from ftcheck.planning.lengths import measured, row_lengths
from ftcheck.planning.records import Figure, OnSample
from ftcheck.sampling import intervals
from ftcheck.sampling.statistics import part
from ftcheck.settings import Job


def on_sample(job: Job, prepared: Prepared) -> OnSample | None:
    """Tokens and steps of all rows; None where all were prepared."""
    sample = prepared.sample
    if sample is None:
        return None
    lengths = row_lengths(prepared, measured(prepared))
    likely = float(lengths.sum()) * sample.of / sample.rows
    low, high = intervals.total(lengths, *part(len(lengths), sample))
    fed = fed_between(job, prepared)
    made = [steps(job, round(end)) for end in (fed.low, fed.likely, fed.high)]
    return OnSample(
        sample=sample,
        tokens=Figure(low, likely, high, "tokens"),
        an_epoch=_figure([one.an_epoch for one in made]),
        total=_figure([one.total for one in made]),
    )


def _figure(ends: Sequence[int]) -> Figure:
    low, likely, high = map(float, ends)
    return Figure(low, likely, high, "steps")


def wider(figure: Figure, by: Interval) -> Figure:
    """A time or a cost, as wide as the number of steps makes it."""
    if figure.low is None or figure.high is None:
        return figure
    return replace(figure, low=figure.low * by.low, high=figure.high * by.high)
