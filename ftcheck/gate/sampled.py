"""The gate on a report that is about a sample of a job's rows (data.sample)."""

from collections.abc import Iterator

from ftcheck.gate.ticket import Reason
from ftcheck.report.record import JobDigests, Report
from ftcheck.settings import Job, Policy


def refusals(digests: JobDigests, policy: Policy, job: str) -> Iterator[Reason]:
    """Why a job is not trained whose rows were not all checked: unless the policy accepts that by its name.

    Rows that are cut or dropped at a percentile of all lengths are others in a sample: it is not accepted.
    """
    sample, outliers = digests.sample, policy.jobs[job].data.outliers
    if sample is None:
        return
    if job not in policy.gate.accept_sample:
        yield Reason(
            "sampled",
            f"only {sample} were checked: remove jobs.{job}.data.sample and run the checks on all rows, or"
            f" accept the sample by its job's name, gate.accept_sample: [{job}]",
        )
    elif outliers is not None and outliers.action != "keep":
        yield Reason(
            "sampled",
            f"only {sample} were checked, and data.outliers.action: {outliers.action} needs the percentile of"
            f" all rows: remove jobs.{job}.data.sample and run the checks on all rows",
        )


def contradictions(report: Report, job: Job) -> Iterator[str]:
    """What a report says wrongly of a sample: it must be the policy's, and claim nothing of all rows."""
    digests, asked = report.jobs[job.name], job.data.sample
    sample, train = digests.sample, report.inputs.get(f"{job.name}.train")
    if sample is None:
        if (
            asked is not None
            and train is not None
            and (train.rows or 0) > asked.rows
            and job.divided is False
        ):
            yield f"has {train.rows:,} rows and no sample, but the job asks for {asked.rows:,} of them"
        return
    if asked is None:
        yield f"is about a sample ({sample}), but the job asks for none"
    elif (sample.rows, sample.seed) != (asked.rows, asked.seed) or sample.of <= sample.rows:
        yield f"is about a sample of {sample} with seed {sample.seed}, not the one that the job asks for"
    if digests.ids is not None:
        yield "has a digest over the ids of all rows, of which only a sample was checked"
