"""Rules for a run in progress: the trainer evaluates them on each log, and does what `action` says."""

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
from ftcheck.plurals import counted

Action = Literal["warn", "checkpoint", "stop"]
TO_NORMAL = 1.4826
"""Factor from the median absolute deviation to the standard deviation of normal noise."""
FEWEST = 5
"""The fewest values that a median is taken of."""
LITTLE = 0.02
"""A difference of losses that counts as noise, however small the losses are."""


@dataclass(frozen=True)
class FiniteLoss:
    """Parameters of `finite-loss`."""

    patience: int = 1
    """Consecutive logs with a loss or gradient that is not finite."""
    zeros: int = 3
    """Consecutive logs with a loss of exactly 0."""
    overflows: int = 10
    """Consecutive logs with such a gradient under fp16, which skips those steps."""
    action: Action = "stop"
    """What the trainer does on a finding: warn, checkpoint (save one now) or stop."""


@dataclass(frozen=True)
class LossSpike:
    """Parameters of `loss-spike`."""

    patience: int = 3
    """Consecutive logs above the limit."""
    window: int = 20
    """Number of logs before them whose median is taken."""
    factor: float = 6.0
    """Standard deviations (from the median absolute deviation) above the median that are not noise."""
    rise: float = 0.5
    """The smallest rise above the median that counts."""
    action: Action = "stop"
    """What the trainer does on a finding: warn, checkpoint (save one now) or stop."""


@dataclass(frozen=True)
class LossProgress:
    """Parameters of `loss-progress`."""

    patience: int = 30
    """Number of logs before the loss is judged."""
    window: int = 10
    """Number of logs at the start, and at the end, whose medians are compared."""
    fall: float = 0.02
    """Share of the first loss by which it must have fallen."""
    action: Action = "warn"
    """What the trainer does on a finding: warn, checkpoint (save one now) or stop."""


@dataclass(frozen=True)
class EvalLoss:
    """Parameters of `eval-loss`."""

    patience: int = 2
    """Consecutive evaluations above the limit."""
    rise: float = 0.05
    """Share by which the evaluation loss may rise above the best one."""
    gap: float = 1.0
    """How far the evaluation loss may exceed the training loss."""
    action: Action = "warn"
    """What the trainer does on a finding: warn, checkpoint (save one now) or stop."""


@dataclass(frozen=True)
class TrainingSpeed:
    """Parameters of `training-speed`."""

    patience: int = 5
    """Consecutive logs that are too slow."""
    drop: float = 0.5
    """Share of the run's own median speed that it must keep."""
    action: Action = "warn"
    """What the trainer does on a finding: warn, checkpoint (save one now) or stop."""


@dataclass(frozen=True)
class TrainingMemory:
    """Parameters of `training-memory`."""

    patience: int = 1
    """Consecutive logs above the limit."""
    headroom: float = 0.03
    """Share of the GPU's memory that must stay free."""
    action: Action = "warn"
    """What the trainer does on a finding: warn, checkpoint (save one now) or stop."""


@dataclass(frozen=True)
class FedBatches:
    """Parameters of `fed-batches`."""

    patience: int = 10
    """Logs over which the shares are averaged."""
    tolerance: float = 0.3
    """How far the share of tokens in the loss may deviate from the checked one, as a share of it."""
    max_padding: float = 0.4
    """The largest share of the computed tokens that may be padding."""
    action: Action = "warn"
    """What the trainer does on a finding: warn, checkpoint (save one now) or stop."""


