"""Outcome rules: did the run finish, does its adapter load, and did it need the predicted memory?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from ftcheck import (
    Finding,
    Inputs,
    Job,
    Location,
    Measurement,
    Prepared,
    Severity,
    Skip,
    Stage,
    Summary,
    rule,
)
from ftcheck.errors import FtcheckError
from ftcheck.estimate.memory.formulas import GIB
from ftcheck.extension.rules import Yield
from ftcheck.gate.input_digests import gather, model_digest
from ftcheck.inputs.finished_run import Adapter, RunArtifacts, untrained
from ftcheck.inputs.run_folder import (
    Metric,
    State,
    TrainingRun,
    mapping,
    number,
    text,
)
from ftcheck.paths import model_folder, near
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.row_sample import RowSample
from ftcheck_rules.budget.memory_fit import predicted

UNVERIFIED = "unverified"
FEW = 10
"""The fewest lines of metrics for which the end of a curve is judged."""
EDGE = 0.1
"""Share of the lines that make the start, or the end, of a curve."""
LEARNED = 0.02
"""A loss below this share of the first one is noise: its rise does not count."""


@dataclass(frozen=True)
class LossConvergence:
    """Parameters of `loss-convergence`."""

    min_drop: float = 0.05
    """Share by which the final loss must be below the first."""
    max_rise: float = 0.2
    """Share by which the final loss may exceed the lowest part of the curve."""
    max_eval_rise: float = 0.05
    """Share by which the last evaluation loss may exceed the best one."""


@rule("loss-convergence", family="outcome", cases="ftcheck_rules.outcome.cases.outcome", stage=Stage.AFTER)
def loss_convergence(
    job: Job, run_artifacts: RunArtifacts | None, prepared: Prepared, params: LossConvergence
) -> Iterator[Yield]:
    """The run belongs to this job, it finished, and its loss fell and did not rise at the end.

    A run that was killed, diverged or never learned leaves a folder that looks like any other; and an adapter
    of other rows or another base model is not what was checked the night before.

    Reads run.json and metrics.jsonl. An error: a run of another job, model, template or other rows (the
    digest over ids and labels); one that did not finish, with its reason; a loss or gradient that was not
    finite; a final loss (median of the last tenth of the lines) that is not min_drop below the first, or more
    than max_rise above the lowest part of the curve; an error of a check of stage during that did not stop
    the run; an evaluation loss that ends more than max_eval_rise above its best, with the best step.
    Unreadable lines are warnings. Parameters: min_drop (default 0.05), max_rise (default 0.2), max_eval_rise
    (default 0.05).
    """
    if run_artifacts is None:
        yield Skip(untrained(job))
        return
    run = run_artifacts.run
    if run is None:
        where = near(str(run_artifacts.folder))
        yield Skip(f"{where} contains no run.json: another program trained, and its metrics are unknown")
        return
    yield from _belongs(job, run, prepared)
    yield from _ended(job, run)
    yield from _unread(run)
    yield from _unhandled(run)
    lines = run.training
    yield Measurement("steps", run.steps, unit="steps", limit=f">= {run.total}" if run.total else None)
    if not lines:
        yield from _without_lines(job, run)
        return
    yield from _not_finite(run)
    yield from _curve(job, run, params)
    yield from _evaluations(job, run, params)


def _belongs(job: Job, run: TrainingRun, prepared: Prepared) -> Iterator[Finding]:
    """What the run was started for, compared with the job as it is now."""
    at = Location(path=near(str(run.folder / "run.json")), line=1, column=1)
    if run.job != job.name:
        fix = "set `run` or training.output_dir to the folder of this job's run"
        message = f"the folder contains a run of the job '{run.job}', not of '{job.name}'"
        yield Finding(message, at=at, fix=fix, why="The results would be those of another job.")
        return
    now, then = gather(job, ()).job, run.ticket
    fix = "train again, or check the run with the policy that it was started with"
    why = "What was trained differs from what the policy describes and what was checked."
    for key, what, value in (("model", "base model", now.model), ("template", "chat template", now.template)):
        if then.get(key) is not None and then.get(key) != value:
            yield Finding(f"the run's {what} differs from that of the policy now", at=at, fix=fix, why=why)
    if run.ids == UNVERIFIED and then.get("sample"):
        drawn = RowSample(**then["sample"])
        said = f"only {drawn} were checked before the training, which took all of them"
        yield Finding(said, Severity.INFO, at=at)
    elif run.ids == UNVERIFIED:
        said = "another program prepared the rows: it is unknown whether they are those that were checked"
        yield Finding(said, Severity.INFO, at=at)
    elif run.ids != prepared.digest:
        message = "the run was trained on other rows (ids and labels) than the policy has now"
        yield Finding(message, at=at, fix=fix, why=why)
    elif then.get("job_digest") != now.digest:
        said = f"the section jobs.{job.name} has changed since training; rows, model and template have not"
        yield Finding(said, Severity.INFO, at=at)


def _ended(job: Job, run: TrainingRun) -> Iterator[Finding]:
    if run.state is State.FINISHED:
        return
    last = f"step {run.steps:,}" + (f" of {run.total:,}" if run.total else "")
    killed = "it was killed, and left no message"
    word = run.reason or (killed if run.state is State.CRASHED else "no reason given")
    resume = f"ftcheck train POLICY --job {job.name} --resume" if run.checkpoint else "train again"
    message = f"the run did not finish: {run.state.value} at {last}: {word}"
    fix = "wait until it has finished" if run.state is State.RUNNING else resume
    why = "The adapter in the folder is from the middle of the training, or missing."
    yield Finding(message, at=_at(run, "run.json"), fix=fix, why=why)


def _at(run: TrainingRun, name: str, line: int = 1) -> Location:
    return Location(path=near(str(run.folder / name)), line=line, column=1)


def _unread(run: TrainingRun) -> Iterator[Finding]:
    for note in run.notes:
        at = Location(path=near(note.path), line=note.line, column=1)
        why = "The run was killed, or the disk was full, while the line was written."
        message = f"a line of metrics cannot be read: {note.message}"
        yield Finding(message, Severity.WARNING, at=at, why=why)


def _unhandled(run: TrainingRun) -> Iterator[Finding]:
    """What the checks of stage during found without stopping the run."""
    told = run.values.get("during")
    for result in map(mapping, told if isinstance(told, list) else ()):
        name, at = result.get("id"), _at(run, "run.json")
        if result.get("outcome") == "errored":
            message = f"{name} failed with an error during the run: {result.get('reason')}"
            yield Finding(message, Severity.WARNING, at=at)
        if result.get("outcome") == "failed":
            yield from _gone_on(name, result, at)


def _gone_on(name: Any, result: Mapping[str, Any], at: Location) -> Iterator[Finding]:
    found = result.get("findings")
    for one in map(mapping, found if isinstance(found, list) else ()):
        bad = one.get("severity") == Severity.ERROR and result.get("acted") != "stop"
        message = f"{name} at step {one.get('step')}: {one.get('message')}"
        yield Finding(message, Severity.ERROR if bad else Severity.INFO, at=at, fix=text(one.get("fix")))


def _without_lines(job: Job, run: TrainingRun) -> Iterator[Finding]:
    """A run without metrics: the command trainer writes none, ftcheck's own always does."""
    own = run.trainer != "command"
    said = "the run has no metrics" + ("" if own else ", because a command writes none")
    severity = Severity.ERROR if own else Severity.INFO
    yield Finding(f"{said}: its loss is unknown", severity, at=_at(run, "run.json"))


