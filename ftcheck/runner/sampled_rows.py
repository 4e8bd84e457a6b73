"""A check's result where its rows are a sample: estimates in the place of counts, and words that say so."""

from dataclasses import replace

from ftcheck.inputs.container import Inputs
from ftcheck.records import Finding, Result, Stage
from ftcheck.sampling.row_sample import RowSample
from ftcheck.sampling.statistics import estimated

OVER_ROWS = ("prepared", "rows")
"""The inputs that hold rows of data.train; others are made of these."""


def sample_of(inputs: Inputs, asked: frozenset[str]) -> RowSample | None:
    """The sample that a check looked at, by the inputs it asked for; None where it looked at no such rows."""
    for name in OVER_ROWS:
        found = inputs.opened(name) if name in asked else None
        if found is not None and found.sample is not None:
            sample: RowSample = found.sample
            return sample
    return None


def on_sample(result: Result, sample: RowSample) -> Result:
    """The result of a check that looked at a sample; what is measured after a training is no row's."""
    before = result.check.stage is Stage.BEFORE
    return replace(
        result,
        measurements=tuple(estimated(one, sample) if before else one for one in result.measurements),
        summary=f"{result.summary} · on a sample" if result.summary else None,
        findings=tuple(_said(one, sample) for one in result.findings),
    )


def _said(finding: Finding, sample: RowSample) -> Finding:
    """A finding about one row stays as it is: the row is there. What counts rows says which it counted.

    In a line of its own, so that the finding keeps its fingerprint.
    """
    if finding.at is not None and finding.at.row is not None:
        return finding
    return replace(finding, message=f"{finding.message}\ncounted on a sample: {sample}")
