"""The policy's own targets against what the plan found: which hold, which do not, what to change."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ftcheck.packing.lengths import Histogram
from ftcheck.planning.records import Figure, Lengths, Step, Target
from ftcheck.settings import Job

NEAR = "unknown before training"
INSIDE = "the target is within the interval: it may or may not hold"


def targets(
    job: Job,
    lengths: Lengths,
    step: Step,
    memory: Figure,
    hours: Figure,
    cost: Figure,
    answers: Sequence[int],
) -> Iterator[Target]:
    """Each stated target with what was found. `answers` are the gold answers' tokens, if there are any."""
    yield from _max_length(job, lengths)
    yield from _step(job, step)
    yield from _new_tokens(job, lengths, answers)
    yield from _limits(job, memory, hours, cost)
    yield from _later(job)


def _max_length(job: Job, lengths: Lengths) -> Iterator[Target]:
    asked, stated = job.targets.max_length, job.training.max_length
    if asked is None:
        return
    low, high = asked
    inside = stated is not None and low <= stated <= high
    lost = lengths.trained.lost(stated) if stated is not None else 0
    best = (lengths.packed if job.training.packing else lengths.unpacked).length
    found = f"{stated:,}" if stated is not None else "null"
    if inside and lost:
        found += f", loses {lost:,} of {lengths.trained.total:,} trained tokens"
    if best is None:
        need = lengths.unpacked.needed
        remedy = f"raise targets.max_length, or shorten the rows: {need:,} tokens are needed"
    elif not inside:
        remedy = f"max_length: {found} -> {best}"
    else:
        remedy = ""
    yield Target("max_length", f"{low:,} to {high:,}", found, inside and best is not None, remedy)


def _step(job: Job, step: Step) -> Iterator[Target]:
    rows = step.batch * step.accumulation * step.devices
    if job.targets.effective_batch is not None:
        asked = job.targets.effective_batch
        remedy = "" if asked == rows else _accumulation(asked, step.batch * step.devices, "rows")
        yield Target("effective_batch", f"{asked:,}", f"{rows:,}", asked == rows, remedy)
    if step.target is None or step.nominal is None:
        return
    low, high = step.target
    holds = low <= step.nominal <= high
    at_once = step.nominal // step.accumulation
    fitting = range(max(1, -(-low // at_once)), high // at_once + 1)
    remedy = ""
    if not holds and fitting:
        new = min(fitting, key=lambda count: abs(count * at_once - (low + high) / 2))
        remedy = (
            f"gradient_accumulation_steps: {step.accumulation} -> {new} ({new * at_once:,} tokens per step)"
        )
    elif not holds:
        remedy = f"change per_device_train_batch_size: one batch has {at_once:,} tokens"
    product = f"{step.batch} x {step.accumulation} x {step.nominal // rows:,} = {step.nominal:,}"
    yield Target("tokens_per_step", f"{low:,} to {high:,}", product, holds, remedy)


def _accumulation(asked: int, at_once: int, unit: str) -> str:
    steps, rest = divmod(asked, at_once)
    if rest or not steps:
        return f"change per_device_train_batch_size: no accumulation of {at_once} {unit} makes {asked}"
    return f"gradient_accumulation_steps: {steps}"


def _new_tokens(job: Job, lengths: Lengths, answers: Sequence[int]) -> Iterator[Target]:
    asked, cap = job.targets.max_new_tokens, job.serving.max_new_tokens
    if asked is None:
        return
    p99, source = _answer_p99(lengths, answers)
    low, high = asked
    found = "serving.max_new_tokens is not set" if cap is None else f"{cap:,}"
    found += f" ({source} answers p99 {p99:,})" if p99 is not None else ""
    enough = cap is not None and (p99 is None or cap >= p99)
    holds = enough and cap is not None and low <= cap <= high
    remedy = ""
    if p99 is not None and p99 > high:
        remedy = f"raise targets.max_new_tokens to at least {p99:,}: {high:,} cuts answers"
    elif not holds and p99 is not None:
        remedy = f"serving.max_new_tokens: {min(high, max(low, -(-p99 // 16) * 16)):,}"
    yield Target("max_new_tokens", f"{low:,} to {high:,}", found, holds, remedy)


def _answer_p99(lengths: Lengths, answers: Sequence[int]) -> tuple[int | None, str]:
    """The p99 of the answers in tokens, of training or of gold: whichever asks for more."""
    import numpy as np

    gold = Histogram.of(np.asarray(answers, dtype=np.int64))
    sides = [(gold, "gold"), (lengths.completion, "training")]
    known = [(one.percentile(99), name) for one, name in sides if one is not None and one.sequences]
    return max(known, default=(None, ""), key=lambda side: side[0] or 0)


def _limits(job: Job, memory: Figure, hours: Figure, cost: Figure) -> Iterator[Target]:
    asked = job.targets
    if asked.memory_gib is not None:
        yield _memory(memory, asked.memory_gib)
    if asked.budget is not None:
        yield _at_most("budget", cost, asked.budget, "")
    if asked.deadline is not None:
        yield _deadline(asked.deadline, hours)
    if asked.tokens_per_second is not None:
        yield _speed(hours, asked.tokens_per_second)


def _speed(hours: Figure, asked: float) -> Target:
    limit = f"of at least {asked:,g}"
    if hours.rate is None:
        return Target("tokens_per_second", limit, hours.why, None)
    slow, likely, fast = hours.rate
    holds = True if slow >= asked else False if fast < asked else None
    remedy = "" if holds is not None else INSIDE
    return Target("tokens_per_second", limit, f"{likely:,.0f} ({slow:,.0f} to {fast:,.0f})", holds, remedy)


def _at_most(name: str, figure: Figure, limit: float, unit: str) -> Target:
    asked = f"of at most {limit:g} {unit}".rstrip()
    if figure.low is None or figure.high is None:
        return Target(name, asked, figure.why, None)
    found = f"{figure.likely:.4g} ({figure.low:.4g} to {figure.high:.4g})"
    holds = True if figure.high <= limit else False if figure.low > limit else None
    return Target(name, asked, found, holds, "" if holds is not None else INSIDE)


def _memory(figure: Figure, limit: float) -> Target:
    """By the verdict of `memory-fit`; where the memory is unknown, by the least that is needed."""
    made = _at_most("memory_gib", figure, limit, "GiB")
    if figure.at_least is not None:
        made = replace(made, found=f"at least {figure.at_least:.4g} GiB: {made.found}")
    verdict = figure.fits(limit)
    holds = None if verdict in (None, "tight") else verdict == "fits"
    return replace(made, holds=holds, remedy=INSIDE if verdict == "tight" else "")


def _deadline(stated: str, hours: Figure) -> Target:
    from datetime import datetime

    from ftcheck.estimate.run_time import seconds_left

    try:
        left = seconds_left(stated, datetime.now().astimezone())
    except ValueError as error:
        return Target("deadline", stated, str(error), None)
    return replace(_at_most("deadline", hours, left / 3600, "hours"), asked=stated)


def _later(job: Job) -> Iterator[Target]:
    """What only a running model shows."""
    asked = job.targets
    if asked.p95_latency_ms is not None:
        yield Target("p95_latency_ms", f"{asked.p95_latency_ms:g}", "unknown before a load test", None)
    if asked.requests_per_second is not None:
        found = "unknown before a load test"
        yield Target("requests_per_second", f"{asked.requests_per_second:,g}", found, None)
    if asked.accuracy is not None:
        yield Target("accuracy", f"{asked.accuracy:g}", NEAR, None)
