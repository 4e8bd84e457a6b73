"""Load rules: does the served job keep its latency at the load that is asked of it?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftcheck import Finding, Job, Measurement, Severity, Skip, Stage, Summary, rule
from ftcheck.extension.rules import Yield
from ftcheck.inputs.finished_run import Generations
from ftcheck.inputs.load_test import Load, LoadReport


@dataclass(frozen=True)
class ServingTarget:
    """Parameters of `serving-target`."""

    max_failed_share: float = 0.01
    """Share of the load test's requests that may have failed."""
    min_requests: int = 100
    """Answered requests below which a 95th percentile says little."""


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
    """The load test answered the requests a second that are asked for, within the latency.

    A server that is fast alone and slow with a hundred users is found out by the users; a mean latency hides
    every twentieth of them.

    Reads serving.load_report: the JSON of GuideLLM, AIPerf or `vllm bench serve --save-result`. Held against
    targets.requests_per_second and targets.p95_latency_ms, at one and the same level of load: the one with
    the lowest latency of those that answer enough requests. An error: no level keeps both, too many
    requests failed, the report does not say what the targets ask. A warning: few requests, or answers much
    shorter than those to the gold questions. Parameters: max_failed_share (default 0.01), min_requests
    (default 100).
    """
    if load_report is None:
        yield Skip("serving.load_report names no load test")
        return
    rate, latency = job.targets.requests_per_second, job.targets.p95_latency_ms
    if rate is None and latency is None:
        yield Skip("neither targets.requests_per_second nor targets.p95_latency_ms is set")
        return
    at = job.at("serving.load_report")
    missing = _missing(load_report, rate, latency)
    if missing is not None:
        fix = f"write it with: {load_report.hint}"
        yield Finding(f"{load_report.path} ({load_report.program}) {missing}", at=at, fix=fix)
        return
    load = _best(load_report.loads, rate)
    yield from _measured(load_report, load, rate, latency)
    yield from _missed(job, load_report, load)
    yield from _trusted(job, load, generations, params)


def _missing(report: LoadReport, rate: float | None, latency: float | None) -> str | None:
    """What the report does not say."""
    if not any(load.completed for load in report.loads):
        return "holds no request that was answered"
    if rate is not None and all(load.requests_per_second is None for load in report.loads):
        return "does not say how many requests a second were answered"
    if latency is not None and all(load.p95_latency_ms is None for load in report.loads):
        return "does not say the 95th percentile of the latency"
    return None


def _best(loads: Sequence[Load], rate: float | None) -> Load:
    """The level that is judged: of those that answer enough, the quickest; else the one that answers most."""
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
        message = f"at most {pace or 0:,.1f} requests a second were answered, not {rate:g}"
        fix = "more replicas, or a shorter answer: `ftcheck plan` counts replicas"
        yield Finding(message, at=job.at("targets.requests_per_second"), fix=fix)
    if latency is not None and (p95 is None or p95 > latency):
        told = f"{p95:,.0f} ms" if p95 is not None else "not told"
        message = f"the 95th percentile of the latency is {told} at this load, not {latency:g} ms"
        fix = "shorter answers, more replicas, or a smaller or quantised model"
        yield Finding(message, at=job.at("targets.p95_latency_ms"), fix=fix)


def _trusted(
    job: Job, load: Load, generations: Generations | None, params: ServingTarget
) -> Iterator[Finding]:
    at, total = job.at("serving.load_report"), load.completed + load.failed
    if load.failed > params.max_failed_share * total:
        message = f"{load.failed:,} of {total:,} requests failed: the latency is that of the rest"
        yield Finding(message, at=at, fix="look at the server's log; take less load, or more replicas")
    if load.completed < params.min_requests:
        message = f"{load.completed:,} requests were answered: too few for a 95th percentile"
        yield Finding(message, Severity.WARNING, at=at, fix=f"send {params.min_requests:,} or more")
    counted = (
        [one.tokens for one in generations.items if one.tokens is not None] if generations is not None else []
    )
    mean = sum(counted) / len(counted) if counted else None
    if mean is not None and load.output_tokens is not None and load.output_tokens < mean / 2:
        message = f"its answers have {load.output_tokens:.0f} tokens on average, those to the gold {mean:.0f}"
        fix = "test with prompts and answers like the real ones: latency grows with the answer"
        yield Finding(message, Severity.WARNING, at=at, fix=fix)
