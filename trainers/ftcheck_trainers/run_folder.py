"""The run folder: who may write it, run.json (schema `ftcheck.run/1`) and metrics.jsonl.

run.json is replaced atomically at the start, at each checkpoint and at the end; a run that is killed
leaves `running` with a process that is gone. metrics.jsonl gets a line a log, flushed at once. run.lock is
locked while a run goes on; the system unlocks it when the process ends, however it ends.
"""

import contextlib
import json
import os
import platform
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ftcheck import ranks
from ftcheck.atomic import replace_file
from ftcheck.digest import of_json
from ftcheck.errors import InputError, Problem, TrainingError
from ftcheck.exit_codes import ExitCode
from ftcheck.gate.ticket import (
    Reason,
    Refusal,
    Refused,
    Ticket,
)
from ftcheck.inputs.run_folder import METRICS as METRICS
from ftcheck.inputs.run_folder import (
    QUIET,
    RUN,
    SCHEMA,
    State,
    quiet_minutes,
    read_seal,
    run_json,
    state_of,
)
from ftcheck.ranks import is_main as is_main
from ftcheck.report.redact import redact, redact_json
from ftcheck.settings import Job
from ftcheck_trainers import checkpoint
from ftcheck_trainers.failure_messages import GIB as GIB
from ftcheck_trainers.failure_messages import Stopped, one_line
from ftcheck_trainers.signals import Interrupted

UNVERIFIED = "unverified"
"""What run.json says of ids that nobody held against what was checked, not all of them at least."""

PACKAGES = ("ftcheck", "torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets")
WEIGHTS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
)
"""Files that nobody wants overwritten: an adapter, or a model that was put there by mistake."""

COMPARED = {
    "ids": "ids-changed",
    "inputs": "data-changed",
    "model": "model-changed",
    "template": "template-changed",
    "job_digest": "policy-changed",
}
"""What must not change between a run and its resumption, and the gate's code for it."""

LOCK = "run.lock"
"""Locked by the process that trains; the file stays, so that all lock the same one."""

RESUMING = "resume with --resume"

SPARE = 1 << 14
"""Bytes kept for the last word: a full disk must not be what nobody is told of."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A run folder that may be written.

    `found` is run.json as it was when the folder was looked at, None where there was none. For a run that
    goes on, `checkpoint` is where, `earlier` its run.json, and `notes` what one should know of them; `after`
    is the step, where the checkpoint is somebody else's.
    """

    path: Path
    found: Mapping[str, Any] | None
    checkpoint: Path | None = None
    earlier: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    after: int = 0

    @property
    def step(self) -> int:
        """The step to go on from; 0 for a fresh start."""
        return int(self.checkpoint.name.rpartition("-")[2]) if self.checkpoint else self.after


def of_job(job: Job) -> Path:
    """The job's run folder. Raises `TrainingError` where the policy names none."""
    if job.training.output_dir is None:
        message = f"job {job.name}: training.output_dir, the folder of the run, is not set"
        raise _refusal(job, message)
    return Path(job.training.output_dir)


def check_ticket(ticket: Ticket, job: Job) -> None:
    """Raise `Refused` for a ticket of another job, or of this one with other settings."""
    message = None
    if ticket.job != job.name:
        message = f"the ticket is for job {ticket.job}, not for {job.name}"
    elif job.canonical and ticket.job_digest != of_json(job.canonical):
        message = f"the section jobs.{job.name} differs from the one that the ticket is for"
    if message is not None:
        raise Refused(Refusal(job.name, (Reason("policy-changed", message),)))


def claim(ticket: Ticket, job: Job, *, resume: bool, checkpoints: bool = True) -> Claim:
    """The job's run folder, if it may be written; nothing is written yet.

    A fresh start wants a folder without a run, or with one that ended before its first checkpoint;
    `resume` wants a run of the same ticket with a complete checkpoint (none if not `checkpoints`).
    """
    claimed = ranks.decided(lambda: _claim(ticket, job, resume=resume, checkpoints=checkpoints))
    for note in claimed.notes:
        say(note)
    return claimed


def _claim(ticket: Ticket, job: Job, *, resume: bool, checkpoints: bool) -> Claim:
    folder = of_job(job)
    earlier = read(folder)
    _refuse_living(folder, earlier, job)
    _refuse_other_job(folder, earlier, job)
    if not resume:
        _refuse_overwriting(folder, earlier, job)
        return Claim(folder, earlier)
    if earlier is None:
        raise _refusal(job, f"{folder} contains no run to resume; train without --resume")
    compare(ticket, earlier, job)
    if earlier.get("status") == "finished":
        raise _refusal(job, f"the run in {folder} is finished; there is nothing to resume")
    if not checkpoints:
        return Claim(folder, earlier, None, earlier)
    found = checkpoint.last(folder)
    if found.path is None:
        raise _no_checkpoint(folder, found, job)
    return Claim(folder, earlier, found.path, earlier, (*found.passed_over, *_other_setting(found.path, job)))


