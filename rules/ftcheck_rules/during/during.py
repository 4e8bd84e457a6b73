"""Rules for a run that goes on: the trainer asks them on each log, and does what `action` says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ftcheck import Finding, Job, Measurement, Severity, Skip, Stage, Summary, rule
from ftcheck.extension.rules import Yield
from ftcheck.inputs.metric_history import (
    MetricHistory,
    Span,
    middle,
    numbers,
)
from ftcheck.inputs.run_folder import Metric

Action = Literal["warn", "checkpoint", "stop"]
TO_NORMAL = 1.4826
"""Times the median absolute deviation: the standard deviation, where noise is normal."""
FEWEST = 5
"""Values that a median is taken of, at least."""
LITTLE = 0.02
"""A difference of losses that is noise, however small the losses are."""


@dataclass(frozen=True)
class FiniteLoss:
    """Parameters of `finite-loss`."""

    patience: int = 1
    """Logs in a row with a loss or a gradient that is not finite."""
    zeros: int = 3
    """Logs in a row with a loss of exactly 0."""
    overflows: int = 10
    """Logs in a row with such a gradient under fp16, which skips those steps."""
    action: Action = "stop"
    """What the trainer does: warn, checkpoint (save one now), stop."""


@dataclass(frozen=True)
class LossSpike:
    """Parameters of `loss-spike`."""

    patience: int = 3
    """Logs in a row above the limit."""
    window: int = 20
    """Logs before them, of which the median is taken."""
    factor: float = 6.0
    """Standard deviations (by the median absolute deviation) above the median that are no noise."""
    rise: float = 0.5
    """The least that the loss must rise above the median."""
    action: Action = "stop"
    """What the trainer does: warn, checkpoint (save one now), stop."""


@dataclass(frozen=True)
class LossProgress:
    """Parameters of `loss-progress`."""

    patience: int = 30
    """Logs that a run is given."""
    window: int = 10
    """Logs at the beginning, and at the end, of which the medians are taken."""
    fall: float = 0.02
    """Share of the loss at the beginning by which it must have fallen."""
    action: Action = "warn"
    """What the trainer does: warn, checkpoint (save one now), stop."""


@dataclass(frozen=True)
class EvalLoss:
    """Parameters of `eval-loss`."""

    patience: int = 2
    """Evaluations in a row."""
    rise: float = 0.05
    """Share of the best evaluation loss by which it may rise above it."""
    gap: float = 1.0
    """How far the evaluation loss may lie above the training loss."""
    action: Action = "warn"
    """What the trainer does: warn, checkpoint (save one now), stop."""


@dataclass(frozen=True)
class TrainingSpeed:
    """Parameters of `training-speed`."""

    patience: int = 5
    """Logs in a row that are too slow."""
    drop: float = 0.5
    """Share of the run's own median pace that it must keep."""
    action: Action = "warn"
    """What the trainer does: warn, checkpoint (save one now), stop."""


@dataclass(frozen=True)
class TrainingMemory:
    """Parameters of `training-memory`."""

    patience: int = 1
    """Logs in a row above the limit."""
    headroom: float = 0.03
    """Share of the GPU's memory that must stay free."""
    action: Action = "warn"
    """What the trainer does: warn, checkpoint (save one now), stop."""


@dataclass(frozen=True)
class FedBatches:
    """Parameters of `fed-batches`."""

    patience: int = 10
    """Logs over which the shares are averaged."""
    tolerance: float = 0.3
    """How far the trained share may lie from the checked one, as a share of it."""
    max_padding: float = 0.4
    """The most of what is fed that may be padding."""
    action: Action = "warn"
    """What the trainer does: warn, checkpoint (save one now), stop."""


