"""What a run is held against while it goes on: pace and memory, by the report that opened the gate."""

from ftcheck.memory.formulas import CONTEXT, GIB
from ftcheck.records import Result
from ftcheck.report import Report
from ftcheck.settings import Job
from ftcheck.window import Expected, Span


def expectations(job: Job, report: Report | None) -> Expected:
    """The plan's pace and the predicted memory of a job; each unknown with the reason."""
    known: dict[str, Span] = {}
    unknown: dict[str, str] = {}
    for name, found in (("tokens_per_second", _pace(job, report)), ("memory_gib", _memory(job, report))):
        if isinstance(found, Span):
            known[name] = found
        else:
            unknown[name] = found
    return Expected(known, unknown)


def _pace(job: Job, report: Report | None) -> Span | str:
    """The interval of `run-time`, else the target."""
    result = _result(job, report, "run-time")
    low, high = (_measured(result, f"tokens_per_second{end}") for end in ("_low", "_high"))
    if low is not None and high is not None:
        return Span(low, high, "run-time")
    if job.targets.tokens_per_second is not None:
        return Span(job.targets.tokens_per_second, None, "targets.tokens_per_second")
    return _why(result, report, "run-time")


def _memory(job: Job, report: Report | None) -> Span | str:
    """The interval of `memory-fit` without what CUDA takes for itself, which torch does not count."""
    result = _result(job, report, "memory-fit")
    low, high = (_measured(result, f"peak_gib{end}") for end in ("_low", "_high"))
    if low is None or high is None:
        return _why(result, report, "memory-fit")
    least, most = (
        round(peak - context / GIB, 2) for peak, context in ((low, CONTEXT[0]), (high, CONTEXT[2]))
    )
    return Span(least, most, "memory-fit, less CUDA's context")


def _result(job: Job, report: Report | None, rule: str) -> Result | None:
    results = report.results if report is not None else ()
    return next((one for one in results if (one.check.job, one.check.rule) == (job.name, rule)), None)


def _measured(result: Result | None, name: str) -> float | None:
    for one in result.measurements if result is not None else ():
        if one.name == name and isinstance(one.value, int | float):
            return float(one.value)
    return None


def _why(result: Result | None, report: Report | None, rule: str) -> str:
    if report is None:
        return "there is no report of the checks before the run"
    if result is None:
        return f"{rule} is not among the checks of the report (its settings are not stated)"
    return f"{rule}: {result.reason or 'it measured nothing'}"
