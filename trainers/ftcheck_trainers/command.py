"""Any other trainer behind the gate: its command runs only with a ticket, in the policy's folder.

    trainer: {use: command, argv: [axolotl, train, mapper.yml], files: [mapper.yml]}

The files it names are digested by the gate like all other inputs. The rows are prepared by the other
program, so run.json says `ids: unverified`; where `data.prepared` names the folder that the program reads,
its files are compared just before the start and at the end, and run.json has the digest over their ids.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftcheck import ranks
from ftcheck.errors import InputError, Problem, TrainingError
from ftcheck.extension.trainers import Trainer
from ftcheck.gate.ticket import Reason, Refusal, Refused, Ticket
from ftcheck.inputs import prepared_folder
from ftcheck.inputs.container import Inputs
from ftcheck.paths import near
from ftcheck.settings import Job
from ftcheck_trainers import run_folder

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 3
"""At the third Ctrl-C the command is killed."""


def train(ticket: Ticket, job: Job, inputs: Inputs, *, resume: bool) -> str:
    """Run `trainer.argv` to its end; returns the run folder.

    With `resume` the same command runs again, with FTCHECK_RESUME=1 in its environment.
    """
    argv = _argv(job)
    run_folder.check_ticket(ticket, job)
    refuse_several(job)
    claimed = run_folder.claim(ticket, job, resume=resume, checkpoints=False)
    folder = _Folder(job.data.prepared, ticket, job) if job.data.prepared is not None else None
    ids = run_folder.UNVERIFIED if folder is None else ticket.ids
    with run_folder.recorded(claimed, ticket, job, ids=ids, command=argv):
        run(argv, job, Path(ticket.policy).resolve().parent, resume=resume)
        if folder is not None:
            folder.refuse_changed()
    return str(claimed.path)


class _Folder:
    """The folder of prepared rows that the command reads."""

    def __init__(self, path: str, ticket: Ticket, job: Job) -> None:
        """Raises `Refused` where its files are not those that were checked."""
        self._path, self._job = path, job
        self._digest = prepared_folder.find(path).digest()
        self._beside = prepared_folder.beside(path)
        if self._digest is None or self._digest != ticket.inputs.get(f"{job.name}.prepared"):
            message = f"{near(path)} has changed since it was checked"
            raise Refused(Refusal(job.name, (Reason("data-changed", message),)))

    def refuse_changed(self) -> None:
        """Raise `TrainingError` where the command wrote to it, or prepared rows anew beside it."""
        why = "it did not train, or not only, on the rows that were checked"
        if prepared_folder.beside(self._path) - self._beside:
            raise _error(self._job, f"the command prepared rows anew beside {near(self._path)}: {why}")
        try:
            now = prepared_folder.find(self._path).digest()
        except InputError:
            now = None
        if now != self._digest:
            raise _error(self._job, f"{near(self._path)} changed while the command ran: {why}")


def describe(job: Job) -> str:
    """The command as one would type it."""
    return shlex.join(job.trainer.argv)


TRAINER = Trainer(name="command", train=train, describe=describe, reads_rows=True, takes_sample=True)


def refuse_several(job: Job) -> None:
    """A command starts its processes itself. Raises `TrainingError`."""
    if ranks.count() > 1:
        raise _error(
            job, "the command would start once per process; put the launcher into trainer.argv instead"
        )


def _argv(job: Job) -> list[str]:
    if not job.trainer.argv or not job.trainer.argv[0]:
        raise _error(job, "trainer.argv is empty: set it to a command such as [axolotl, train, mapper.yml]")
    return list(job.trainer.argv)


def run(argv: list[str], job: Job, folder: Path, *, resume: bool) -> None:
    """Start the command without a shell, in a session of its own: signals reach it once, through us.

    Raises `TrainingError` where it does not start or fails, `KeyboardInterrupt` after a signal.
    """
    environment = {**os.environ, "FTCHECK_JOB": job.name, **({"FTCHECK_RESUME": "1"} if resume else {})}
    signals = _Signals()
    with signals.caught():
        try:
            process = subprocess.Popen(
                argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            raise _error(job, f"{argv[0]} failed to start in {folder}: {error.strerror or error}") from error
        signals.send_to(process.pid)
        code = process.wait()
    if signals.received:
        raise KeyboardInterrupt(signals.received[0].name)
    if code != 0:
        raise _error(job, f"{argv[0]} {_ending(code)}")


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    names = {number.value: number.name for number in signal.Signals}
    hint = "; often the kernel does this when memory runs out" if code == -signal.SIGKILL else ""
    return f"was killed by {names.get(-code, f'signal {-code}')}{hint}"


class _Signals:
    """Passes signals on to the command and all that it started; the third one kills."""

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
        self._group: int | None = None

    def send_to(self, group: int) -> None:
        """From now on signals go there, and those that came in the meantime."""
        self._group = group
        if self.received:
            self._send(group, self.received[0])

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch what ends programs; in another thread than the main one nothing can be caught."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._forward) for number in FORWARDED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _forward(self, number: int, frame: Any) -> None:
        self.received.append(signal.Signals(number))
        if self._group is not None:
            patient = len(self.received) < PATIENCE
            self._send(self._group, self.received[-1] if patient else signal.SIGKILL)

    def _send(self, group: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def _error(job: Job, message: str) -> TrainingError:
    place = job.at("trainer.argv")
    return TrainingError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])
