"""Resume rule: does the checkpoint in the run folder fit the job that would resume from it?"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftcheck import Change, Finding, Job, Jobs, Measurement, Severity, Summary, rule
from ftcheck.extension.rules import Yield
from ftcheck.inputs import bounded
from ftcheck.paths import near
from ftcheck.plurals import agreeing, counted

ADAPTER = "adapter_config.json"
STATE = "trainer_state.json"
OPTIMIZER = ("optimizer.pt", "optimizer*", "pytorch_model_fsdp*", "global_step*")
SCALARS = ("r", "lora_alpha", "use_rslora", "use_dora", "bias")
LISTS = ("target_modules", "modules_to_save")


@rule("resume", family="host", cases="ftcheck_rules.host.cases.resume")
def resume(jobs: Jobs) -> Iterator[Yield]:
    """The last checkpoint in a job's run folder, from which a run would resume, was made by this job.

    An adapter of another rank cannot be loaded, which shows after the base model has been loaded; one with
    another scale or base loads, and training continues from weights that mean something else. With another
    batch size, the rows seen so far are counted wrongly. A run that resumes at its last step trains nothing,
    and one without the optimizer's state starts it again from zero.

    Reads adapter_config.json and trainer_state.json of the checkpoint with the highest step, and looks for
    the optimizer's state beside them. `schedule` compares the rows and the number of steps.
    """
    checkpoints = [(job, found) for job in jobs if (found := resumable(job)) is not None]
    yield Measurement("checkpoints", len(checkpoints))
    if not checkpoints:
        yield Summary("nothing to resume")
        return
    others = 0
    for job, checkpoint in checkpoints:
        yield Measurement(f"{job.name}_checkpoint", checkpoint.name)
        state = read_json(checkpoint / STATE)
        findings = [
            *_adapter(job, checkpoint),
            *_batch(job, checkpoint, state),
            *_at_its_end(job, checkpoint, state),
            *_without_optimizer(job, checkpoint),
        ]
        others += bool(findings)
        yield from findings
    fit = agreeing(len(checkpoints), "fits its job", "fit their jobs")
    yield Summary(f"{len(checkpoints) - others} of {counted(len(checkpoints), 'checkpoint')} {fit}")


def resumable(job: Job) -> Path | None:
    """The checkpoint that a resumed run of the job would take; None without one, or after the run's end."""
    if job.training.output_dir is None:
        return None
    folder = Path(job.training.output_dir)
    finished = read_json(folder / "run.json").get("status") == "finished"
    return None if finished else last_checkpoint(folder)


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest step that has a trainer's state; None if there is none."""
    found = [path for path in folder.glob("checkpoint-*") if (path / STATE).is_file()]
    numbered = [path for path in found if path.name.rpartition("-")[2].isdigit()]
    return max(numbered, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object from a file; empty where there is none."""
    try:
        found = bounded.read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _adapter(job: Job, checkpoint: Path) -> Iterator[Finding]:
    lora, saved = job.training.lora, read_json(checkpoint / ADAPTER)
    where = near(str(checkpoint))
    if lora is None and saved:
        yield _differs(job, "training.lora", f"{where} contains an adapter, this job trains all weights")
    elif lora is not None and not saved:
        yield _differs(job, "training.lora", f"{where} contains no adapter, this job trains one")
    if lora is None or not saved:
        return
    for key in SCALARS:
        was, is_now = saved.get(key), getattr(lora, key)
        if key in saved and was != is_now:
            yield _differs(job, f"training.lora.{key}", _words(where, key, was, is_now), (is_now, was))
    for key in LISTS:
        was, is_now = saved.get(key), getattr(lora, key)
        if isinstance(was, list) and isinstance(is_now, tuple) and set(was) != set(is_now):
            message = _words(where, key, sorted(was), sorted(is_now))
            yield _differs(job, f"training.lora.{key}", message, (list(is_now), sorted(was)))
    base = saved.get("base_model_name_or_path")
    if isinstance(base, str) and base and not _same_model(base, job.model.name):
        yield _differs(
            job,
            "model.name",
            f"the base of {where} is {near(base)}, the base of this job is {job.model.name}",
        )


def _same_model(one: str, other: str) -> bool:
    """Whether two names may be one model: the same, or folders (or snapshots) of one name."""
    return one == other or Path(one).name == Path(other).name or "/snapshots/" in one


def _words(where: str, key: str, was: Any, is_now: Any) -> str:
    return f"{where} has {key} {json.dumps(was)}, this job has {json.dumps(is_now)}"


def _differs(job: Job, key: str, message: str, values: tuple[Any, Any] | None = None) -> Finding:
    """`values` are the job's and the checkpoint's."""
    path = f"jobs.{job.name}.{key}"
    return Finding(
        message,
        at=job.at(key),
        fix="use the setting of the checkpoint, or set another training.output_dir",
        change=None if values is None else Change(path, values[0], values[1], safe=False),
    )


def _batch(job: Job, checkpoint: Path, state: Mapping[str, Any]) -> Iterator[Finding]:
    was, is_now = state.get("train_batch_size"), job.training.per_device_train_batch_size
    if isinstance(was, int) and was not in (is_now, is_now * job.hardware.count):
        key = "training.per_device_train_batch_size"
        yield Finding(
            f"{near(str(checkpoint))} has a batch size of {was}, this job has {is_now}",
            Severity.WARNING,
            at=job.at(key),
            fix=f"resume with per_device_train_batch_size: {was}",
            change=Change(f"jobs.{job.name}.{key}", is_now, was, safe=False),
            why="Rows are skipped or trained on twice when the run resumes.",
        )


def _at_its_end(job: Job, checkpoint: Path, state: Mapping[str, Any]) -> Iterator[Finding]:
    """Nothing is left to train: the checkpoint's step is the last one of the job."""
    step, last = state.get("global_step"), _last_step(job, state)
    if type(step) is not int or last is None or step < last:
        return
    yield Finding(
        f"{near(str(checkpoint))} is at step {step:,} of {last:,}: a run that resumes has nothing left to"
        " train",
        at=job.at("training.output_dir"),
        fix="set another training.output_dir, or raise num_train_epochs or max_steps",
        why="The run ends at once, with the weights of the checkpoint.",
    )


def _last_step(job: Job, state: Mapping[str, Any]) -> int | None:
    """The job's last step: max_steps, or the checkpoint's own for as many epochs as the job has."""
    if job.training.max_steps > 0:
        return job.training.max_steps
    steps, epochs = state.get("max_steps"), state.get("num_train_epochs")
    if type(steps) is not int or type(epochs) is not int or steps < 1 or epochs < 1:
        return None
    return (
        steps
        if job.training.num_train_epochs <= epochs
        else math.ceil(steps * job.training.num_train_epochs / epochs)
    )


def _without_optimizer(job: Job, checkpoint: Path) -> Iterator[Finding]:
    """save_only_model leaves the optimizer's state out; FSDP and DeepSpeed name theirs otherwise."""
    if any(found for pattern in OPTIMIZER for found in checkpoint.glob(pattern)):
        return
    yield Finding(
        f"{near(str(checkpoint))} contains no optimizer state ({OPTIMIZER[0]})",
        Severity.WARNING,
        at=job.at("training.output_dir"),
        fix="set another training.output_dir, or resume from a checkpoint that is complete",
        why="A run that resumes from it starts its optimizer again from zero, or refuses the checkpoint.",
    )
