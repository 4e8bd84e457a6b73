"""Budget rules: will training finish before the deadline, and within the budget?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ftcheck import (
    Change,
    Finding,
    Job,
    Machine,
    Measurement,
    ModelConfig,
    Prepared,
    Severity,
    Skip,
    Summary,
    rule,
)
from ftcheck.durations import seconds
from ftcheck.errors import FtcheckError
from ftcheck.estimate.blocks import fed, packed, spread
from ftcheck.estimate.disk import STATES, trained_weights
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.run_time import (
    Duration,
    Evaluation,
    estimate,
    gpu_name,
    moment,
    seconds_left,
    wider,
)
from ftcheck.estimate.steps import (
    Steps,
    devices,
    every,
    steps,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.container import Inputs
from ftcheck.packing.padding import expected_padding, padding
from ftcheck.sampling.statistics import Between, NotOfRows, Statistic
from ftcheck.settings import Training

HOUR = 3600.0


@dataclass(frozen=True)
class RunTime:
    """Parameters of `run-time`."""

    start: str | None = None
    """When training starts: a time of day (22:00) or a date with a time; default: now."""


def plan(
    job: Job,
    model: ModelConfig,
    prepared: Prepared,
    evaluated: Prepared | None,
    gpu: str | None,
    measured: float | Interval | None = None,
) -> Duration:
    """How long a job takes on its rows: steps over packed blocks, padding, evaluations, checkpoints.

    `evaluated` are the rows of data.eval, None where nothing is evaluated. `measured` are tokens per second.
    """
    if not len(prepared.sequences):
        return Duration(problem="no row is left to train on")
    training = job.training
    if training.packing and training.max_length is None:
        return Duration(problem="packing is on, but max_length is null: TRL refuses to start")
    lengths = prepared.fed(training.max_length)
    counted = steps(job, fed(job, prepared))
    if not counted.total:
        return Duration(problem="no optimizer step is planned")
    tokens, share = _packed(job, prepared) if training.packing else (int(lengths.sum()), None)
    tokens = round(tokens * prepared.rows.total / max(1, len(prepared)))
    found = estimate(
        job,
        model.config,
        steps=counted.total,
        tokens_per_step=tokens * counted.epochs / counted.total,
        longest=training.max_length if training.packing and training.max_length else int(lengths.max()),
        padding=expected_padding(job, lengths) if share is None else share,
        mean_length=float(lengths.mean()),
        trained=float(prepared.trained.sum()) / max(1, int(prepared.kept.sum())),
        evaluation=_evaluation(job, counted, evaluated),
        saves=_saves(training, counted),
        checkpoint_bytes=STATES * (trained_weights(model.config, training.lora) or 0),
        gpu=gpu,
        measured=measured,
    )
    return found if training.max_steps > 0 else wider(found, spread(job, prepared))


def _packed(job: Job, prepared: Prepared) -> tuple[int, float]:
    """Tokens of the planned blocks, and the share of the blocks that is empty."""
    found = packed(prepared, job, int(job.training.max_length or 0))
    return found.tokens, max(0.0, 1 - found.fill(found.planned))


def _saves(training: Training, counted: Steps) -> int:
    """Checkpoints that are written, and the adapter at the end."""
    if training.save_strategy == "epoch":
        return math.ceil(counted.epochs) + 1
    if training.save_strategy == "steps":
        return counted.total // every(training.save_steps, counted.total) + 1
    return 1


def _evaluation(job: Job, counted: Steps, rows: Prepared | None) -> Evaluation | None:
    training = job.training
    if rows is None or not len(rows.sequences):
        return None
    times = math.ceil(counted.epochs)
    if training.eval_strategy == "steps":
        stated = training.eval_steps or training.logging_steps
        times = counted.total // every(stated, counted.total)
    lengths = rows.fed(training.max_length)
    batch = training.per_device_eval_batch_size
    share = padding(lengths, batch)
    scale = rows.rows.total / len(rows)
    batches = -(-round(len(lengths) * scale) // (batch * devices(job)))
    tokens = float(lengths.sum()) * scale / max(1e-9, 1 - share)
    return Evaluation(times, tokens, batches, int(lengths.max()))


def _eval_rows(job: Job, inputs: Inputs) -> Prepared | None:
    """The evaluation rows, where an evaluation is planned and they can be read."""
    if job.training.eval_strategy == "no" or not job.evaluable:
        return None
    try:
        rows: Prepared | None = inputs.get("prepared_eval")
    except FtcheckError:
        return None
    return rows


@rule(
    "run-time",
    family="budget",
    cases="ftcheck_rules.budget.cases.budget",
    only=("targets.deadline", "targets.tokens_per_second"),
)
def run_time(
    job: Job, model: ModelConfig, prepared: Prepared, machine: Machine, inputs: Inputs, params: RunTime
) -> Iterator[Yield]:
    """Training finishes before the deadline, and is as fast as required.

    A run that is not finished in the morning is stopped, and everything since the last checkpoint is lost; or
    it occupies a GPU that others have booked.

    The hours are estimated: multiplications of all steps (a frozen base computes no weight gradients) at a
    share of hardware.gpu's peak speed, memory traffic, dequantisation, evaluations, checkpoints and
    the start, each as an interval from a dated table (`ftcheck/tables/gpus.json`). It is an error if the
    likely time exceeds the deadline, a warning if the upper end does. With an unknown GPU or
    architecture the check is skipped: nothing is guessed. The speed of CPUs is not estimated.
    Parameters: start (default now), from which times of day are counted.
    """
    rows, gpu = _eval_rows(job, inputs), gpu_name(job, machine.gpus)
    found = plan(job, model, prepared, rows, gpu)
    if found.hours is None or found.tokens_per_second is None:
        yield Skip(f"the training time is unknown: {found.problem}")
        return
    try:
        left, fixed = _left(job, params)
    except ValueError as error:
        fix = "set the check's parameter start to a time such as 22:00"
        yield Finding(f"start: {error}", at=job.at("targets.deadline"), fix=fix)
        return
    yield from _measured(found, left, fixed, job.targets.tokens_per_second)
    yield Summary(_said(found))

    def again(changed: Job) -> Duration:
        return plan(changed, model, prepared, rows, gpu)

    if left is not None:
        yield from _late(job, found, left, again)
    if job.targets.tokens_per_second is not None:
        yield from _slow(job, found, job.targets.tokens_per_second, again)


def _left(job: Job, params: RunTime) -> tuple[float | None, bool]:
    """Hours until the deadline (None: there is none), and whether that is the same at any time."""
    deadline = job.targets.deadline
    if deadline is None:
        return None, True
    now = datetime.now().astimezone()
    begins = now if params.start is None else moment(params.start, now)
    return seconds_left(deadline, begins) / HOUR, seconds(deadline) is not None


def _measured(found: Duration, left: float | None, fixed: bool, pace: float | None) -> Iterator[Measurement]:
    assert found.hours is not None
    assert found.tokens_per_second is not None
    limit = None if left is None or not fixed else f"<= {left:.4g}"
    for name, value, of_rows in _named("hours", found.hours, 3):
        yield Measurement(name, value, "hours", limit if name == "hours" else None, statistic=of_rows)
    wanted = None if pace is None else f">= {pace:g}"
    for name, value, of_rows in _named("tokens_per_second", found.tokens_per_second, 0):
        one = wanted if name == "tokens_per_second" else None
        yield Measurement(name, value, unit="tokens/s", limit=one, statistic=of_rows)
    for name, amount, unit in (("steps", found.steps, "steps"), ("tokens", round(found.tokens), "tokens")):
        ends = Between(round(amount * found.spread.low), round(amount * found.spread.high))
        yield Measurement(name, amount, unit=unit, statistic=ends)
    if left is not None:
        of_rows = NotOfRows()
        yield Measurement("hours_left", round(left, 2), unit="hours", volatile=not fixed, statistic=of_rows)


def _named(name: str, one: Interval, digits: int) -> Iterator[tuple[str, float, Statistic]]:
    """A number and its ends, which hold what a sample adds to the interval."""
    low, likely, high = (
        round(end, digits) if digits else round(end) for end in (one.low, one.likely, one.high)
    )
    yield f"{name}_low", low, NotOfRows()
    yield name, likely, Between(low, high)
    yield f"{name}_high", high, NotOfRows()


def in_words(hours: float) -> str:
    """Hours as text: minutes below two hours."""
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"


def span(one: Interval) -> str:
    """An interval of hours as text."""
    return f"{in_words(one.likely)} ({in_words(one.low)} to {in_words(one.high)})"


def _said(found: Duration) -> str:
    assert found.hours is not None
    return f"{span(found.hours)} on {found.gpu or 'this machine'}"


def _late(job: Job, found: Duration, left: float, again: Any) -> Iterator[Finding]:
    assert found.hours is not None
    at = job.at("targets.deadline")
    if left <= 0:
        message = f"targets.deadline {job.targets.deadline} has passed"
        yield Finding(message, at=at, fix="set a later deadline")
        return
    severity = _severity(found.hours, left)
    if severity is None:
        return
    options = _options(job, found.hours, left, again, lambda one: one.hours)
    reaches = "takes" if severity is Severity.ERROR else "may take longer than the deadline allows:"
    message = f"training {reaches} {span(found.hours)}, the deadline leaves {in_words(left)}"
    yield _finding(job, message, severity, "deadline", found, options, left, in_words)


def _slow(job: Job, found: Duration, wanted: float, again: Any) -> Iterator[Finding]:
    pace = found.tokens_per_second
    assert pace is not None
    if pace.low >= wanted:
        return
    severity = Severity.ERROR if pace.likely < wanted else Severity.WARNING
    message = (
        f"training runs at about {pace.likely:,.0f} tokens per second ({pace.low:,.0f} to {pace.high:,.0f}),"
        f" targets.tokens_per_second is {wanted:,.0f}; assuming {'; '.join(found.assumes)}"
    )
    fix = "use a faster GPU, several GPUs, larger batches, or a lower target"
    why = "The run takes longer than planned."
    yield Finding(message, severity, at=job.at("targets.tokens_per_second"), fix=fix, why=why)


def _severity(one: Interval, limit: float) -> Severity | None:
    if one.likely > limit:
        return Severity.ERROR
    return Severity.WARNING if one.high > limit else None


@dataclass(frozen=True)
class _Option:
    """A setting that would take less, and what it would take."""

    key: str
    old: Any
    new: Any
    takes: Interval
    note: str = ""


def _options(job: Job, now: Interval, limit: float, again: Any, of: Any) -> list[_Option]:
    """Settings that take less time, in the order in which they are worth trying."""
    training = job.training
    found: list[_Option] = []

    def tried(key: str, new: Any, note: str = "") -> None:
        changed = replace(job, training=replace(training, **{key: new}))
        takes = of(again(changed))
        if takes is not None and takes.likely < 0.98 * now.likely:
            found.append(_Option(key, getattr(training, key), new, takes, note))

    if not training.packing and training.max_length is not None:
        tried("packing", True)
    if training.gradient_checkpointing:
        tried("gradient_checkpointing", False, " if the memory allows it")
    key, most = ("max_steps", training.max_steps) if training.max_steps > 0 else _epochs(training)
    fewer = [n for n in (int(most * limit / end) for end in (now.high, now.likely)) if 1 <= n < most]
    if fewer:
        tried(key, float(fewer[0]) if key == "num_train_epochs" else fewer[0])
    return found


def _epochs(training: Training) -> tuple[str, float]:
    return "num_train_epochs", training.num_train_epochs


def _finding(
    job: Job,
    message: str,
    severity: Severity,
    target: str,
    found: Duration,
    options: list[_Option],
    limit: float,
    words: Any,
) -> Finding:
    """The finding, with its options by name and the first sufficient one as a change."""
    named = [f"{one.key}: {_shown(one.new)} ({words(one.takes.likely)}){one.note}" for one in options]
    enough = [one for one in options if not one.note and one.takes.high <= limit]
    enough = enough or [one for one in options if not one.note and one.takes.likely <= limit]
    change = None
    if enough:
        path = f"jobs.{job.name}.training.{enough[0].key}"
        change = Change(path, enough[0].old, enough[0].new, safe=False)
    other = (
        "use a faster GPU, fewer rows, or a later deadline" if target == "deadline" else "use a cheaper GPU"
    )
    return Finding(
        f"{message}; assuming {'; '.join(found.assumes)}",
        severity,
        at=job.at(f"targets.{target}"),
        fix="; or ".join([*named, other]),
        change=change,
    )


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


@rule("cost", family="budget", cases="ftcheck_rules.budget.cases.budget", only=("targets.budget",))
def cost(
    job: Job, model: ModelConfig, prepared: Prepared, machine: Machine, inputs: Inputs
) -> Iterator[Yield]:
    """Training costs no more than its budget.

    A run that costs more than was granted is stopped midway, and the money is spent.

    The hours of `run-time` (including evaluations, checkpoints and the start) times hardware.price_per_hour,
    which is the price of all GPUs together. It is an error if the likely cost exceeds targets.budget, a
    warning if the upper end does. Skipped without a price, or with an unknown GPU or architecture.
    """
    price, budget = job.hardware.price_per_hour, job.targets.budget
    if price is None or budget is None:
        missing = "hardware.price_per_hour" if price is None else "targets.budget"
        yield Skip(f"the cost is unknown: {missing} is not set")
        return
    rows, gpu = _eval_rows(job, inputs), gpu_name(job, machine.gpus)
    found = plan(job, model, prepared, rows, gpu)
    if found.hours is None or found.cost is None:
        yield Skip(f"the cost is unknown: {found.problem}")
        return
    for name, value, of_rows in _named("cost", found.cost, 2):
        limit = f"<= {budget:g}" if name == "cost" else None
        yield Measurement(name, value, limit=limit, statistic=of_rows)
    for name, value, of_rows in _named("hours", found.hours, 3):
        yield Measurement(name, value, unit="hours", statistic=of_rows)
    yield Summary(f"{_money(found.cost.likely)} ({_money(found.cost.low)} to {_money(found.cost.high)})")
    severity = _severity(found.cost, budget)
    if severity is None:
        return

    def spent(one: Duration) -> Interval | None:
        return one.cost

    options = _options(
        job, found.cost, budget, lambda changed: plan(changed, model, prepared, rows, gpu), spent
    )
    message = (
        f"training {'costs' if severity is Severity.ERROR else 'may cost more than the budget:'}"
        f" {_money(found.cost.likely)} ({_money(found.cost.low)} to {_money(found.cost.high)}),"
        f" targets.budget is {budget:g}: {span(found.hours)} at {price:g} per hour"
    )
    yield _finding(job, message, severity, "budget", found, options, budget, _money)


def _money(value: float) -> str:
    return f"{value:,.2f}"
