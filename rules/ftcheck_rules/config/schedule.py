"""Schedule rules: how many optimizer steps are there, and does the learning rate suit the method?"""

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
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
from ftcheck.estimate.blocks import fed, fed_between
from ftcheck.estimate.disk import estimate, kept_checkpoints
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.steps import (
    Steps,
    devices,
    effective_batch,
    every,
    steps,
)
from ftcheck.extension.rules import Yield
from ftcheck.inputs.container import Inputs
from ftcheck.paths import existing_folder, near
from ftcheck.plurals import agreeing, counted
from ftcheck.records import ON_COMMAND_LINE
from ftcheck.sampling.statistics import Between, NotOfRows
from ftcheck_rules.host.resume import STATE, read_json, resumable

GIB = 1 << 30
USUAL_EPOCHS = 3
USUAL_WARMUP = 0.03
BOTH = {"training.max_steps", "training.num_train_epochs"}


@dataclass(frozen=True)
class Schedule:
    """Parameters of `schedule`."""

    min_steps: int = 8
    """The fewest optimizer steps that a run may have."""
    max_epochs: float = 10
    """The most passes over the data."""
    max_warmup: float = 0.5
    """Share of all steps that the warm-up may take, 0 to 1."""


@rule("schedule", family="config", cases="ftcheck_rules.config.cases.schedule")
def schedule(job: Job, prepared: Prepared, inputs: Inputs, params: Schedule) -> Iterator[Yield]:
    """The run has enough optimizer steps, the intended number of epochs, and a warm-up that ends.

    Packing and several GPUs leave a small data set with few steps: the model hardly changes. A max_steps left
    over from a trial overrides the epochs: the model sees only part of the data. With a warm-up longer than
    the run, the learning rate is never reached; after tens of epochs the model has memorised the rows.

    Steps are counted as transformers counts them, over the planned packed blocks, and over all devices of
    hardware.count. The effective batch is compared with targets.effective_batch. The learning rate schedule
    is built with `transformers.get_scheduler`, for these steps and lr_scheduler_kwargs, on a dummy optimizer
    and stepped; what it raises is an error. Without save_total_limit, the steps also say how many checkpoints
    are kept: they must fit the disk of training.output_dir. A checkpoint there that a run would resume from
    must be of these rows and batches. Parameters: min_steps (default 8), max_epochs
    (10), max_warmup (0.5 of all steps).
    """
    nothing = _nothing(job, prepared)
    if nothing is not None:
        yield Skip(nothing)
        return
    plan = steps(job, fed(job, prepared))
    yield from _measured(job, plan, fed_between(job, prepared), params)
    yield Summary(_in_words(plan))
    yield from _off_batch(job)
    yield from _two_ends(job, plan)
    yield from _amount(job, plan, params)
    yield from _warmup(job, plan, params)
    yield from _intervals(job, plan)
    yield from _scheduler(job, plan, inputs)
    yield from _checkpoints(job, plan)
    yield from _resumed(job, plan, prepared)


def _resumed(job: Job, plan: Steps, prepared: Prepared) -> Iterator[Finding]:
    """Whether the checkpoint that a run would resume from was made from these rows, in such batches."""
    checkpoint = resumable(job)
    if checkpoint is None:
        return
    state, run = read_json(checkpoint / STATE), read_json(checkpoint.parent / "run.json")
    at, where = job.at("training.output_dir"), near(str(checkpoint))
    fix = "set another training.output_dir, or restore the data and settings of that run"
    why = "Rows are skipped or trained on twice when the run resumes."
    ids = run.get("ids")
    if isinstance(ids, str) and prepared.digest is not None and ids != prepared.digest:
        message = f"{where} was made from other token ids than those of data.train now (run.json)"
        yield Finding(message, at=at, fix=fix, why=why)
        return
    epochs, planned = state.get("num_train_epochs"), state.get("max_steps")
    if type(epochs) is not int or type(planned) is not int or job.training.max_steps > 0 or plan.total < 1:
        return
    expected = math.ceil(epochs * plan.an_epoch)
    # transformers rounds epochs up in the state: fewer steps than that are those of a part of an epoch.
    if planned > expected or planned <= (epochs - 1) * plan.an_epoch:
        message = (
            f"{where} was made in a run of {counted(planned, 'step')} for {counted(epochs, 'epoch')}; these"
        )
        message += f" rows and batches make {expected:,}: it has other data or another batch"
        yield Finding(message, Severity.WARNING, at=at, fix=fix, why=why)