def claim_of_script(ticket: Ticket, job: Job, step: int) -> Claim:
    """The folder that a script of somebody's own trains into; it begins after `step`, or anew at 0.

    Checkpoints and weights in it are the script's own affair: only another run that goes on, or one of
    another job, is in the way.
    """

    def look() -> Claim:
        folder = of_job(job)
        earlier = read(folder)
        _refuse_living(folder, earlier, job)
        _refuse_other_job(folder, earlier, job)
        if not step or not earlier:
            return Claim(folder, earlier, after=step)
        compare(ticket, earlier, job)
        return Claim(folder, earlier, None, earlier, after=step)

    return ranks.decided(look)


def _no_checkpoint(folder: Path, found: checkpoint.Found, job: Job) -> TrainingError:
    what = f"{folder} contains no complete checkpoint to resume from"
    if not found.passed_over:
        return _refusal(job, f"{what}; train without --resume")
    return _refusal(job, f"{what} ({'; '.join(found.passed_over)}); set another training.output_dir")


def _other_setting(path: Path, job: Job) -> list[str]:
    """What is not as it was when the checkpoint was written; another number of processes is refused."""
    seal = read_seal(path)
    before, here = seal.get("processes"), ranks.count()
    if before != here:
        remedy = f"start it with 'accelerate launch --num_processes {before}'"
        raise _refusal(job, f"{path.name} was written by {before} processes, this run has {here}; {remedy}")
    packages = seal.get("packages")
    then, now = packages if isinstance(packages, dict) else {}, versions()
    changed = [f"{name} {then.get(name)} (now {now[name]})" for name in now if then.get(name) != now[name]]
    if not changed:
        return []
    return [f"{path.name} was written with {', '.join(changed)}: the losses may differ"]


def read(folder: Path) -> Mapping[str, Any] | None:
    """The folder's run.json; None without one, an empty mapping for one that cannot be read."""
    if not os.path.lexists(folder / RUN):
        return None
    try:
        return run_json(folder)
    except InputError:
        return {}


def compare(ticket: Ticket, earlier: Mapping[str, Any], job: Job) -> None:
    """Raise `Refused` unless the run was started for exactly what the ticket stands for."""
    before, now = earlier.get("ticket") or {}, ticket.said()
    reasons = tuple(
        Reason(code, f"{key} of the run in {of_job(job)} was {before.get(key)}, is {now[key]}")
        for key, code in COMPARED.items()
        if before.get(key) != now[key]
    )
    if reasons:
        raise Refused(Refusal(job.name, reasons))


def _refuse_living(folder: Path, earlier: Mapping[str, Any] | None, job: Job) -> None:
    """A run of another machine may hold its lock where this one does not see it: when did it write last?"""
    if not earlier or earlier.get("status") != State.RUNNING or earlier.get("process") == _process():
        return
    if state_of(folder, earlier) is not State.RUNNING:
        return
    host = earlier.get("host")
    if host == socket.gethostname():
        raise _going_on(folder, earlier, job)
    minutes = f"{quiet_minutes(folder):.0f} min"
    message = f"the run in {folder} last wrote {minutes} ago on {host} and may still be running"
    raise _refusal(job, f"{message}; wait {QUIET} min, or set another training.output_dir")


def _going_on(folder: Path, found: Mapping[str, Any] | None, job: Job) -> TrainingError:
    process = (found or {}).get("process")
    number = f" (process {process.get('pid')})" if isinstance(process, Mapping) else ""
    return _refusal(job, f"the run in {folder} is still running{number}")


@contextlib.contextmanager
def _held(claimed: Claim, job: Job) -> Iterator[None]:
    """Keep other trainings out of the run folder within the block; the first process does so for all.

    Raises `TrainingError` where another training holds it, or had it since it was claimed.
    """
    from filelock import FileLock, Timeout

    folder = claimed.path
    lock = FileLock(folder / LOCK, timeout=0)

    def take() -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise _going_on(folder, read(folder), job) from None
        except OSError as error:
            raise _refusal(job, f"{folder} cannot be written: {error.strerror or error}") from error
        if repr(read(folder)) != repr(claimed.found):  # as text: a NaN is not equal to itself
            lock.release()
            raise _refusal(job, f"another training wrote to {folder} in the meantime; start again")

    ranks.decided(take)
    try:
        yield
    finally:
        lock.release()


def _process() -> dict[str, Any]:
    """This process, told apart from a later one of the same number by when it began."""
    import psutil

    return {"pid": os.getpid(), "began": psutil.Process().create_time()}


def _refuse_other_job(folder: Path, earlier: Mapping[str, Any] | None, job: Job) -> None:
    other = (earlier or {}).get("job")
    if other is not None and other != job.name:
        raise _refusal(job, f"{folder} contains a run of the job {other}; set another training.output_dir")


def _refuse_overwriting(folder: Path, earlier: Mapping[str, Any] | None, job: Job) -> None:
    remedy = "set another training.output_dir"
    if any(folder.glob("checkpoint-*")):
        finished = not earlier or earlier.get("status") == "finished"
        hint = "" if finished or checkpoint.last(folder).path is None else "resume with --resume, or "
        raise _refusal(job, f"{folder} contains a run with checkpoints; {hint}{remedy}")
    if earlier is not None and earlier.get("status") not in ("failed", "interrupted", "running"):
        raise _refusal(job, f"{folder} contains a {earlier.get('status') or 'damaged'} run; {remedy}")
    held = [name for name in WEIGHTS if (folder / name).exists()]
    if held:
        raise _refusal(job, f"{folder} contains {held[0]}; {remedy}")