@rule("finite-loss", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def finite_loss(job: Job, metrics: MetricHistory, params: FiniteLoss) -> Iterator[Yield]:
    """The loss and the gradient are finite, and the loss is not 0.

    A single step with NaN writes NaN into every weight: everything after it is lost, and with transformers'
    default (logging_nan_inf_filter) the log shows 0.0 all night.

    A finding for a loss (training or evaluation) or gradient that is not finite in `patience` consecutive
    logs; under fp16, whose scaler skips steps with an overflowing gradient, in `overflows` logs for the
    gradient; and for a loss of exactly 0 in `zeros` consecutive logs. Parameters: patience, zeros, overflows,
    action (stop).
    """
    if not metrics.last and not metrics.evaluations:
        yield Skip("nothing has been logged yet")
        return
    severity = _severity(params.action)
    gradient = max(params.patience, params.overflows if job.training.fp16 else 1)
    for name, words, lines, patience in (
        ("loss", "the loss", metrics.last, params.patience),
        ("grad_norm", "the gradient", metrics.last, gradient),
        ("eval_loss", "the evaluation loss", metrics.evaluations, params.patience),
    ):
        count = _streak([line.is_not_finite(name) for line in lines])
        if count >= max(1, patience):
            fix = "lower training.learning_rate, lengthen warmup_steps, or compute in bfloat16"
            yield Finding(f"{words} is not finite{_since(lines, count)}", severity, fix=fix)
    count = _streak([line.loss == 0.0 for line in metrics.last])
    if count >= max(1, params.zeros):
        message = f"the loss is exactly 0{_since(metrics.last, count)}"
        fix = "set logging_nan_inf_filter: false to see whether it is NaN; check that tokens are in the loss"
        why = "A loss of 0 is a hidden NaN, or a batch without any token in the loss: nothing is learned."
        yield Finding(message, severity, fix=fix, why=why)
    newest = metrics.last[-1].loss if metrics.last else None
    yield Measurement("loss", newest)
    yield Measurement("logs", metrics.logged, unit="logs")


@rule("loss-spike", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def loss_spike(metrics: MetricHistory, params: LossSpike) -> Iterator[Yield]:
    """The loss does not jump far above its running median, and stay there.

    A loss that jumps and does not return means that the model has lost what it had learned: the learning rate
    is too high, or the rows have nothing to do with the rest. The hours that follow rarely bring it back.

    The newest `patience` losses all exceed the median of the `window` logs before them by more than `factor`
    standard deviations (computed from the median absolute deviation, so that outliers do not count) and by
    more than `rise`. A single spike does not count. Skipped until there are five logs for a median.
    Parameters: patience, window, factor, rise, action (stop).
    """
    patience = max(1, params.patience)
    losses = numbers(metrics.last, "loss")
    recent, before = losses[-patience:], losses[:-patience][-max(FEWEST, params.window) :]
    if len(before) < FEWEST:
        yield Skip(_too_early(len(losses), patience + FEWEST))
        return
    usual = middle(before) or 0.0
    spread = TO_NORMAL * (middle(abs(loss - usual) for loss in before) or 0.0)
    limit = usual + max(params.rise, params.factor * spread)
    yield Measurement("loss", recent[-1], limit=f"<= {limit:.4g}")
    yield Measurement("median", usual)
    yield Summary(f"loss {recent[-1]:.3g}, median {usual:.3g}")
    if min(recent) > limit:
        message = (
            f"the loss is {recent[-1]:.3g}, above the limit of {limit:.3g} in {_logs(patience)};"
            f" the median of the {len(before)} logs before is {usual:.3g}"
        )
        fix = (
            "resume from the checkpoint before with a lower training.learning_rate, or set max_grad_norm: 1.0"
        )
        yield Finding(message, _severity(params.action), fix=fix)


@rule("loss-progress", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def loss_progress(metrics: MetricHistory, params: LossProgress) -> Iterator[Yield]:
    """The loss has fallen since the run started.

    A run that learns nothing looks like any other: the adapter is not trained (a frozen layer, a learning
    rate of 0, labels that are all masked), and its hours are paid for.

    After `patience` logs, the median of the newest `window` losses must be below that of the first ones by at
    least the share `fall`. Skipped before that. Parameters: patience, window, fall, action (warn).
    """
    window, patience = max(1, params.window), max(1, params.patience)
    if metrics.logged < patience:
        yield Skip(_too_early(metrics.logged, patience))
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
            f"the loss has not fallen in {counted(metrics.step, 'step')}: it started at {began:.3g} and is"
            f" now {now:.3g} (medians of {counted(window, 'log')})"
        )
        fix = "check trained_share and grad_norm in metrics.jsonl; raise training.learning_rate or lora.r"
        yield Finding(message, _severity(params.action), fix=fix)


@rule("eval-loss", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def eval_loss(metrics: MetricHistory, params: EvalLoss) -> Iterator[Yield]:
    """The loss on evaluation rows does not rise, or exceed the training loss by far.

    From the step at which the evaluation loss rises, the run memorises its rows: every further hour makes the
    adapter worse on unseen data.

    In `patience` consecutive evaluations the loss exceeds the best one by more than the share `rise`, or the
    median training loss by more than `gap`. Skipped until there are that many evaluations. Parameters:
    patience, rise, gap, action (warn).
    """
    patience = max(1, params.patience)
    losses = [(line.step, loss) for line in metrics.evaluations if (loss := line.eval_loss) is not None]
    if len(losses) < patience:
        yield Skip(_too_early(len(losses), patience, "evaluation"))
        return
    recent = losses[-patience:]
    at, best = min(losses, key=lambda one: one[1])
    training = middle(numbers(metrics.last[-10:], "loss"))
    yield Measurement("eval_loss", recent[-1][1], limit=f"<= {_above(best, params.rise):.4g}")
    yield Measurement("eval_loss_best", best)
    yield Summary(f"evaluation loss {recent[-1][1]:.3g}, best {best:.3g} at step {at:,}")
    beside = "" if training is None else f"; the training loss is {training:.3g}"
    if recent[0][0] > at and all(loss > _above(best, params.rise) for _, loss in recent):
        message = (
            f"the evaluation loss has risen from {best:.3g} at step {at:,} to {recent[-1][1]:.3g}{beside}"
        )
        fix = f"use the checkpoint nearest to step {at:,}; train for fewer epochs, or on more rows"
        yield Finding(message, _severity(params.action), fix=fix)
    if training is not None and all(loss > training + params.gap for _, loss in recent):
        message = (
            f"the evaluation loss, {recent[-1][1]:.3g}, exceeds the training loss, {training:.3g},"
            f" by more than {params.gap:g}"
        )
        fix = (
            "compare data.eval with data.train (format, template, system prompt); train for fewer epochs,"
            " or on more rows"
        )
        why = "The model has memorised its rows, or the evaluation rows differ from the training rows."
        yield Finding(message, _severity(params.action), fix=fix, why=why)


@rule("training-speed", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def training_speed(metrics: MetricHistory, params: TrainingSpeed) -> Iterator[Yield]:
    """The run is as fast as planned, and does not slow down.

    A run at half its speed is not finished in the morning: a GPU that throttles or is shared, a data loader
    that cannot keep up, or another machine than planned.

    In `patience` consecutive logs, the tokens per second are below the plan's interval (of `run-time` in the
    report, else targets.tokens_per_second), or below `drop` times the run's own median. Where there is no
    plan, only the second is checked, and the summary says so. Parameters: patience, drop, action (warn).
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
            else f"; there is no planned speed: {metrics.expected.why_unknown('tokens_per_second')}"
        )
        yield Skip(_too_early(len(paces), patience + (0 if held else FEWEST)) + why)
        return
    limit = f">= {plan.low:g}" if plan is not None and plan.low is not None else None
    yield Measurement("tokens_per_second", recent[-1], unit="tokens/s", limit=limit)
    if plan is not None and plan.low is not None:
        yield Summary(f"{recent[-1]:,.0f} tokens/s ({_span(plan)})")
        if max(recent) < plan.low:
            message = (
                f"the speed is {recent[-1]:,.0f} tokens/s, below the {plan.low:,.0f} of {plan.source} in"
                f" {_logs(patience)}"
            )
            fix = "check whether the GPU throttles or is shared (nvidia-smi), and dataloader_num_workers"
            yield Finding(message, _severity(params.action), fix=fix)
    else:
        why = metrics.expected.why_unknown("tokens_per_second")
        yield Summary(f"{recent[-1]:,.0f} tokens/s; there is no planned speed: {why}")
    usual = middle(before) if len(before) >= FEWEST else None
    if usual is not None and max(recent) < params.drop * usual:
        message = (
            f"the run has slowed down to {recent[-1]:,.0f} tokens/s, below {params.drop:.0%} of its median of"
            f" {usual:,.0f} in {_logs(patience)}"
        )
        fix = "check what else runs on this machine, and whether the GPU throttles"
        yield Finding(message, _severity(params.action), fix=fix)


@rule("training-memory", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def training_memory(metrics: MetricHistory, params: TrainingMemory) -> Iterator[Yield]:
    """The GPU's memory stays within the prediction, and below its capacity.

    Memory that exceeds the prediction ends in an out-of-memory error at a longer batch, or at the first
    evaluation, hours in; and the next job that is planned with the prediction will not fit.

    The peak that torch reserved is compared with the interval of `memory-fit` in the report (without CUDA's
    own context, which torch does not count) and with the GPU's memory, of which `headroom` must stay free, in
    `patience` consecutive logs. A peak below the interval is not a failure; after ten logs it is noted.
    Skipped on a CPU, and where nothing was predicted. Parameters: patience, headroom, action (warn).
    """
    predicted = metrics.expected.known.get("memory_gib")
    peaks = numbers(metrics.last, "memory_peak_gib")
    patience = max(1, params.patience)
    if metrics.device != "cuda":
        where = f"the run trains on {metrics.device}" if metrics.device else "the run names no device"
        yield Skip(f"{where}, and only the memory of GPUs is predicted")
        return
    if len(peaks) < patience:
        yield Skip(_too_early(len(peaks), patience))
        return
    peak, least = peaks[-1], min(peaks[-patience:])
    fix = "lower per_device_train_batch_size and raise gradient_accumulation_steps by as much"
    if metrics.memory_gib is not None and least > (1 - params.headroom) * metrics.memory_gib:
        message = (
            f"{peak:.1f} of the GPU's {metrics.memory_gib:.1f} GiB are in use, less than"
            f" {params.headroom:.0%} is free"
        )
        why = "The next long batch may not fit."
        yield Finding(message, _severity(params.action), fix=fix, why=why)
    if predicted is None:
        yield Skip(f"the predicted memory is unknown: {metrics.expected.why_unknown('memory_gib')}")
        return
    limit = None if predicted.high is None else f"<= {predicted.high:g}"
    yield Measurement("memory_peak_gib", peak, unit="GiB", limit=limit)
    yield Summary(f"{peak:.1f} GiB ({_span(predicted)})")
    if predicted.high is not None and least > predicted.high:
        message = (
            f"the peak is {peak:.1f} GiB, above the prediction of at most {predicted.high:g} GiB"
            f" ({predicted.source})"
        )
        yield Finding(message, _severity(params.action), fix=fix)
    if predicted.low is not None and peak < predicted.low and len(peaks) >= 10:
        message = f"the peak is {peak:.1f} GiB, below the prediction of at least {predicted.low:g} GiB:"
        yield Finding(f"{message} a larger batch may fit", Severity.INFO)


@rule("fed-batches", family="during", cases="ftcheck_rules.during.cases.during", stage=Stage.DURING)
def fed_batches(metrics: MetricHistory, params: FedBatches) -> Iterator[Yield]:
    """The batches of the run are those that were checked: tokens in the loss, and little padding.

    Batches with fewer tokens in the loss than the checked rows teach less than was paid for; without any, the
    loss is NaN or 0. Padding is computed like any token, for nothing.

    The share of tokens in the loss, padding excluded and averaged over `patience` logs, is within `tolerance`
    of that of the checked rows; padding is at most `max_padding` of the computed tokens. A log without any
    token in the loss is a finding at once. Skipped until there are that many logs. Parameters: patience,
    tolerance, max_padding, action (warn).
    """
    patience, severity = max(1, params.patience), _severity(params.action)
    if metrics.last and metrics.last[-1].number("trained_share") == 0.0:
        message = f"no token is in the loss at step {metrics.last[-1].step:,}"
        fix = "check the loss mask: `ftcheck show` marks the tokens of a row that are in the loss"
        yield Finding(message, severity, fix=fix, why="The step teaches nothing; the loss is NaN or 0.")
    shares = numbers(metrics.last[-patience:], "trained_share")
    padding = numbers(metrics.last[-patience:], "padding_share")
    if min(len(shares), len(padding)) < patience:
        yield Skip(_too_early(len(shares), patience))
        return
    share, empty = sum(shares) / patience, sum(padding) / patience
    yield Measurement("padding_share", round(empty, 4), limit=f"<= {params.max_padding:g}")
    yield Measurement("trained_share", round(share, 4))
    checked = metrics.expected.known.get("trained_share")
    was = checked.low if checked is not None else None
    beside = f"checked: {was:.1%}" if was is not None else metrics.expected.why_unknown("trained_share")
    yield Summary(f"{share:.1%} of the tokens in the loss ({beside}), {empty:.1%} padding")
    if was and abs(share - was) > params.tolerance * was:
        message = (
            f"{share:.1%} of the tokens are in the loss (mean of {_logs(patience)}); in the checked rows it"
            f" was {was:.1%}"
        )
        fix = "check the collator, and what reorders or drops rows before they reach the model"
        yield Finding(message, severity, fix=fix)
    if empty > params.max_padding:
        message = f"{empty:.1%} of the computed tokens are padding (mean of {_logs(patience)}), more than"
        message += f" {params.max_padding:.0%}"
        fix = "set training.packing: true, or train_sampling_strategy: group_by_length"
        why = "Padding is computed like any token, and paid for."
        yield Finding(message, severity, fix=fix, why=why)


def _severity(action: str) -> Severity:
    return Severity.ERROR if action == "stop" else Severity.WARNING


def _streak(held: Sequence[bool]) -> int:
    """For how many of the newest lines it held without a gap."""
    return next((count for count, one in enumerate(reversed(held)) if not one), len(held))


def _since(lines: Sequence[Metric], count: int) -> str:
    """` at step 12`, or ` in 3 consecutive logs, since step 10`."""
    if count == 1:
        return f" at step {lines[-1].step:,}"
    return f" in {_logs(count)}, since step {lines[-count].step:,}"


def _logs(count: int) -> str:
    return "1 log" if count == 1 else f"{count} consecutive logs"


def _too_early(count: int, needed: int, what: str = "log") -> str:
    return f"too early: {count} of {counted(needed, what)} so far"


def _above(best: float, rise: float) -> float:
    return best + max(LITTLE, rise * abs(best))


def _span(span: Span) -> str:
    ends = f"at least {span.low:,g}" if span.high is None else f"{span.low or 0:,g} to {span.high:,g}"
    return f"{span.source}: {ends}"