def _checkpoints(job: Job, plan: Steps) -> Iterator[Yield]:
    """Room for the checkpoints, where their number follows from the steps (else `disk-space` knows it)."""
    training = job.training
    if training.output_dir is None or kept_checkpoints(training) is not None:
        return
    found = estimate(job, plan.total)
    if not found.bytes:
        return
    yield Measurement("checkpoints", found.checkpoints)
    yield Measurement("checkpoints_gib", round(found.bytes / GIB, 2), unit="GiB")
    folder = existing_folder(Path(training.output_dir))
    free = shutil.disk_usage(folder).free
    if found.bytes > free:
        what = f"{counted(found.checkpoints or 0, 'checkpoint')} of {_size(found.each)}"
        message = f"save_steps {training.save_steps:g} without save_total_limit keeps {what}"
        message += f" and the final save: {_size(found.bytes)}, but {folder} has {_size(free)} free"
        key = "training.save_total_limit"
        change = Change(f"jobs.{job.name}.{key}", None, 2)
        why = "A full disk ends the run in the middle of a checkpoint."
        yield Finding(message, at=job.at(key), fix="set save_total_limit: 2", change=change, why=why)


def _size(count: float) -> str:
    """Bytes as text: in GiB, or in MiB below a tenth of a GiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / (1 << 20):.0f} MiB"


def _scheduler(job: Job, plan: Steps, inputs: Inputs) -> Iterator[Finding]:
    """What transformers raises when it builds the schedule, or steps it."""
    name = job.training.lr_scheduler_type
    problem: str | None = inputs.get("scheduler")
    if problem is None:
        return
    table = tables.load("schedulers")["needs"].get(name)
    key, kwargs = "training.lr_scheduler_kwargs", job.training.extra.get("lr_scheduler_kwargs") or {}
    message = f"lr_scheduler_type {name} does not work with these settings: {problem}"
    why = "The run ends when the trainer builds its scheduler, after the model has been loaded."
    if table is None or not isinstance(kwargs, Mapping) or set(table["any"]) & set(kwargs):
        fix = f"correct lr_scheduler_kwargs, or choose another schedule than {name}"
        at = job.at(key if kwargs else "training.lr_scheduler_type")
        yield Finding(message, at=at, fix=fix, why=why)
        return
    [(argument, value)] = table["proposed"].items()
    new = max(1, plan.total // 10) if value == "steps" else value
    fix = f"set lr_scheduler_kwargs: {{{argument}: {new}}}"
    change = Change(f"jobs.{job.name}.{key}.{argument}", None, new, safe=False)
    yield Finding(message, at=job.at("training.lr_scheduler_type"), fix=fix, change=change, why=why)


def _nothing(job: Job, prepared: Prepared) -> str | None:
    """Why steps cannot be counted."""
    training = job.training
    if not len(prepared.sequences):
        return "no row is left to train on"
    if training.packing and training.max_length is None:
        return "packing is on, but max_length is null: TRL refuses to start"
    return None


def _measured(job: Job, plan: Steps, fed: Interval, params: Schedule) -> Iterator[Measurement]:
    """`fed` are the rows or blocks of an epoch: between two numbers where they are those of a sample."""
    target = job.targets.effective_batch
    ends = [steps(job, round(end)) for end in (fed.low, fed.high)]
    for name, value, limit, unit in (
        ("steps", "total", f">= {params.min_steps}", "steps"),
        ("steps_per_epoch", "an_epoch", None, "steps"),
        ("epochs", "epochs", f"<= {params.max_epochs:g}", None),
        ("effective_batch", "batch", None if target is None else f"{target}", None),
        ("warmup_steps", "warmup", None, "steps"),
    ):
        found, *reached = (round(getattr(one, value), 3) for one in (plan, *ends))
        of_rows = NotOfRows() if name == "effective_batch" else Between(min(reached), max(reached))
        yield Measurement(name, found, unit, limit, statistic=of_rows)


def _in_words(plan: Steps) -> str:
    warmup = f" ({plan.warmup:,} warm-up)" if plan.warmup else ""
    epochs = f"{plan.epochs:.3g} {agreeing(1 if plan.epochs == 1 else 2, 'epoch', 'epochs')}"
    return f"{counted(plan.total, 'step')}{warmup} in {epochs}, effective batch {plan.batch:,}"


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
    message = f"{product} = an effective batch of {found:,}, targets.effective_batch is {target:,}"
    at = job.at("targets.effective_batch")
    why = "With another effective batch, the recipe's learning rate gives other results."
    if target % at_once:
        fix = f"change per_device_train_batch_size: no accumulation of {at_once} makes {target}"
        yield Finding(message, at=at, fix=fix, why=why)
        return
    key, new = "gradient_accumulation_steps", target // at_once
    fix = f"{key}: {training.gradient_accumulation_steps} -> {new}"
    yield Finding(message, at=at, fix=fix, change=_change(job, key, new), why=why)


def _two_ends(job: Job, plan: Steps) -> Iterator[Finding]:
    """Both max_steps and num_train_epochs are set, to different numbers of steps."""
    training = job.training
    if training.max_steps <= 0 or not set(job.places) >= BOTH:
        return
    asked = math.ceil(training.num_train_epochs * plan.an_epoch)
    if plan.total == asked:
        return
    message = (
        f"max_steps {plan.total:,} ({plan.epochs:.3g} epochs) overrides num_train_epochs"
        f" {training.num_train_epochs:g} ({counted(asked, 'step')})"
    )
    fix = "remove one of them; max_steps: -1 trains whole epochs"
    severity = _unless_trial(job, Severity.ERROR)
    why = (
        "The model sees only part of the data."
        if plan.total < asked
        else "The model trains for longer than num_train_epochs says."
    )
    change = _change(job, "max_steps", -1)
    yield Finding(message, severity, job.at("training.max_steps"), fix, change, why=why)


def _unless_trial(job: Job, severity: Severity) -> Severity:
    """`--set …max_steps=2` is a trial: what follows from it is `info`."""
    place = job.places.get("training.max_steps")
    trial = job.training.max_steps > 0 and place is not None and place.path == ON_COMMAND_LINE
    return Severity.INFO if trial else severity


def _amount(job: Job, plan: Steps, params: Schedule) -> Iterator[Finding]:
    ends = "max_steps" if job.training.max_steps >= 0 else "num_train_epochs"
    if plan.total < 1:
        message = f"{ends} is {getattr(job.training, ends):g}: no optimizer step is planned"
        fix = "raise it; max_steps: -1 trains whole epochs"
        why = "The run ends at once, and saves an untrained model."
        yield Finding(message, at=job.at(f"training.{ends}"), fix=fix, why=why)
    elif plan.total < params.min_steps:
        yield _too_few(job, plan, params, ends)
    overrides = ends == "max_steps" and set(job.places) >= BOTH
    if plan.epochs > params.max_epochs and not overrides:
        yield _too_many(job, plan, params, ends)


def _too_few(job: Job, plan: Steps, params: Schedule, ends: str) -> Finding:
    training = job.training
    what = "packed blocks" if training.packing else "rows"
    message = (
        f"{counted(plan.total, 'optimizer step')} in total, below the minimum of {params.min_steps:,}:"
        f" {plan.fed:,} {what} per epoch, {plan.batch:,} per step"
    )
    why = "In so few steps the model hardly changes."
    if ends == "max_steps":
        severity = _unless_trial(job, Severity.WARNING)
        return Finding(message, severity, job.at("training.max_steps"), "raise max_steps", why=why)
    new, other = _accumulation(job, plan, params), "use a smaller batch, or more rows"
    if training.gradient_accumulation_steps == 1:
        key = "per_device_train_batch_size" if training.per_device_train_batch_size > 1 else ends
        return Finding(message, Severity.WARNING, job.at(f"training.{key}"), other, why=why)
    key = "gradient_accumulation_steps"
    if new is None or job.targets.effective_batch is not None:
        return Finding(message, Severity.WARNING, job.at(f"training.{key}"), other, why=why)
    fix = f"{key}: {training.gradient_accumulation_steps} -> {new}; or use more rows"
    change = _change(job, key, new)
    return Finding(message, Severity.WARNING, job.at(f"training.{key}"), fix, change, why=why)


def _accumulation(job: Job, plan: Steps, params: Schedule) -> int | None:
    """The largest accumulation that leaves enough steps."""
    at_once = job.training.per_device_train_batch_size * devices(job)
    batches = -(-plan.fed // at_once)
    fitting = (
        one
        for one in range(job.training.gradient_accumulation_steps - 1, 0, -1)
        if math.ceil(job.training.num_train_epochs * -(-batches // one)) >= params.min_steps
    )
    return next(fitting, None)


def _too_many(job: Job, plan: Steps, params: Schedule, ends: str) -> Finding:
    what = "packed block" if job.training.packing else "row"
    message = f"{plan.epochs:.3g} epochs over {counted(plan.fed, what)}, more than {params.max_epochs:g}"
    enough = math.ceil(params.min_steps / plan.an_epoch)
    epochs = min(params.max_epochs, max(USUAL_EPOCHS, enough))
    new = epochs if ends == "num_train_epochs" else math.ceil(epochs * plan.an_epoch)
    fix = f"{ends}: {getattr(job.training, ends):g} -> {new:g}; the evaluation loss shows when to stop"
    why, change = "The model memorises the rows.", _change(job, ends, new)
    return Finding(message, Severity.WARNING, job.at(f"training.{ends}"), fix, change, why=why)


def _warmup(job: Job, plan: Steps, params: Schedule) -> Iterator[Finding]:
    if not plan.warmup or not plan.total or plan.warmup <= params.max_warmup * plan.total:
        return
    never = plan.warmup >= plan.total
    reached = job.training.learning_rate * plan.total / plan.warmup
    message = f"the warm-up takes {plan.warmup:,} of {counted(plan.total, 'step')}" + (
        f": the learning rate ends at {reached:.2g} and never reaches {job.training.learning_rate:g}"
        if never
        else f", more than {100 * params.max_warmup:g} %"
    )
    fix = f"set warmup_steps: {USUAL_WARMUP} (below 1 it is a share of all steps)"
    severity = Severity.ERROR if never else Severity.WARNING
    change = _change(job, "warmup_steps", USUAL_WARMUP)
    why = "During the warm-up the model learns more slowly than the recipe intends."
    yield Finding(message, severity, job.at("training.warmup_steps"), fix, change, why=why)


def _intervals(job: Job, plan: Steps) -> Iterator[Finding]:
    """Intervals longer than the run: transformers still saves and evaluates at the end, but does not log."""
    training = job.training
    for name, on in (("save", training.save_strategy), ("eval", training.eval_strategy)):
        stated = getattr(training, f"{name}_steps")
        key = f"training.{name}_steps"
        if on == "steps" and key in job.places and stated and every(stated, plan.total) > plan.total:
            what = "a checkpoint is saved" if name == "save" else "an evaluation runs"
            message = f"{name}_steps {stated:g} exceeds the {counted(plan.total, 'step')} of the run: {what}"
            yield Finding(f"{message} only once, at the end", Severity.INFO, job.at(key))
    delay = training.extra.get("eval_delay") or 0
    by_steps = training.eval_strategy == "steps"
    length, unit = (plan.total, "step") if by_steps else (math.ceil(plan.epochs), "epoch")
    if training.eval_strategy != "no" and delay > length:
        message = f"eval_delay {delay:g} exceeds the {counted(length, unit)} of the run: nothing is evaluated"
        why = "Without an evaluation, overfitting goes unnoticed and no best checkpoint is known."
        yield Finding(message, Severity.WARNING, job.at("training.eval_delay"), "set eval_delay: 0", why=why)
    yield from _unlogged(job, plan)


def _unlogged(job: Job, plan: Steps) -> Iterator[Finding]:
    training = job.training
    by_steps = training.extra.get("logging_strategy", "steps") == "steps"
    key = "training.logging_steps"
    if not by_steps or key not in job.places or every(training.logging_steps, plan.total) <= plan.total:
        return
    new = max(1, plan.total // 20)
    stated = f"logging_steps {training.logging_steps:g}"
    message = f"{stated} exceeds the {counted(plan.total, 'step')} of the run: no loss is logged"
    change = Change(f"jobs.{job.name}.{key}", training.logging_steps, new)
    severity = _unless_trial(job, Severity.WARNING)
    why = "Without a logged loss, nobody sees whether the model learns."
    yield Finding(message, severity, job.at(key), f"set logging_steps: {new}", change, why=why)


@rule("learning-rate", family="config", cases="ftcheck_rules.config.cases.schedule")
def learning_rate(job: Job, model: ModelConfig) -> Iterator[Yield]:
    """The learning rate is in the range that is used for this training method.

    TRL's default, 2e-5, is meant for training all weights: an adapter hardly changes with it, and the loss
    looks as if there were nothing to learn. The learning rates of adapters break a model whose weights are
    all trained.

    The ranges are in a dated table (ftcheck/tables/learning_rates.json), by method and width of the model,
    for optimizers of the Adam family; lora_alpha / r is checked as well. No parameters.
    """
    table = tables.load("learning_rates")
    training, method = job.training, "lora" if job.training.lora else "full"
    known = _is_adam(training.optim)
    if not known and training.lora is None:
        yield Skip(f"no range of learning rates is known for the optimizer {training.optim}")
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
    stated = f"learning_rate {found:g}" if key in job.places else f"TRL's default learning_rate, {found:g},"
    low = found < band["low"]
    usual = f"the usual range for {_method(method)} ({_limit(band)})"
    message = f"{stated} is {'below' if low else 'above'} {usual}"
    fix = f"set learning_rate: {band['usual']:g}"
    why = "The model hardly learns." if low else "Training may diverge, or break what the model knows."
    change = _change(job, "learning_rate", band["usual"])
    return Finding(message, Severity.WARNING, job.at(key), fix, change, why=why)


def _scaling(job: Job, band: Mapping[str, Any]) -> Iterator[Yield]:
    """lora_alpha / r scales what the adapter adds; rsLoRA divides by the root, and is not judged."""
    lora = job.training.lora
    if lora is None or lora.use_rslora or lora.r < 1:
        return
    ratio = lora.lora_alpha / lora.r
    yield Measurement("lora_scaling", round(ratio, 4), limit=_limit(band))
    if _within(ratio, band):
        return
    key, new = "training.lora.lora_alpha", int(band["usual"] * lora.r)
    message = f"lora_alpha / r = {lora.lora_alpha} / {lora.r} = {ratio:.3g}, outside {_limit(band)}"
    change = Change(f"jobs.{job.name}.{key}", lora.lora_alpha, new, safe=False)
    why = "The ratio scales everything that the adapter adds: it acts like another learning rate."
    yield Finding(message, Severity.WARNING, job.at(key), f"set lora_alpha: {new} (2 x r)", change, why=why)