def _refusal(job: Job, message: str) -> TrainingError:
    place = job.at("training.output_dir")
    problem = Problem(message, place.path, place.line, place.column, place.yaml_path)
    return TrainingError(message, [problem])


class RunRecord:
    """run.json while the run goes on: `update` merges values and replaces the file."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        """Nothing is written before the first `update`."""
        self._path = folder / RUN
        self._spare = folder / f".{RUN}.spare"
        self.values = values

    def update(self, **values: Any) -> None:
        """Merge `values` in and write the file, whole or not at all."""
        self.values |= values
        if is_main():
            text = json.dumps(redact_json(self.values), indent=1, default=str) + "\n"
            replace_file(self._path, text.encode())

    def spare(self) -> None:
        """Keep a little room on the disk, for `end`."""
        if is_main():
            try:
                self._spare.write_bytes(b" " * SPARE)
            except OSError:
                self._spare.unlink()
                raise

    def end(self, **values: Any) -> None:
        """The last word. Where not even that can be written, it is said."""
        try:
            if is_main():
                self._spare.unlink(missing_ok=True)
            self.update(**values, finished_at=now())
        except OSError as error:
            say(f"{self._path} could not be written: {error.strerror or error}")


def say(line: str) -> None:
    """A word to whoever is watching, once, beside run.json."""
    if is_main():
        print(redact(line), file=sys.stderr, flush=True)


@contextlib.contextmanager
def recorded(
    claimed: Claim, ticket: Ticket, job: Job, *, resuming: str = RESUMING, **about: Any
) -> Iterator[RunRecord]:
    """A run from `running` to `finished`, `failed` or `interrupted`, as run.json tells it.

    The folder is locked until the block ends. `resuming` says how to go on from a checkpoint. Raises
    `TrainingError` where another training has it.
    """
    with _held(claimed, job):
        yield from _recorded(claimed, ticket, job, resuming, about)


def _recorded(
    claimed: Claim, ticket: Ticket, job: Job, resuming: str, about: Mapping[str, Any]
) -> Iterator[RunRecord]:
    record = RunRecord(claimed.path, {**_at_start(claimed, ticket, job), **about})
    if is_main() and claimed.checkpoint is not None:
        checkpoint.set_aside(claimed.path, claimed.step)
    record.spare()
    record.update(status="running")
    try:
        with _sigterm_interrupts():
            yield record
    except KeyboardInterrupt as error:
        elsewhere = ranks.ended_elsewhere()
        if elsewhere is not None and elsewhere.exit_code != ExitCode.INTERRUPTED:
            record.end(status="failed", reason=str(elsewhere))
            raise elsewhere from error
        reason, remedy = str(error) or "Ctrl-C", _how_to_go_on(error, record, resuming)
        record.end(status="interrupted", reason=reason, remedy=remedy)
        say(f"{reason}; {remedy}")
        raise
    except BaseException as error:
        found = error if isinstance(error, Stopped) else Stopped(one_line(error))
        record.end(status="failed", reason=found.reason, remedy=found.remedy or None)
        raise
    record.end(status="finished")


def _how_to_go_on(error: KeyboardInterrupt, record: RunRecord, resuming: str) -> str:
    if isinstance(error, Interrupted):
        return error.remedy
    last = record.values.get("checkpoint")
    return f"{resuming}, from {last}" if last else "train again: no checkpoint was written yet"


def _at_start(claimed: Claim, ticket: Ticket, job: Job) -> dict[str, Any]:
    earlier = claimed.earlier
    resumed = list(earlier.get("resumed") or [])
    return {
        "schema": SCHEMA,
        "job": job.name,
        "policy": ticket.policy,
        "trainer": job.trainer.use,
        "model": job.model.name,
        "status": "running",
        "reason": None,
        "remedy": None,
        "ids": ticket.ids if ticket.sample is None else UNVERIFIED,
        "ticket": ticket.said(),
        "python": platform.python_version(),
        "packages": versions(),
        "host": socket.gethostname(),
        "process": _process(),
        "processes": ranks.count(),
        "started_at": earlier.get("started_at") or now(),
        "finished_at": None,
        "resumed": [*resumed, _resumption(claimed)] if earlier else resumed,
        "planned": {},
        "steps": claimed.step,
        "checkpoint": claimed.checkpoint.name if claimed.checkpoint else None,
        "final_loss": None,
        "adapter": None,
    }


def _resumption(claimed: Claim) -> dict[str, Any]:
    return {"at": now(), "step": claimed.step, "notes": list(claimed.notes)}


def versions() -> dict[str, str | None]:
    """Versions of what trains; None for what is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def now() -> str:
    """The time, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Schedulers say SIGTERM: treat it as Ctrl-C, so that run.json is told; a handler that is set stays."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