def _not_finite(run: TrainingRun) -> Iterator[Finding]:
    for name, what in (("loss", "loss"), ("grad_norm", "gradient"), ("eval_loss", "evaluation loss")):
        bad = [line for line in run.metrics if line.is_not_finite(name)]
        if bad:
            message = f"the {what} was not finite at step {bad[0].step:,} ({counted(len(bad), 'line')})"
            fix = "lower training.learning_rate, lengthen warmup_steps, or compute in bfloat16"
            why = "One step with NaN writes NaN into every weight: what came after it is lost."
            yield Finding(message, at=_at(run, "metrics.jsonl", bad[0].line), fix=fix, why=why)


def _curve(job: Job, run: TrainingRun, params: LossConvergence) -> Iterator[Yield]:
    losses = [line.loss for line in run.training if line.loss is not None]
    if not losses:
        return
    edge = max(1, round(len(losses) * EDGE))
    first, final = median(losses[:edge]), median(losses[-edge:])
    drop = 1 - final / first if first > 0 else 0.0
    yield Measurement("loss_first", round(first, 4))
    yield Measurement("loss_final", round(final, 4))
    yield Measurement("loss_drop", round(drop, 4), limit=f">= {params.min_drop:g}")
    yield Summary(f"{run.state.value} after {counted(run.steps, 'step')} · loss {first:.3g} to {final:.3g}")
    last = _at(run, "metrics.jsonl", run.training[-1].line)
    if len(losses) == 1:
        message = "the run has a single line of metrics: it is unknown whether the loss fell"
        yield Finding(message, Severity.WARNING, at=last, fix="lower training.logging_steps")
    elif drop < params.min_drop:
        message = f"the loss went from {first:.4g} to {final:.4g}: it did not fall by {params.min_drop:.0%}"
        fix = "train longer, or with a higher training.learning_rate; check the loss mask (trained-tokens)"
        yield Finding(message, at=last, fix=fix, why="The model has hardly learned anything.")
    if len(losses) >= FEW:
        lowest = min(median(losses[at : at + edge]) for at in range(0, len(losses) - edge + 1, edge))
        rise = final / lowest - 1 if lowest > 0 else 0.0
        yield Measurement("loss_rise", round(rise, 4), limit=f"<= {params.max_rise:g}")
        if rise > params.max_rise and final > LEARNED * first:
            message = f"the loss rose from its lowest value {lowest:.4g} to {final:.4g} at the end,"
            message += f" by {rise:.0%}"
            fix = "use an earlier checkpoint, and lower training.learning_rate"
            why = "The run diverged: its last weights are worse than earlier ones."
            yield Finding(message, at=last, fix=fix, why=why)


