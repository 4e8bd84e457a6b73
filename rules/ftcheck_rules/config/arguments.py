"""Argument rules: what the trainer would refuse or misread at its start, and known bugs of its versions."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftcheck import (
    Change,
    Finding,
    Job,
    Jobs,
    Measurement,
    Packages,
    Severity,
    Skip,
    Summary,
    rule,
    tables,
)
from ftcheck.extension.rules import Yield
from ftcheck.importers.importing import framework_of
from ftcheck.importers.records import NAMES
from ftcheck.inputs import bounded
from ftcheck.lock import Lock
from ftcheck.paths import near
from ftcheck.plurals import agreeing, counted
from ftcheck.records import Location
from ftcheck.training.reserved_arguments import RESERVED, RESERVED_FOR_MODEL
from ftcheck_rules.config.changed_defaults import changed_defaults
from ftcheck_rules.config.yaml11 import misread
from ftcheck_rules.host.machine import release

OWN = "qlora"
COMMAND = "command"
CAST = ("tune",)
"""Programs that read 1e-5 in YAML as a number (torchtune: OmegaConf)."""

LOSSES = ("nll", "dft", "chunked_nll")
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")


@rule("training-arguments", family="config", cases="ftcheck_rules.config.cases.arguments")
def training_arguments(job: Job, lock: Lock | None) -> Iterator[Yield]:
    """The training arguments are compatible: the trainer starts with them, and uses them as intended.

    Arguments that exclude each other stop the run after the model has been loaded, on the machine that costs
    money. Worse are arguments that are accepted with another meaning: in the YAML file of another trainer
    PyYAML reads 1e-5 as a text, and the optimizer fails on it, or a default is used instead.

    The combinations are those that TRL 1.16 and transformers 5.23 refuse, read in their source; neither is
    imported. For `trainer.use: command`, the YAML files in `trainer.files` are read as PyYAML would. Where
    `ftcheck lock` wrote a lock, arguments that the policy leaves to the library must still have the locked
    defaults: a new version changes them silently. No parameters.
    """
    for check in COMBINATIONS:
        yield from check(job)
    looked = len(COMBINATIONS)
    files = _yaml_files(job)
    for path in files:
        yield from _misread(path, job)
    if job.imported is None:
        yield from _not_compared(job)
    yield Measurement("combinations", looked)
    yield Measurement("yaml_files", len(files))
    read = f", {counted(len(files), 'YAML file')}" if files else ""
    locked = f", {counted(len(lock.defaults), 'locked default')}" if lock is not None else ""
    if lock is not None:
        yield from changed_defaults(job, lock)
    yield Summary(f"{looked} incompatible combinations{read}{locked} checked")


def _get(job: Job, key: str) -> Any:
    """A training argument, whether it has a field of its own or not; None where it is not stated."""
    return getattr(job.training, key, None) if hasattr(job.training, key) else job.training.extra.get(key)


def _finding(job: Job, key: str, message: str, fix: str, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(message, severity, job.at(f"training.{key}"), fix)


def _set(job: Job, key: str, message: str, new: Any, *, safe: bool = False, also: str = "") -> Finding:
    """A finding that another value of the same argument fixes."""
    old = _get(job, key)
    shown = json.dumps(new)
    change = Change(f"jobs.{job.name}.training.{key}", old, new, safe=safe)
    return Finding(message, at=job.at(f"training.{key}"), fix=f"set {key}: {shown}{also}", change=change)


# --- combinations ---------------------------------------------------------------------------------------


def _padding_free(job: Job) -> Iterator[Finding]:
    """TRL cannot truncate in this mode, and refuses; ftcheck's own trainer truncates the rows beforehand."""
    training = job.training
    if training.padding_free and not training.packing and training.max_length is not None:
        if job.trainer.use == OWN:
            return
        message = (
            f"padding_free is on without packing, and max_length is {training.max_length}:"
            " TRL refuses to start"
        )
        yield _set(job, "padding_free", message, False, safe=True, also=", or packing: true")


