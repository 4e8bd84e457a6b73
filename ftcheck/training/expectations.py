"""What a run is held against while it goes on: pace and memory, by the report that opened the gate."""

from ftcheck.errors import FtcheckError
from ftcheck.estimate.memory.formulas import CONTEXT, GIB
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.metric_history import Expected, Span
from ftcheck.records import Result
from ftcheck.report.record import Report
from ftcheck.settings import Job


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


def planned(job: Job, inputs: Inputs, expected: Expected) -> Expected:
    """With what the plan says of the job on this machine's GPU, where the report says nothing."""
    from ftcheck import planning

    if {"tokens_per_second", "memory_gib"} <= set(expected.known):
        return expected
    try:
        option = planning.stated(job, inputs)
    except FtcheckError:
        return expected
    found: dict[str, Span] = {}
    if option.hours.rate is not None:
        found["tokens_per_second"] = Span(round(option.hours.rate[0]), round(option.hours.rate[2]), "plan")
    if option.memory.low is not None and option.memory.high is not None:
        context = option.memory.parts.get("CUDA")
        found["memory_gib"] = _without_context(option.memory.low, option.memory.high, context, "plan")
    known = {**found, **expected.known}
    return Expected(known, {name: why for name, why in expected.unknown.items() if name not in known})


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
    return _without_context(low, high, _measured(result, "context_gib"), "memory-fit")


def _without_context(low: float, high: float, likely: float | None, source: str) -> Span:
    """Predicted GiB as torch counts them: without what CUDA takes for itself, `likely` GiB.

    Where that is less than it usually is, it was measured on the card, and is the same at both ends.
    """
    least, _, most = (one / GIB for one in CONTEXT)
    if likely is not None and likely < least:
        least = most = likely
    return Span(round(low - least, 2), round(high - most, 2), f"{source}, less CUDA's context")


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
        return "no report of the checks at stage before is available"
    if result is None:
        return f"the report does not contain the check {rule}"
    return f"{rule}: {result.reason or 'it measured nothing'}"