def _evaluations(job: Job, run: TrainingRun, params: LossConvergence) -> Iterator[Yield]:
    known: list[tuple[float, Metric]] = [
        (line.eval_loss, line) for line in run.evaluations if line.eval_loss is not None
    ]
    if not known:
        return
    best, where = min(known, key=lambda pair: pair[0])
    last, line = known[-1]
    yield Measurement("eval_loss_best", round(best, 4))
    yield Measurement("eval_loss_last", round(last, 4), limit=f"<= {best * (1 + params.max_eval_rise):.4g}")
    yield Measurement("best_step", where.step, unit="steps")
    if last > best * (1 + params.max_eval_rise):
        kept = bool(job.training.extra.get("load_best_model_at_end"))
        message = f"the evaluation loss was best at step {where.step:,} ({best:.4g}) and ended at {last:.4g}"
        fix = None if kept else f"use the checkpoint of step {where.step:,}, or set load_best_model_at_end"
        severity = Severity.INFO if kept else Severity.ERROR
        why = "After that step the model memorised its rows, and became worse on unseen data."
        yield Finding(message, severity, at=_at(run, "metrics.jsonl", line.line), fix=fix, why=why)


# --- the adapter -----------------------------------------------------------------------------------------


@rule("adapter-loads", family="outcome", cases="ftcheck_rules.outcome.cases.outcome", stage=Stage.AFTER)
def adapter_loads(job: Job, run_artifacts: RunArtifacts | None, adapter: Adapter | None) -> Iterator[Yield]:
    """Base model and adapter load in a fresh process and belong together, and the adapter was trained.

    An adapter for another base model of the same shape loads silently and produces nonsense; so does one
    whose tensors have other names, about which PEFT only warns; and one whose lora_B is all zero is the base
    model itself.

    The model is loaded as a server loads it, with the base quantised as it was trained (evaluation.precision:
    full for the unquantised base). An error: it cannot be loaded; it names another base, or the base is not
    the one it was trained on; tensors are missing, unknown, or contain values that are not finite; every
    lora_B is zero; the tokenizer saved with it has more tokens than the embedding table has rows, or produces
    other ids, another end token or another template than were checked. No pickle is loaded. No parameters.
    """
    if run_artifacts is None or adapter is None:
        yield Skip(untrained(job) if run_artifacts is None else run_artifacts.missing)
        return
    where = near(str(run_artifacts.folder))
    at = Location(path=where)
    if adapter.problem is not None:
        fix = "check that it is complete and belongs to this base model; correct model.name, or train again"
        yield Finding(f"the adapter could not be loaded: {adapter.problem}", at=at, fix=fix)
        return
    base = f"the {adapter.bits} base" if adapter.bits else "the base"
    loaded = f"{counted(adapter.tensors, 'tensor')} loaded on {base} model, {adapter.device}"
    yield Measurement("tensors", adapter.tensors)
    yield Measurement(
        "untrained_tensors", adapter.zero, limit=f"< {adapter.updates}" if adapter.updates else None
    )
    yield Measurement("vocabulary", adapter.tokens, unit="tokens", limit=f"<= {adapter.rows}")
    yield Summary(loaded)
    yield from _other_base(job, run_artifacts, adapter, at)
    yield from _tensors(adapter, at)
    yield from _settings(job, run_artifacts, adapter, at)
    for said in adapter.beside:
        fix = "save the tokenizer that was checked beside the adapter"
        why = "A server that loads this tokenizer prompts the model differently than it was trained."
        yield Finding(said, at=at, fix=fix, why=why)
    if adapter.tokens is None:
        said = "no tokenizer is saved beside the adapter: a server uses the base model's"
        yield Finding(said, Severity.INFO, at=at)
    elif adapter.rows is not None and adapter.tokens > adapter.rows:
        message = (
            f"the tokenizer has {adapter.tokens:,} tokens, the embedding table has {adapter.rows:,} rows"
        )
        yield Finding(message, at=at, fix="set model.resize_embeddings_to as in training")