def _eval_packing(job: Job) -> Iterator[Finding]:
    training = job.training
    if _get(job, "eval_packing") and not training.packing and training.max_length is None:
        message = "eval_packing is on, but max_length, the length of a block, is null: TRL refuses to start"
        yield _set(job, "eval_packing", message, False, safe=True)


def _best_model(job: Job) -> Iterator[Finding]:
    """load_best_model_at_end requires every checkpoint to be evaluated."""
    training = job.training
    save, evaluate = training.save_strategy, training.eval_strategy
    if not _get(job, "load_best_model_at_end") or save == "best":
        return
    if evaluate == "no":
        message = "load_best_model_at_end is on, but eval_strategy is no: transformers refuses to start"
        yield _finding(
            job, "eval_strategy", message, f"set eval_strategy: {save}, or remove load_best_model_at_end"
        )
    elif evaluate != save:
        message = (
            f"load_best_model_at_end is on, but save_strategy is {save} and eval_strategy is {evaluate}:"
            " transformers refuses to start"
        )
        yield _set(job, "save_strategy", message, evaluate)
    elif evaluate == "steps":
        yield from _multiples(job)


def _multiples(job: Job) -> Iterator[Finding]:
    save = job.training.save_steps
    evaluate = job.training.eval_steps or job.training.logging_steps
    if evaluate <= 0 or _is_multiple(save, evaluate):
        return
    message = f"load_best_model_at_end is on, but save_steps {save:g} is not a multiple of eval_steps"
    message += f" {evaluate:g}"
    if (save < 1) != (evaluate < 1):
        fix = "write both as numbers of steps"
        yield _finding(job, "save_steps", f"{message} (one of them is a share of all steps)", fix)
        return
    times = max(1, round(save / evaluate))
    yield _set(job, "save_steps", message, evaluate * times if evaluate < 1 else int(evaluate) * times)


def _is_multiple(save: float, evaluate: float) -> bool:
    """As transformers computes it."""
    if save % evaluate == 0:
        return True
    both_shares = save < 1 and evaluate < 1
    return both_shares and (save * 1_000_000) % (evaluate * 1_000_000) == 0


def _evaluation(job: Job) -> Iterator[Finding]:
    training = job.training
    if training.eval_strategy != "no" and not job.evaluable:
        message = (
            f"eval_strategy is {training.eval_strategy}, but data.eval is not set:"
            " transformers refuses to start"
        )
        yield _set(job, "eval_strategy", message, "no", safe=True, also=", or set data.eval")
    if training.eval_strategy == "no" and training.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy"):
        message = f"lr_scheduler_type {training.lr_scheduler_type} needs evaluations, but eval_strategy is no"
        yield _finding(job, "lr_scheduler_type", message, "set eval_strategy and data.eval")


def _save_best(job: Job) -> Iterator[Finding]:
    if job.training.save_strategy != "best":
        return
    if not _get(job, "metric_for_best_model") and not _get(job, "load_best_model_at_end"):
        message = "save_strategy is best, but metric_for_best_model is not set: transformers refuses to start"
        yield _finding(job, "save_strategy", message, "set metric_for_best_model: loss")
    elif job.training.eval_strategy == "no":
        message = "save_strategy is best, but eval_strategy is no: no checkpoint is ever written"
        yield _finding(job, "save_strategy", message, "set eval_strategy", Severity.WARNING)