@rule("finite-loss", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def finite_loss(job: Job, metrics: MetricHistory, params: FiniteLoss) -> Iterator[Yield]:
    """The loss and the gradient are finite, and the loss is not 0.

    One step with a NaN writes NaN into every weight: all that comes after it is lost, and with
    transformers' default (logging_nan_inf_filter) the log says 0.0 all night.

    A finding for a loss (of training, of evaluation) or a gradient that is not finite in `patience` logs in a
    row; under fp16, whose scaler skips steps with an overflowing gradient, `overflows` logs for the gradient;
    and for a loss of exactly 0 in `zeros` logs in a row.
    Parameters: patience, zeros, overflows, action (stop).
    """
    if not metrics.last and not metrics.evaluations:
        yield Skip("nothing was logged yet")
        return
    severity = _severity(params.action)
    gradient = max(params.patience, params.overflows if job.training.fp16 else 1)
    for name, words, lines, patience in (
        ("loss", "the loss", metrics.last, params.patience),
        ("grad_norm", "the gradient", metrics.last, gradient),
        ("eval_loss", "the loss of the evaluation", metrics.evaluations, params.patience),
    ):
        count = _streak([line.is_not_finite(name) for line in lines])
        if count >= max(1, patience):
            fix = "lower training.learning_rate, lengthen warmup_steps, or compute in bfloat16"
            yield Finding(f"{words} is not finite{_since(lines, count)}", severity, fix=fix)
    count = _streak([line.loss == 0.0 for line in metrics.last])
    if count >= max(1, params.zeros):
        message = f"the loss is exactly 0{_since(metrics.last, count)}"
        fix = "with logging_nan_inf_filter: false the log says whether it is NaN; is any token in the loss?"
        yield Finding(message, severity, fix=fix)
    newest = metrics.last[-1].loss if metrics.last else None
    yield Measurement("loss", newest)
    yield Measurement("logs", metrics.logged, unit="logs")


@rule("loss-spike", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def loss_spike(metrics: MetricHistory, params: LossSpike) -> Iterator[Yield]:
    """The loss does not jump, and stay, far above its running median.

    A loss that jumps and does not come back has left what was learnt: too high a learning rate, or rows
    that have nothing to do with the rest. The hours that follow rarely bring it back.

    The `patience` newest losses all lie above the median of the `window` logs before them, by more than
    `factor` standard deviations (of the median absolute deviation, so that outliers do not count) and by
    more than `rise`. A single spike is none. Skipped until there are five logs to take a median of.
    Parameters: patience, window, factor, rise, action (stop).
    """
    patience = max(1, params.patience)
    losses = numbers(metrics.last, "loss")
    recent, before = losses[-patience:], losses[:-patience][-max(FEWEST, params.window) :]
    if len(before) < FEWEST:
        yield Skip(f"{len(losses)} of the {patience + FEWEST} logs that it takes")
        return
    usual = middle(before) or 0.0
    spread = TO_NORMAL * (middle(abs(loss - usual) for loss in before) or 0.0)
    limit = usual + max(params.rise, params.factor * spread)
    yield Measurement("loss", recent[-1], limit=f"<= {limit:.4g}")
    yield Measurement("median", usual)
    yield Summary(f"loss {recent[-1]:.3g}, median {usual:.3g}")
    if min(recent) > limit:
        message = (
            f"the loss is {recent[-1]:.3g}, and above {limit:.3g} in {_logs(patience)};"
            f" the median of the {len(before)} logs before is {usual:.3g}"
        )
        fix = (
            "go on from the checkpoint before with a lower training.learning_rate, or set max_grad_norm: 1.0"
        )
        yield Finding(message, _severity(params.action), fix=fix)


@rule("loss-progress", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def loss_progress(metrics: MetricHistory, params: LossProgress) -> Iterator[Yield]:
    """The loss has fallen since the run began.

    A run that learns nothing looks like any other: the adapter is not trained (a frozen layer, a learning
    rate of 0, labels that are all masked), and its hours are paid for.

    After `patience` logs, the median of the `window` newest losses lies below that of the first ones, by at
    least the share `fall`. Skipped before. Parameters: patience, window, fall, action (warn).
    """
    window, patience = max(1, params.window), max(1, params.patience)
    if metrics.logged < patience:
        yield Skip(f"{metrics.logged} of the {patience} logs that a run is given")
        return
    began = middle(numbers(metrics.first[:window], "loss"))
    now = middle(numbers(metrics.last[-window:], "loss"))
    if began is None or now is None:
        yield Skip("no finite loss was logged")
        return
    yield Measurement("loss_began", round(began, 6))
    yield Measurement("loss_now", round(now, 6), limit=f"<= {began * (1 - params.fall):.4g}")
    yield Summary(f"loss {began:.3g} -> {now:.3g}")
    if now > began * (1 - params.fall):
        message = (
            f"the loss has not fallen in {metrics.step:,} steps: it began at {began:.3g}, and is {now:.3g}"
            f" (medians of {window} logs)"
        )
        fix = "look at trained_share and grad_norm in metrics.jsonl; raise training.learning_rate or lora.r"
        yield Finding(message, _severity(params.action), fix=fix)


@rule("eval-loss", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def eval_loss(metrics: MetricHistory, params: EvalLoss) -> Iterator[Yield]:
    """The loss on evaluation rows does not rise, nor leave the training loss behind.

    From the step where the evaluation loss rises the run memorises its rows: each further hour makes
    the adapter worse on what it has not seen.

    In `patience` evaluations in a row the loss lies above the best one by more than the share `rise`, or
    above the median training loss by more than `gap`. Skipped until there are so many evaluations.
    Parameters: patience, rise, gap, action (warn).
    """
    patience = max(1, params.patience)
    losses = [(line.step, loss) for line in metrics.evaluations if (loss := line.eval_loss) is not None]
    if len(losses) < patience:
        yield Skip(f"{len(losses)} of the {patience} evaluations that it takes")
        return
    recent = losses[-patience:]
    at, best = min(losses, key=lambda one: one[1])
    training = middle(numbers(metrics.last[-10:], "loss"))
    yield Measurement("eval_loss", recent[-1][1], limit=f"<= {_above(best, params.rise):.4g}")
    yield Measurement("eval_loss_best", best)
    yield Summary(f"{recent[-1][1]:.3g}, best {best:.3g} at step {at:,}")
    beside = "" if training is None else f"; the training loss is {training:.3g}"
    if recent[0][0] > at and all(loss > _above(best, params.rise) for _, loss in recent):
        message = f"the evaluation loss rises: {recent[-1][1]:.3g}, it was {best:.3g} at step {at:,}{beside}"
        fix = f"take the checkpoint nearest to step {at:,}; fewer epochs, or more rows"
        yield Finding(message, _severity(params.action), fix=fix)
    if training is not None and all(loss > training + params.gap for _, loss in recent):
        message = (
            f"the evaluation loss, {recent[-1][1]:.3g}, lies far above the training loss, {training:.3g}"
        )
        fix = (
            "hold data.eval against data.train (format, template, system prompt); fewer epochs, or more rows"
        )
        yield Finding(message, _severity(params.action), fix=fix)


@rule("training-speed", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def training_speed(metrics: MetricHistory, params: TrainingSpeed) -> Iterator[Yield]:
    """The run is as fast as was planned, and does not slow down.

    A run at half its pace is not done in the morning: a GPU that throttles or is shared, a data loader
    that cannot keep up, or another machine than was planned for.

    In `patience` logs in a row tokens a second lie below the plan's interval (of `run-time` in the report,
    else targets.tokens_per_second), or below `drop` times the run's own median. Where the plan says nothing,
    only the second is looked at, and the summary says so. Parameters: patience, drop, action (warn).
    """
    patience = max(1, params.patience)
    paces = numbers(metrics.last, "tokens_per_second")
    recent, before = paces[-patience:], paces[:-patience]
    plan = metrics.expected.known.get("tokens_per_second")
    held = plan is not None and plan.low is not None
    if len(recent) < patience or (not held and len(before) < FEWEST):
        why = (
            ""
            if held
            else f"; no plan to hold it against: {metrics.expected.why_unknown('tokens_per_second')}"
        )
        yield Skip(f"{len(paces)} of the {patience + (0 if held else FEWEST)} logs that it takes{why}")
        return
    limit = f">= {plan.low:g}" if plan is not None and plan.low is not None else None
    yield Measurement("tokens_per_second", recent[-1], unit="tokens/s", limit=limit)
    if plan is not None and plan.low is not None:
        yield Summary(f"{recent[-1]:,.0f} tokens/s ({_span(plan)})")
        if max(recent) < plan.low:
            message = (
                f"{recent[-1]:,.0f} tokens/s, below {plan.low:,.0f} ({plan.source}) in {_logs(patience)}"
            )
            fix = "look whether the GPU throttles or is shared (nvidia-smi), and at dataloader_num_workers"
            yield Finding(message, _severity(params.action), fix=fix)
    else:
        why = metrics.expected.why_unknown("tokens_per_second")
        yield Summary(f"{recent[-1]:,.0f} tokens/s; no plan to hold it against: {why}")
    usual = middle(before) if len(before) >= FEWEST else None
    if usual is not None and max(recent) < params.drop * usual:
        message = (
            f"{recent[-1]:,.0f} tokens/s: the run has slowed down, its median was {usual:,.0f}"
            f" ({_logs(patience)} below {params.drop:.0%})"
        )
        fix = "look what else runs on this machine, and whether it throttles"
        yield Finding(message, _severity(params.action), fix=fix)


@rule("training-memory", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def training_memory(metrics: MetricHistory, params: TrainingMemory) -> Iterator[Yield]:
    """The GPU's memory stays within what was predicted, and below what it has.

    Memory that grows past the prediction ends in an out-of-memory error at a longer batch, or at the first
    evaluation, hours in; and the next job that is planned by the prediction will not fit.

    The peak that torch reserved, held against the interval of `memory-fit` in the report (less CUDA's own
    context, which torch does not count) and against the GPU's memory, of which `headroom` must stay free, in
    `patience` logs in a row. Below the interval is no failure; after ten logs it is said. Skipped on a CPU,
    and where nothing was predicted. Parameters: patience, headroom, action (warn).
    """
    predicted = metrics.expected.known.get("memory_gib")
    peaks = numbers(metrics.last, "memory_peak_gib")
    patience = max(1, params.patience)
    if metrics.device != "cuda":
        where = f"trained on {metrics.device}" if metrics.device else "no device was named"
        yield Skip(f"cannot tell: {where}, what is predicted is a GPU's memory")
        return
    if len(peaks) < patience:
        yield Skip(f"{len(peaks)} of the {patience} logs that it takes")
        return
    peak, least = peaks[-1], min(peaks[-patience:])
    fix = "lower per_device_train_batch_size and raise gradient_accumulation_steps by as much"
    if metrics.memory_gib is not None and least > (1 - params.headroom) * metrics.memory_gib:
        message = (
            f"{peak:.1f} GiB of the GPU's {metrics.memory_gib:.1f} are taken: the next long batch may not fit"
        )
        yield Finding(message, _severity(params.action), fix=fix)
    if predicted is None:
        yield Skip(f"cannot tell: {metrics.expected.why_unknown('memory_gib')}")
        return
    limit = None if predicted.high is None else f"<= {predicted.high:g}"
    yield Measurement("memory_peak_gib", peak, unit="GiB", limit=limit)
    yield Summary(f"{peak:.1f} GiB ({_span(predicted)})")
    if predicted.high is not None and least > predicted.high:
        message = (
            f"{peak:.1f} GiB at the peak, {predicted.high:g} were predicted at the most ({predicted.source})"
        )
        yield Finding(message, _severity(params.action), fix=fix)
    if predicted.low is not None and peak < predicted.low and len(peaks) >= 10:
        message = f"{peak:.1f} GiB at the peak, {predicted.low:g} were predicted at the least: there is room"
        yield Finding(message, Severity.INFO)


@rule("fed-batches", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def fed_batches(metrics: MetricHistory, params: FedBatches) -> Iterator[Yield]:
    """What goes through the model is what was checked: trained tokens, and little padding.

    Batches with fewer trained tokens than the checked rows have teach less than was paid for; with none
    the loss is NaN or 0. Padding is computed like any token, and thrown away.

    The share of trained tokens among those that are no padding, averaged over `patience` logs, lies within
    `tolerance` of that of the checked rows; padding is at most `max_padding` of what is fed. A log without
    any trained token is a finding at once. Skipped until there are so many logs.
    Parameters: patience, tolerance, max_padding, action (warn).
    """
    patience, severity = max(1, params.patience), _severity(params.action)
    if metrics.last and metrics.last[-1].number("trained_share") == 0.0:
        message = f"no token is in the loss at step {metrics.last[-1].step:,}"
        yield Finding(message, severity, fix="ftcheck show marks the trained tokens of a row")
    shares = numbers(metrics.last[-patience:], "trained_share")
    padding = numbers(metrics.last[-patience:], "padding_share")
    if min(len(shares), len(padding)) < patience:
        yield Skip(f"{len(shares)} of the {patience} logs that it takes")
        return
    share, empty = sum(shares) / patience, sum(padding) / patience
    yield Measurement("padding_share", round(empty, 4), limit=f"<= {params.max_padding:g}")
    yield Measurement("trained_share", round(share, 4))
    checked = metrics.expected.known.get("trained_share")
    was = checked.low if checked is not None else None
    beside = f"checked: {was:.1%}" if was is not None else metrics.expected.why_unknown("trained_share")
    yield Summary(f"{share:.1%} trained ({beside}), {empty:.1%} padding")
    if was and abs(share - was) > params.tolerance * was:
        message = (
            f"{share:.1%} of the tokens are in the loss (mean of {_logs(patience)}), {was:.1%} were checked"
        )
        fix = "look at the collator, and at what reorders or drops rows on their way to the model"
        yield Finding(message, severity, fix=fix)
    if empty > params.max_padding:
        limit = f"{params.max_padding:.0%} at most"
        message = f"{empty:.1%} of what is fed is padding (mean of {_logs(patience)}), {limit}"
        fix = "set training.packing: true, or train_sampling_strategy: group_by_length"
        yield Finding(message, severity, fix=fix)


def _severity(action: str) -> Severity:
    return Severity.ERROR if action == "stop" else Severity.WARNING


def _streak(held: Sequence[bool]) -> int:
    """For how many of the newest lines it held, without a gap."""
    return next((count for count, one in enumerate(reversed(held)) if not one), len(held))


def _since(lines: Sequence[Metric], count: int) -> str:
    """` at step 12`, or ` in 3 logs in a row, since step 10`."""
    if count == 1:
        return f" at step {lines[-1].step:,}"
    return f" in {_logs(count)}, since step {lines[-count].step:,}"


def _logs(count: int) -> str:
    return "one log" if count == 1 else f"{count} logs in a row"


def _above(best: float, rise: float) -> float:
    return best + max(LITTLE, rise * abs(best))


def _span(span: Span) -> str:
    ends = f"at least {span.low:,g}" if span.high is None else f"{span.low or 0:,g} to {span.high:,g}"
    return f"{span.source}: {ends}"