def _other_base(job: Job, run_artifacts: RunArtifacts, adapter: Adapter, at: Location) -> Iterator[Finding]:
    """Whether the adapter belongs to the base: by the digest of its run, else by the name in its config."""
    now = model_digest(job)
    then = run_artifacts.run.ticket.get("model") if run_artifacts.run is not None else None
    fix = "set model.name and model.revision as in training"
    if then is not None and then != now:
        yield Finding("the base model is not the one that the adapter was trained on", at=at, fix=fix)
        return
    named = adapter.config.get("base_model_name_or_path")
    if then is not None or not isinstance(named, str) or run_artifacts.whole:
        return
    if _same_base(job, named):
        stated, revision = job.model.revision, adapter.config.get("revision")
        if revision not in (None, stated):
            named = "not set" if stated is None else stated
            message = f"the adapter belongs to revision {revision} of its base, model.revision is {named}"
            yield Finding(message, Severity.WARNING, at=at, fix=fix)
        return
    yield Finding(f"the adapter's base is {named}, model.name is {job.model.name}", at=at, fix=fix)


def _same_base(job: Job, named: str) -> bool:
    here, there = model_folder(job.model.name, job.model.revision), model_folder(named)
    if named == job.model.name or (here is not None and there is not None and here.samefile(there)):
        return True
    return there is not None and model_digest(job) == model_digest(job, named)


COMPILED = "_orig_mod."
"""What torch.compile puts in front of the names of a compiled module."""


def _tensors(adapter: Adapter, at: Location) -> Iterator[Finding]:
    if any(COMPILED in name for name in adapter.unexpected):
        name = next(name for name in adapter.unexpected if COMPILED in name)
        yield Finding(
            f"the adapter's tensors have names of a compiled model, such as {name}: they load into no other",
            at=at,
            fix=f"rename the tensors in adapter_model.safetensors, without {COMPILED!r}; what was trained is"
            " in them, nothing has to be trained again",
            why="PEFT only warns about names that it does not know: the model answers as the base alone.",
        )
        adapter = replace(adapter, not_loaded=(), unexpected=())
    for names, what in (
        (adapter.not_finite, ("contains values that are not finite", "contain values that are not finite")),
        (adapter.not_loaded, ("is missing in the file", "are missing in the file")),
        (adapter.unexpected, ("is unknown to the model", "are unknown to the model")),
    ):
        if names:
            count = counted(len(names), "tensor")
            message = f"{count} of the adapter {agreeing(len(names), *what)}: {', '.join(names[:3])}"
            message += " …" if len(names) > 3 else ""
            yield Finding(message, at=at, fix="train again, and see loss-convergence")
    if adapter.updates and adapter.zero == adapter.updates:
        message = f"all {adapter.updates:,} lora_B tensors are zero, which is their initial value"
        fix = "find the adapter that was trained, or train again"
        yield Finding(message, at=at, fix=fix, why="The adapter was never trained: it changes nothing.")
    elif adapter.zero:
        are = agreeing(adapter.zero, "is", "are")
        message = f"{adapter.zero:,} of {counted(adapter.updates, 'lora_B tensor')} {are} zero"
        why = "No gradient reached them: these modules were not trained."
        yield Finding(message, Severity.WARNING, at=at, why=why)


def _settings(job: Job, run_artifacts: RunArtifacts, adapter: Adapter, at: Location) -> Iterator[Finding]:
    lora, rank = job.training.lora, adapter.config.get("r")
    if lora is not None and isinstance(rank, int) and rank != lora.r:
        message = f"the adapter has rank {rank}, training.lora.r is {lora.r}"
        fix = "check that it is the adapter of this run"
        yield Finding(message, Severity.WARNING, at=at, fix=fix)


# --- memory -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MemoryPeak:
    """Parameters of `memory-peak`."""

    tolerance: float = 0.1
    """Share by which the peak may lie outside the predicted interval."""
    min_spare: float = 0.05
    """Share of the GPU's memory that should have stayed free at the peak."""