def _best_metric(job: Job) -> Iterator[Finding]:
    """At the first evaluation the Trainer looks the metric up among those of the evaluation."""
    name = _get(job, "metric_for_best_model")
    if not isinstance(name, str) or job.training.eval_strategy == "no":
        return
    known = tables.load("evaluation_metrics")["metrics"]
    if name.removeprefix("eval_") in known or _computes_metrics(job):
        return
    sure = job.trainer.use == OWN
    message = f"metric_for_best_model is {name}, which nothing computes: TRL's evaluations have loss,"
    message += " mean_token_accuracy and entropy; the first one ends with a KeyError"
    if not sure:
        message += ", unless the command computes it (evaluation.compute_metrics: true says so)"
    key = "metric_for_best_model"
    change = Change(f"jobs.{job.name}.training.{key}", name, "loss", safe=False)
    severity = Severity.ERROR if sure else Severity.WARNING
    yield Finding(message, severity, job.at(f"training.{key}"), f"set {key}: loss", change)


def _computes_metrics(job: Job) -> bool:
    """Whether the policy says that the command computes metrics of its own; ftcheck's trainer does not."""
    return job.trainer.use != OWN and bool(job.evaluation is not None and job.evaluation.compute_metrics)


def _half(job: Job) -> Iterator[Finding]:
    if job.training.fp16 and job.training.bf16:
        yield _set(job, "fp16", "fp16 and bf16 are both on: transformers refuses to start", False)
    if _get(job, "fp16_full_eval") and _get(job, "bf16_full_eval"):
        message = "fp16_full_eval and bf16_full_eval are both on: transformers refuses to start"
        yield _set(job, "fp16_full_eval", message, False, safe=True)


def _steps(job: Job) -> Iterator[Finding]:
    """Steps are whole numbers, or shares below 1."""
    training = job.training
    strategies = {
        "logging_steps": _get(job, "logging_strategy") or "steps",
        "eval_steps": training.eval_strategy,
        "save_steps": training.save_strategy,
    }
    for key, strategy in strategies.items():
        value = _get(job, key)
        if strategy == "steps" and value is not None and value > 1 and value != int(value):
            message = f"{key} {value:g} is above 1 and not a whole number: transformers refuses to start"
            yield _set(job, key, message, round(value), safe=key != "save_steps")


def _numbers(job: Job) -> Iterator[Finding]:
    prefetch, workers = _get(job, "dataloader_prefetch_factor"), _get(job, "dataloader_num_workers") or 0
    if prefetch is not None and workers == 0:
        message = (
            f"dataloader_prefetch_factor is {prefetch}, but dataloader_num_workers is 0:"
            " transformers refuses to start"
        )
        yield _set(job, "dataloader_prefetch_factor", message, None, safe=True)
    every = _get(job, "torch_empty_cache_steps")
    if every is not None and every < 1:
        message = f"torch_empty_cache_steps is {every}, but must be at least 1: transformers refuses to start"
        yield _set(job, "torch_empty_cache_steps", message, None, safe=True)


def _quantization(job: Job) -> Iterator[Finding]:
    quantization = job.training.quantization
    if quantization is not None and quantization.load_in_4bit and quantization.load_in_8bit:
        message = "load_in_4bit and load_in_8bit are both on: transformers refuses to start"
        change = Change(f"jobs.{job.name}.training.quantization.load_in_8bit", True, False, safe=False)
        at = job.at("training.quantization.load_in_8bit")
        yield Finding(message, at=at, fix="set load_in_8bit: false", change=change)


def _loss(job: Job) -> Iterator[Finding]:
    loss = _get(job, "loss_type")
    if loss is not None and loss not in LOSSES:
        known = " and ".join(LOSSES[:2])
        yield _set(job, "loss_type", f"loss_type {loss!r} is unknown to TRL, which has {known}", "nll")
    liger = _get(job, "liger_kernel_config")
    fused = isinstance(liger, Mapping) and liger.get("fused_linear_cross_entropy")
    if _get(job, "use_liger_kernel") and fused:
        message = "liger_kernel_config sets fused_linear_cross_entropy: TRL refuses to start"
        fix = "remove fused_linear_cross_entropy: TRL computes it itself"
        yield _finding(job, "liger_kernel_config", message, fix)


