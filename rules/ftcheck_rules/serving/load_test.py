"""Load-test rules: does the served job meet its latency target under the required load?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftcheck import Finding, Job, Measurement, Severity, Skip, Stage, Summary, rule
from ftcheck.extension.rules import Yield
from ftcheck.inputs.finished_run import Generations
from ftcheck.inputs.load_test import Load, LoadReport
from ftcheck.plurals import agreeing, counted


@dataclass(frozen=True)
class ServingTarget:
    """Parameters of `serving-target`."""

    max_failed_share: float = 0.01
    """Share of the load test's requests that may have failed."""
    min_requests: int = 100
    """The fewest answered requests that are enough for a 95th percentile."""


@rule(
    "serving-target",
    family="serving",
    cases="ftcheck_rules.serving.cases.load_test",
    stage=Stage.AFTER,
    only=("serving.load_report",),
)
def serving_target(
    job: Job, load_report: LoadReport | None, generations: Generations | None, params: ServingTarget
) -> Iterator[Yield]:
    """The load test reached the required requests per second within the latency target.

    A server that is fast alone but slow with a hundred users is noticed by the users; an average latency
    hides every twentieth of them.

    Reads serving.load_report: the JSON of GuideLLM, AIPerf or `vllm bench serve --save-result`. Compared with
    targets.requests_per_second and targets.p95_latency_ms at the same level of load: the one with the lowest
    latency among those that answer enough requests. An error: no level meets both, too many requests failed,
    or the report does not contain what the targets need. A warning: few requests, or answers much shorter
    than those to the gold questions. Parameters: max_failed_share (default 0.01), min_requests (default 100).
    """
    if load_report is None:
        yield Skip("serving.load_report is not set")
        return
    rate, latency = job.targets.requests_per_second, job.targets.p95_latency_ms
    if rate is None and latency is None:
        yield Skip("neither targets.requests_per_second nor targets.p95_latency_ms is set")
        return
    at = job.at("serving.load_report")
    missing = _missing(load_report, rate, latency)
    if missing is not None:
        fix = f"create the report with: {load_report.hint}"
        yield Finding(f"{load_report.path} ({load_report.program}) {missing}", at=at, fix=fix)
        return
    load = _best(load_report.loads, rate)
    yield from _measured(load_report, load, rate, latency)
    yield from _missed(job, load_report, load)
    yield from _trusted(job, load, generations, params)


def _missing(report: LoadReport, rate: float | None, latency: float | None) -> str | None:
    """What the report does not contain."""
    if not any(load.completed for load in report.loads):
        return "contains no answered request"
    if rate is not None and all(load.requests_per_second is None for load in report.loads):
        return "does not contain the answered requests per second"
    if latency is not None and all(load.p95_latency_ms is None for load in report.loads):
        return "does not contain the 95th percentile of the latency"
    return None


def _best(loads: Sequence[Load], rate: float | None) -> Load:
    """The level that is judged: the fastest of those that answer enough; else the one that answers most."""
    told = [load for load in loads if load.completed]
    enough = [load for load in told if rate is None or (load.requests_per_second or 0) >= rate]
    if enough:
        return min(enough, key=lambda load: (load.p95_latency_ms is None, load.p95_latency_ms or 0))
    return max(told, key=lambda load: load.requests_per_second or 0)


def _measured(report: LoadReport, load: Load, rate: float | None, latency: float | None) -> Iterator[Yield]:
    asked = f">= {rate:g}" if rate is not None else None
    yield Measurement("requests_per_second", _rounded(load.requests_per_second), limit=asked)
    most = f"<= {latency:g}" if latency is not None else None
    yield Measurement("p95_latency_ms", _rounded(load.p95_latency_ms), unit="ms", limit=most)
    yield Measurement("requests", load.completed, unit="requests")
    yield Measurement("failed", load.failed, unit="requests")
    pace, p95 = load.requests_per_second, load.p95_latency_ms
    said = [f"{pace:,.1f} requests/s"] if pace is not None else []
    said += [f"p95 {p95:,.0f} ms"] if p95 is not None else []
    yield Summary(" at ".join(said) + f" ({report.program}, {load.name})")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _missed(job: Job, report: LoadReport, load: Load) -> Iterator[Finding]:
    rate, latency = job.targets.requests_per_second, job.targets.p95_latency_ms
    pace, p95 = load.requests_per_second, load.p95_latency_ms
    if rate is not None and (pace is None or pace < rate):
        message = f"at most {pace or 0:,.1f} requests per second were answered,"
        message += f" targets.requests_per_second is {rate:g}"
        fix = "use more replicas, or shorter answers; `ftcheck plan` estimates the replicas"
        yield Finding(message, at=job.at("targets.requests_per_second"), fix=fix)
    if latency is not None and (p95 is None or p95 > latency):
        told = f"{p95:,.0f} ms" if p95 is not None else "unknown"
        message = f"the 95th percentile of the latency is {told} at this load,"
        message += f" targets.p95_latency_ms is {latency:g}"
        fix = "use shorter answers, more replicas, or a smaller or quantised model"
        yield Finding(message, at=job.at("targets.p95_latency_ms"), fix=fix)


def _trusted(
    job: Job, load: Load, generations: Generations | None, params: ServingTarget
) -> Iterator[Finding]:
    at, total = job.at("serving.load_report"), load.completed + load.failed
    if load.failed > params.max_failed_share * total:
        message = f"{load.failed:,} of {counted(total, 'request')} failed"
        fix = "check the server's log; test with less load, or with more replicas"
        why = "The measured latency is only that of the requests that succeeded."
        yield Finding(message, at=at, fix=fix, why=why)
    if load.completed < params.min_requests:
        were = agreeing(load.completed, "was", "were")
        message = f"{counted(load.completed, 'request')} {were} answered, too few for a 95th percentile"
        fix = f"send at least {params.min_requests:,} requests"
        yield Finding(message, Severity.WARNING, at=at, fix=fix)
    lengths = (
        [one.tokens for one in generations.items if one.tokens is not None] if generations is not None else []
    )
    mean = sum(lengths) / len(lengths) if lengths else None
    if mean is not None and load.output_tokens is not None and load.output_tokens < mean / 2:
        message = (
            f"the answers of the load test have {load.output_tokens:.0f} tokens on average, those to the"
        )
        message += f" gold questions {mean:.0f}"
        fix = "test with prompts and answers like the real ones"
        why = "Latency grows with the length of the answer: real requests are slower than the test says."
        yield Finding(message, Severity.WARNING, at=at, fix=fix, why=why)