@rule("memory-peak", family="outcome", cases="ftcheck_rules.outcome.cases.outcome", stage=Stage.AFTER)
def memory_peak(
    job: Job, run_artifacts: RunArtifacts | None, inputs: Inputs, params: MemoryPeak
) -> Iterator[Yield]:
    """The run's peak memory is what was predicted, and left some of the GPU's memory free.

    A peak far above the prediction means that something else was trained than planned, and the next run with
    one longer row ends in the middle of the night; a peak far below means that a smaller GPU would have been
    enough.

    The peak is what CUDA reserved, from run.json; the prediction is the one that the run was started with,
    else that of memory-fit for the same rows. A peak outside the interval by more than tolerance is a
    warning; one above the GPU's memory less min_spare, or above targets.memory_gib, is an error. Skipped for
    runs on a CPU, where the peak is that of the process, and where the model is not modelled. Parameters:
    tolerance (default 0.1), min_spare (default 0.05).
    """
    if run_artifacts is None or run_artifacts.run is None:
        yield Skip(
            untrained(job) if run_artifacts is None else "there is no run.json with the memory of the run"
        )
        return
    run = run_artifacts.run
    peak = run.number("memory_peak_gib")
    if peak is None or _on_cpu(run):
        yield Skip("the run was on a CPU" if peak is not None else "run.json contains no peak memory")
        return
    yield Measurement("peak_gib", round(peak, 2), unit="GiB")
    have = number(mapping(run.values.get("device")).get("memory_gib")) or job.hardware.memory_gib
    yield from _held(job, peak, have, params)
    try:
        low, high = _expected(run) or _predicted(job, inputs)
    except FtcheckError as error:
        message = f"the predicted memory is unknown: {error}"
        yield Finding(message, Severity.INFO, at=job.at("model.name"))
        return
    yield from _against(job, peak, low, high, params)


def _expected(run: TrainingRun) -> tuple[float, float] | None:
    """The interval in GiB that the run was started with; None where it knew none."""
    span = mapping(mapping(run.values.get("expected")).get("memory_gib"))
    low, high = number(span.get("low")), number(span.get("high"))
    return (low, high) if low is not None and high is not None else None


def _predicted(job: Job, inputs: Inputs) -> tuple[float, float]:
    """The interval of memory-fit in GiB, without what CUDA takes for itself, which torch does not count."""
    memory = predicted(job, inputs)
    return (memory.low - memory.context.low) / GIB, (memory.high - memory.context.high) / GIB


def _on_cpu(run: TrainingRun) -> bool:
    """Whether a run had no GPU: run.json says so, or torch was built without."""
    kind = mapping(run.values.get("device")).get("kind")
    if kind is not None:
        return bool(kind == "cpu")
    return str(run.packages.get("torch") or "").endswith("+cpu")


def _held(job: Job, peak: float, have: float | None, params: MemoryPeak) -> Iterator[Finding]:
    at, target = job.at("targets.memory_gib"), job.targets.memory_gib
    if target is not None and peak > target:
        message = f"the peak was {peak:.1f} GiB, targets.memory_gib is {target:g}"
        fix = "use a smaller batch: `ftcheck plan` names one that fits"
        yield Finding(message, at=at, fix=fix, why="The job does not fit where it is meant to run.")
    elif have is not None and peak > have * (1 - params.min_spare):
        message = f"the peak was {peak:.1f} of {have:g} GiB, less than {params.min_spare:.0%} was left"
        fix, why = "use a smaller batch", "A slightly longer row would end the next run out of memory."
        yield Finding(message, at=job.at("training.per_device_train_batch_size"), fix=fix, why=why)


def _against(job: Job, peak: float, low: float, high: float, params: MemoryPeak) -> Iterator[Yield]:
    yield Measurement("predicted_low_gib", round(low, 2), unit="GiB")
    yield Measurement("predicted_high_gib", round(high, 2), unit="GiB")
    yield Summary(f"peak {peak:.1f} GiB, predicted {low:.1f} to {high:.1f} GiB")
    if not low * (1 - params.tolerance) <= peak <= high * (1 + params.tolerance):
        above = peak > high
        message = f"the peak of {peak:.1f} GiB is {'above' if above else 'below'} the predicted {low:.1f} to"
        message += f" {high:.1f} GiB"
        fix = "check that nothing else used the GPU, and that the batch was the policy's"
        why = (
            "Something else was trained than planned, and a longer row may not fit."
            if above
            else "Something else was trained than planned, or a smaller GPU would be enough."
        )
        yield Finding(message, Severity.WARNING, at=job.at("training"), fix=fix, why=why)
