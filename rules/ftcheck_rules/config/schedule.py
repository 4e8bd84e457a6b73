"""Schedule rules: how many optimizer steps will there be, and does the learning rate suit the method?"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ftcheck import (
    Change,
    Finding,
    Job,
    Measurement,
    ModelConfig,
    Prepared,
    Severity,
    Skip,
    Summary,
    rule,
    tables,
)
from ftcheck.estimate.blocks import packed
from ftcheck.estimate.steps import (
    Steps,
    devices,
    effective_batch,
    every,
    steps,
)
from ftcheck.extension.rules import Yield
from ftcheck.records import ON_COMMAND_LINE

USUAL_EPOCHS = 3
USUAL_WARMUP = 0.03
BOTH = {"training.max_steps", "training.num_train_epochs"}


@dataclass(frozen=True)
class Schedule:
    """Parameters of `schedule`."""

    min_steps: int = 8
    """Optimizer steps that a run must have at least."""
    max_epochs: float = 10
    """Passes over the data that are not too many."""
    max_warmup: float = 0.5
    """Share of all steps that the warm-up may take, 0 to 1."""


@rule("schedule", family="config", cases="ftcheck_rules.config.cases.schedule")
def schedule(job: Job, prepared: Prepared, params: Schedule) -> Iterator[Yield]:
    """The run has enough optimizer steps, the epochs that were meant, and a warm-up that ends.

    Packing and several GPUs leave few steps of a small data set: the model hardly moves. max_steps left in
    from a trial overrides the epochs: the model sees a part of the data. A warm-up longer than the run
    never reaches the learning rate; tens of epochs teach the rows by heart.

    Steps are counted as transformers counts them, over packed blocks as they are planned, and over all
    devices of hardware.count. The effective batch is held against targets.effective_batch. Parameters:
    min_steps (default 8), max_epochs (10), max_warmup (0.5 of all steps).
    """
    nothing = _nothing(job, prepared)
    if nothing is not None:
        yield Skip(nothing)
        return
    plan = steps(job, fed(job, prepared))
    yield from _measured(job, plan, params)
    yield Summary(_in_words(plan))
    yield from _off_batch(job)
    yield from _two_ends(job, plan)
    yield from _amount(job, plan, params)
    yield from _warmup(job, plan, params)
    yield from _intervals(job, plan)


def fed(job: Job, prepared: Prepared) -> int:
    """Rows that an epoch feeds, or blocks where they are packed."""
    training = job.training
    if training.packing and training.max_length is not None:
        return packed(prepared, job, training.max_length).planned
    return len(prepared.sequences)


def _nothing(job: Job, prepared: Prepared) -> str | None:
    """Why steps cannot be counted."""
    training = job.training
    if not len(prepared.sequences):
        return "no row is fed"
    if training.packing and training.max_length is None:
        return "packing without max_length: TRL refuses to start"
    return None


def _measured(job: Job, plan: Steps, params: Schedule) -> Iterator[Measurement]:
    target = job.targets.effective_batch
    yield Measurement("steps", plan.total, unit="steps", limit=f">= {params.min_steps}")
    yield Measurement("steps_per_epoch", plan.an_epoch, unit="steps")
    yield Measurement("epochs", round(plan.epochs, 3), limit=f"<= {params.max_epochs:g}")
    yield Measurement("effective_batch", plan.batch, limit=None if target is None else f"{target}")
    yield Measurement("warmup_steps", plan.warmup, unit="steps")


def _in_words(plan: Steps) -> str:
    warmup = f", {plan.warmup:,} of them warm-up" if plan.warmup else ""
    return f"{plan.total:,} steps of {plan.batch:,} in {plan.epochs:.3g} epochs{warmup}"


def _change(job: Job, key: str, new: Any) -> Change:
    return Change(f"jobs.{job.name}.training.{key}", getattr(job.training, key), new, safe=False)


def _off_batch(job: Job) -> Iterator[Finding]:
    target, found = job.targets.effective_batch, effective_batch(job)
    if target is None or target == found:
        return
    training = job.training
    at_once = training.per_device_train_batch_size * devices(job)
    on = f" x {devices(job)} GPUs" if devices(job) > 1 else ""
    product = f"{training.per_device_train_batch_size} x {training.gradient_accumulation_steps}{on}"
    message = f"{product} = {found:,} rows or blocks a step, {target:,} are asked for"
    at = job.at("targets.effective_batch")
    if target % at_once:
        fix = f"one pass takes {at_once} at once: no accumulation makes {target} of it, change the batch size"
        yield Finding(message, at=at, fix=fix)
        return
    key, new = "gradient_accumulation_steps", target // at_once
    fix = f"{key}: {training.gradient_accumulation_steps} -> {new}"
    yield Finding(message, at=at, fix=fix, change=_change(job, key, new))


def _two_ends(job: Job, plan: Steps) -> Iterator[Finding]:
    """Both max_steps and num_train_epochs are stated, and they are not the same number of steps."""
    training = job.training
    if training.max_steps <= 0 or not set(job.places) >= BOTH:
        return
    asked = math.ceil(training.num_train_epochs * plan.an_epoch)
    if plan.total == asked:
        return
    message = (
        f"max_steps: {plan.total:,} is {plan.epochs:.3g} epochs and overrides num_train_epochs:"
        f" {training.num_train_epochs:g} ({asked:,} steps)"
    )
    fix = "take one of them out; max_steps: -1 trains whole epochs"
    severity = _unless_trial(job, Severity.ERROR)
    yield Finding(message, severity, job.at("training.max_steps"), fix, _change(job, "max_steps", -1))


def _unless_trial(job: Job, severity: Severity) -> Severity:
    """`--set …max_steps=2` is a trial: what follows from it is worth knowing, and no more."""
    place = job.places.get("training.max_steps")
    trial = job.training.max_steps > 0 and place is not None and place.path == ON_COMMAND_LINE
    return Severity.INFO if trial else severity


def _amount(job: Job, plan: Steps, params: Schedule) -> Iterator[Finding]:
    ends = "max_steps" if job.training.max_steps >= 0 else "num_train_epochs"
    if plan.total < 1:
        message = (
            f"{ends}: {getattr(job.training, ends):g} over {plan.fed:,} rows or blocks: no step is planned"
        )
        fix = "max_steps: -1 trains whole epochs"
        yield Finding(message, at=job.at(f"training.{ends}"), fix=fix)
    elif plan.total < params.min_steps:
        yield _too_few(job, plan, params, ends)
    overrides = ends == "max_steps" and set(job.places) >= BOTH
    if plan.epochs > params.max_epochs and not overrides:
        yield _too_many(job, plan, params, ends)


def _too_few(job: Job, plan: Steps, params: Schedule, ends: str) -> Finding:
    training = job.training
    what = "packed blocks" if training.packing else "rows"
    message = (
        f"{plan.total:,} optimizer steps in all, at least {params.min_steps:,} are asked for:"
        f" {plan.fed:,} {what} an epoch, {plan.batch:,} a step"
    )
    if ends == "max_steps":
        severity = _unless_trial(job, Severity.WARNING)
        return Finding(message, severity, job.at("training.max_steps"), "raise max_steps")
    new = _accumulation(job, plan, params)
    if training.gradient_accumulation_steps == 1:
        key = "per_device_train_batch_size" if training.per_device_train_batch_size > 1 else ends
        return Finding(message, Severity.WARNING, job.at(f"training.{key}"), "a smaller batch, or more rows")
    key = "gradient_accumulation_steps"
    if new is None or job.targets.effective_batch is not None:
        return Finding(message, Severity.WARNING, job.at(f"training.{key}"), "a smaller batch, or more rows")
    fix = f"{key}: {training.gradient_accumulation_steps} -> {new}; or more rows"
    return Finding(message, Severity.WARNING, job.at(f"training.{key}"), fix, _change(job, key, new))


def _accumulation(job: Job, plan: Steps, params: Schedule) -> int | None:
    """The largest accumulation that makes enough steps."""
    at_once = job.training.per_device_train_batch_size * devices(job)
    batches = -(-plan.fed // at_once)
    fitting = (
        one
        for one in range(job.training.gradient_accumulation_steps - 1, 0, -1)
        if math.ceil(job.training.num_train_epochs * -(-batches // one)) >= params.min_steps
    )
    return next(fitting, None)


def _too_many(job: Job, plan: Steps, params: Schedule, ends: str) -> Finding:
    message = (
        f"{plan.epochs:.3g} passes over {plan.fed:,} rows or blocks, more than {params.max_epochs:g}:"
        " the model learns the rows by heart"
    )
    enough = math.ceil(params.min_steps / plan.an_epoch)
    epochs = min(params.max_epochs, max(USUAL_EPOCHS, enough))
    new = epochs if ends == "num_train_epochs" else math.ceil(epochs * plan.an_epoch)
    fix = f"{ends}: {getattr(job.training, ends):g} -> {new:g}; evaluation loss shows where to stop"
    return Finding(message, Severity.WARNING, job.at(f"training.{ends}"), fix, _change(job, ends, new))


def _warmup(job: Job, plan: Steps, params: Schedule) -> Iterator[Finding]:
    if not plan.warmup or not plan.total or plan.warmup <= params.max_warmup * plan.total:
        return
    never = plan.warmup >= plan.total
    reached = job.training.learning_rate * plan.total / plan.warmup
    message = f"the warm-up takes {plan.warmup:,} of {plan.total:,} steps" + (
        f": the learning rate ends at {reached:.2g} and never reaches {job.training.learning_rate:g}"
        if never
        else ""
    )
    fix = f"warmup_steps: {USUAL_WARMUP} (below 1 it is a share of all steps)"
    severity = Severity.ERROR if never else Severity.WARNING
    change = _change(job, "warmup_steps", USUAL_WARMUP)
    yield Finding(message, severity, job.at("training.warmup_steps"), fix, change)


def _intervals(job: Job, plan: Steps) -> Iterator[Finding]:
    """Saves and evaluations that never fall due are made up for at the end by transformers; logs are not."""
    training = job.training
    for name, on in (("save", training.save_strategy), ("eval", training.eval_strategy)):
        stated = getattr(training, f"{name}_steps")
        key = f"training.{name}_steps"
        if on == "steps" and key in job.places and stated and every(stated, plan.total) > plan.total:
            message = f"{name}_steps: {stated:g} is beyond the {plan.total:,} steps: only once, at the end"
            yield Finding(message, Severity.INFO, job.at(key))
    delay = training.extra.get("eval_delay") or 0
    by_steps = training.eval_strategy == "steps"
    length, unit = (plan.total, "steps") if by_steps else (math.ceil(plan.epochs), "epochs")
    if training.eval_strategy != "no" and delay > length:
        message = f"eval_delay: {delay:g} is beyond the {length:,} {unit}: nothing is evaluated"
        yield Finding(message, Severity.WARNING, job.at("training.eval_delay"), "eval_delay: 0")
    yield from _unlogged(job, plan)


def _unlogged(job: Job, plan: Steps) -> Iterator[Finding]:
    training = job.training
    by_steps = training.extra.get("logging_strategy", "steps") == "steps"
    key = "training.logging_steps"
    if not by_steps or key not in job.places or every(training.logging_steps, plan.total) <= plan.total:
        return
    new = max(1, plan.total // 20)
    stated = f"logging_steps: {training.logging_steps:g}"
    message = f"{stated} is beyond the {plan.total:,} steps: there is no loss curve"
    change = Change(f"jobs.{job.name}.{key}", training.logging_steps, new)
    severity = _unless_trial(job, Severity.WARNING)
    yield Finding(message, severity, job.at(key), f"logging_steps: {new}", change)


@rule("learning-rate", family="config", cases="ftcheck_rules.config.cases.schedule")
def learning_rate(job: Job, model: ModelConfig) -> Iterator[Yield]:
    """The learning rate is one with which this method has been trained.

    TRL's default, 2e-5, is for training all weights: an adapter hardly moves with it, and the loss looks
    as if there were nothing to learn. The rates of adapters break a model that is trained whole.

    The bands are a dated table (ftcheck/tables/learning_rates.json) by method and width of the model, for
    optimizers of the Adam family; beside them, lora_alpha / r. No parameters.
    """
    table = tables.load("learning_rates")
    training, method = job.training, "lora" if job.training.lora else "full"
    known = _is_adam(training.optim)
    if not known and training.lora is None:
        yield Skip(f"no band is known for the optimizer {training.optim}")
        return
    band = _band(table[method], model) if known else None
    limit = None if band is None else _limit(band)
    yield Measurement("learning_rate", training.learning_rate, limit=limit)
    yield Summary(f"{training.learning_rate:g} for {_method(method)}")
    if band is not None and not _within(training.learning_rate, band):
        yield _off_band(job, method, band)
    yield from _scaling(job, table["alpha_over_r"])


def _is_adam(optimizer: str | None) -> bool:
    return optimizer is None or ("adamw" in optimizer and "schedule_free" not in optimizer)


def _method(method: str) -> str:
    return "a LoRA adapter" if method == "lora" else "training all weights"


def _band(bands: list[Mapping[str, Any]], model: ModelConfig) -> Mapping[str, Any] | None:
    """The band of a model of this width; the widest model's where the config does not say."""
    width = model.shape.hidden
    if width is None:
        return bands[-1]
    return next(one for one in bands if one["hidden_below"] is None or width < one["hidden_below"])