def _checkpointing(job: Job) -> Iterator[Finding]:
    new, old = (_get(job, key) for key in CHECKPOINTING)
    if new is not None and new != old and "training.gradient_checkpointing" in job.places:
        new_value, old_value = json.dumps(new), json.dumps(old)
        message = f"activation_checkpointing: {new_value} overrides gradient_checkpointing: {old_value}"
        message += ", which is its older name"
        finding = _set(job, "gradient_checkpointing", message, new, safe=True)
        yield Finding(message, Severity.WARNING, finding.at, finding.fix, finding.change)
    on = old if new is None else new
    for key in (f"{name}_kwargs" for name in CHECKPOINTING):
        stated = _get(job, key)
        if isinstance(stated, Mapping):
            yield from _reentrant(job, key, stated, on=bool(on))
            return


def _reentrant(job: Job, key: str, stated: Mapping[str, Any], *, on: bool) -> Iterator[Finding]:
    """Reentrant checkpointing: fine on one GPU, but not with DDP over an adapter.

    transformers 5.23 searches for unused parameters where the model is an adapter (it does not see the
    checkpointing there), and every parameter is then marked ready twice. Tried with two processes: the first
    step fails.
    """
    reentrant = bool(stated.get("use_reentrant"))
    if stated.get("selective") and (not on or reentrant):
        why = "use_reentrant is on" if reentrant else "checkpointing is off"
        message = f"{key} sets selective, but {why}: TRL refuses to start"
        yield _finding(job, key, message, "remove selective")
    elif on and reentrant and _plain_ddp(job) and _get(job, "ddp_find_unused_parameters") is not False:
        unused = _get(job, "ddp_find_unused_parameters") or job.training.lora is not None
        if unused:
            message = (
                f"use_reentrant is on with {job.hardware.count} GPUs (DDP): the first step fails, because"
                " each parameter is marked ready twice ('Expected to mark a variable ready only once')"
            )
            yield _set(job, key, message, {**stated, "use_reentrant": False}, safe=True)


def _plain_ddp(job: Job) -> bool:
    return job.hardware.count > 1 and not _get(job, "deepspeed") and not _get(job, "fsdp")


def _taken(job: Job) -> Iterator[Finding]:
    """What ftcheck's own trainer sets itself, and refuses if the policy sets it."""
    if job.trainer.use != OWN:
        return
    stated = _get(job, "model_init_kwargs")
    inner = stated if isinstance(stated, Mapping) else {}
    for prefix, given, taken in (
        ("", job.training.extra, RESERVED),
        ("model_init_kwargs.", inner, RESERVED_FOR_MODEL),
    ):
        for key in sorted(set(given) & set(taken)):
            message = f"the trainer {OWN} sets {prefix}{key} itself, and refuses a policy that sets it"
            yield _finding(job, f"{prefix}{key}", message, f"remove it: {taken[key]}")


COMBINATIONS: tuple[Callable[[Job], Iterator[Finding]], ...] = (
    _padding_free,
    _eval_packing,
    _best_model,
    _evaluation,
    _save_best,
    _best_metric,
    _half,
    _steps,
    _numbers,
    _quantization,
    _loss,
    _checkpointing,
    _taken,
)


# --- the YAML of another trainer ------------------------------------------------------------------------


def _yaml_files(job: Job) -> Sequence[Path]:
    """YAML files that a command reads, unless it reads 1e-5 as a number."""
    if job.trainer.use != COMMAND or (job.trainer.argv and Path(job.trainer.argv[0]).name in CAST):
        return ()
    paths = [Path(path) for path in job.trainer.files]
    return [path for path in paths if path.suffix.lower() in (".yml", ".yaml")]