def _within(value: float, band: Mapping[str, Any]) -> bool:
    return bool(band["low"] <= value and (band["high"] is None or value <= band["high"]))


def _limit(band: Mapping[str, Any]) -> str:
    return f">= {band['low']:g}" if band["high"] is None else f"{band['low']:g} to {band['high']:g}"


def _off_band(job: Job, method: str, band: Mapping[str, Any]) -> Finding:
    key, found = "training.learning_rate", job.training.learning_rate
    stated = f"learning_rate: {found:g}" if key in job.places else f"TRL's default learning rate, {found:g},"
    side = "below" if found < band["low"] else "above"
    message = f"{stated} is {side} what {_method(method)} is trained with ({_limit(band)})"
    fix = f"learning_rate: {band['usual']:g}"
    return Finding(message, Severity.WARNING, job.at(key), fix, _change(job, "learning_rate", band["usual"]))


def _scaling(job: Job, band: Mapping[str, Any]) -> Iterator[Yield]:
    """lora_alpha / r multiplies what the adapter adds; rsLoRA divides by the root, and is not judged."""
    lora = job.training.lora
    if lora is None or lora.use_rslora or lora.r < 1:
        return
    ratio = lora.lora_alpha / lora.r
    yield Measurement("lora_scaling", round(ratio, 4), limit=_limit(band))
    if _within(ratio, band):
        return
    key, new = "training.lora.lora_alpha", int(band["usual"] * lora.r)
    message = f"lora_alpha / r = {lora.lora_alpha} / {lora.r} = {ratio:.3g}, outside {_limit(band)}: it"
    message += " multiplies all that the adapter adds, as another learning rate would"
    change = Change(f"jobs.{job.name}.{key}", lora.lora_alpha, new, safe=False)
    yield Finding(message, Severity.WARNING, job.at(key), f"lora_alpha: {new} (2 x r)", change)