def _not_compared(job: Job) -> Iterator[Finding]:
    """A command's file that is a framework's configuration, and that no check compares with the policy."""
    for file in job.trainer.files if job.trainer.use == COMMAND else ():
        framework = framework_of(Path(file))
        if framework is not None:
            yield Finding(
                f"{near(file)} configures {NAMES[framework]}: no check compares it with the policy",
                Severity.INFO,
                job.at("trainer.files"),
                f"state from: {{{framework}: {near(file)}}} in the job",
            )


def _misread(path: Path, job: Job) -> Iterator[Finding]:
    shown = near(str(path))
    try:
        for one in misread(path):
            at = Location(path=shown, line=one.line, column=one.column)
            severity = Severity.ERROR if one.certain else Severity.WARNING
            yield Finding(one.message, severity, at, one.fix)
    except OSError as error:
        message = f"{shown} cannot be read: {error.strerror or error}"
        yield Finding(message, at=job.at("trainer.files"), fix="name an existing file")


# --- known bugs -----------------------------------------------------------------------------------------


@rule("known-bugs", family="config", cases="ftcheck_rules.config.cases.arguments")
def known_bugs(packages: Packages, jobs: Jobs) -> Iterator[Yield]:
    """No setting of a job triggers a known bug of the installed versions that the loss does not show.

    Versions of these libraries have dropped the loss mask with a faster kernel or with packing, weighted
    accumulated batches wrongly, and saved empty adapters: each of these runs finishes silently, and the model
    has learned something other than intended, or does not exist.

    The bugs are in a dated table (ftcheck/tables/known_bugs.json): versions, the settings that trigger the
    bug, and the public thread. Bugs of libraries that are not installed here are not checked.
    """
    bugs = tables.load("known_bugs")["bugs"]
    known = [bug for bug in bugs if packages.versions.get(bug["package"]) is not None]
    if not known or not jobs:
        yield Skip("none of the libraries with known bugs is installed")
        return
    here = [bug for bug in known if _in_range(packages.versions[bug["package"]] or "", bug)]
    yield Measurement("known_bugs", len(known), unit="bugs")
    yield Measurement("of_these_versions", len(here), unit="bugs")
    for job in jobs:
        for bug in here:
            if all(_holds(_setting(job, key), asked) for key, asked in bug["when"].items()):
                yield _of_bug(job, bug, packages)
    missing = len(bugs) - len(known)
    absent = f" ({missing} more of libraries that are not installed)" if missing else ""
    affect = f"{len(here) or 'none'} {agreeing(max(1, len(here)), 'affects', 'affect')} these versions"
    yield Summary(f"{counted(len(known), 'known bug')} checked{absent}, {affect}")


def _in_range(version: str, bug: Mapping[str, Any]) -> bool:
    first = release(bug["from"]) if bug["from"] else ()
    return first <= release(version) < release(bug["below"])


def _setting(job: Job, key: str) -> Any:
    """A setting by its dotted name; `deepspeed.` goes into DeepSpeed's own file."""
    section, _, rest = key.partition(".")
    if section == "deepspeed":
        return _inside(_deepspeed(job), rest)
    return _get(job, rest)


def _inside(found: Any, key: str) -> Any:
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _deepspeed(job: Job) -> Any:
    stated = _get(job, "deepspeed")
    if not isinstance(stated, str):
        return stated
    try:
        return bounded.read_json(stated)
    except (OSError, ValueError):
        return None


def _holds(found: Any, asked: Any) -> bool:
    if not isinstance(asked, Mapping):
        return bool(found == asked)
    if "above" in asked:
        return found is not None and found > asked["above"]
    if "not" in asked:
        return bool(found != asked["not"])
    return (found is not None) is asked["set"]


def _of_bug(job: Job, bug: Mapping[str, Any], packages: Packages) -> Finding:
    name, version = bug["package"], packages.versions[bug["package"]]
    message = f"{name} {version} {bug['message']} ({bug['thread']})"
    return Finding(message, Severity(bug["severity"]), job.at(bug["at"]), bug["fix"])
