"""Finished, failed and living runs, as their folders tell them: run.json and metrics.jsonl.

A folder is read as it is found: a run that was killed leaves a run.json that says `running` and a last line
of metrics.jsonl that may end in the middle. What cannot be read is a `Note`, never a guess.
"""

import math
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError, Problem
from ftcheck.inputs import bounded

SCHEMA = "ftcheck.run/1"
RUN, METRICS = "run.json", "metrics.jsonl"
SEAL = "files.json"
"""The list of a checkpoint's files, which ftcheck's trainer writes last."""
QUIET = 30
"""Minutes without a word after which a run on another machine is taken for dead."""

MAX_NOTES = 20
MAX_LINE = 1 << 20
"""Bytes of the longest line that is taken for one; trainers write a few hundred."""


class State(StrEnum):
    """What became of a run. `crashed`: run.json says `running`, and its process is gone."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CRASHED = "crashed"

    @property
    def over(self) -> bool:
        """Whether nobody writes to the folder any more."""
        return self is not State.RUNNING


@dataclass(frozen=True, slots=True)
class Note:
    """A line of metrics.jsonl that could not be read: where (from 1), and why."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        """The note as one clickable line."""
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Metric:
    """A line of metrics.jsonl. `values` is all it says; None in a field: it says nothing of it, or null.

    A training line has `loss` among its values (null where the loss was not finite), a line of an
    evaluation `eval_loss`. `at` is when it was written (UTC, ISO 8601); lines of old runs do not say.
    """

    step: int
    line: int
    values: Mapping[str, Any]

    @property
    def is_training(self) -> bool:
        """Whether the line was logged for steps of training."""
        return "loss" in self.values

    @property
    def is_evaluation(self) -> bool:
        """Whether the line was logged for an evaluation."""
        return "eval_loss" in self.values

    def number(self, name: str) -> float | None:
        """A value that is a finite number, else None."""
        return number(self.values.get(name))

    def is_not_finite(self, name: str) -> bool:
        """Whether the line says that a value was a NaN or an infinity; JSON has none, so it says null."""
        value = self.values.get(name)
        if isinstance(value, float):
            return not math.isfinite(value)
        named = self.values.get("not_finite")
        if isinstance(named, list):
            return name in named
        return value is None and name in self.values and name in ("loss", "eval_loss")

    @property
    def loss(self) -> float | None:
        """Mean loss since the line before."""
        return self.number("loss")

    @property
    def eval_loss(self) -> float | None:
        """Loss on the evaluation rows."""
        return self.number("eval_loss")

    @property
    def at(self) -> datetime | None:
        """When the line was written."""
        return moment(self.values.get("at"))


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One run folder as it is now.

    `values` is run.json as it stands; the fields are what ftcheck's trainers write there. `steps` is the
    last step that run.json or a metric line names. `metrics` are the readable lines in the file's order,
    `notes` those that are not readable (at most `MAX_NOTES`).
    """

    folder: Path
    state: State
    values: Mapping[str, Any]
    metrics: tuple[Metric, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def job(self) -> str:
        """The job's name."""
        return str(self.values.get("job") or self.folder.name)

    @property
    def policy(self) -> str | None:
        """The policy's path, as the run was started with it."""
        return text(self.values.get("policy"))

    @property
    def trainer(self) -> str | None:
        """The trainer's name: qlora, command."""
        return text(self.values.get("trainer"))

    @property
    def model(self) -> str | None:
        """The base model."""
        return text(self.values.get("model"))

    @property
    def reason(self) -> str | None:
        """Why a run failed or was interrupted."""
        return text(self.values.get("reason"))

    @property
    def ids(self) -> str | None:
        """Digest over the ids and labels that were fed; `unverified` for a command's run."""
        return text(self.values.get("ids"))

    @property
    def ticket(self) -> Mapping[str, Any]:
        """The gate's ticket, without its seal."""
        return mapping(self.values.get("ticket"))

    @property
    def planned(self) -> Mapping[str, Any]:
        """What was planned: rows, blocks, tokens, trained_tokens, steps, expectations."""
        return mapping(self.values.get("planned"))

    @property
    def packages(self) -> Mapping[str, Any]:
        """Versions of the libraries that trained."""
        return mapping(self.values.get("packages"))

    @property
    def started_at(self) -> datetime | None:
        """When the run was first started."""
        return moment(self.values.get("started_at"))

    @property
    def finished_at(self) -> datetime | None:
        """When it ended; None for a run that goes on, or crashed."""
        return moment(self.values.get("finished_at"))

    @property
    def checkpoint(self) -> str | None:
        """The name of the last checkpoint."""
        return text(self.values.get("checkpoint"))

    @property
    def adapter(self) -> str | None:
        """The adapter's folder, as the trainer wrote it."""
        return text(self.values.get("adapter"))

    @property
    def steps(self) -> int:
        """The last step that the folder tells of."""
        said = number(self.values.get("steps")) or 0
        return max(int(said), max((line.step for line in self.metrics), default=0))

    @property
    def total(self) -> int | None:
        """Steps that were planned; None where the trainer does not say."""
        found = number(self.planned.get("steps"))
        return int(found) if found else None

    def number(self, name: str) -> float | None:
        """A finite number of run.json, else None: `final_loss`, `tokens`, `memory_peak_gib`."""
        return number(self.values.get(name))

    @property
    def training(self) -> tuple[Metric, ...]:
        """The lines logged for steps of training."""
        return tuple(line for line in self.metrics if line.is_training)

    @property
    def evaluations(self) -> tuple[Metric, ...]:
        """The lines logged for evaluations."""
        return tuple(line for line in self.metrics if line.is_evaluation)


def read(folder: Path) -> TrainingRun:
    """A run folder as it is now. Raises `InputError` for a folder that holds no readable run."""
    return Reader(folder).read()


def find(place: Path) -> tuple[Path, ...]:
    """The run folders at and below a folder, sorted; a run's own folders are not searched."""
    if (place / RUN).is_file():
        return (place,)
    found: list[Path] = []
    for where, folders, files in os.walk(place):
        if RUN in files:
            found.append(Path(where))
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith((".", "checkpoint-")))
    return tuple(sorted(found))


def read_metrics(folder: Path) -> tuple[Metric, ...]:
    """The readable lines of a folder's metrics.jsonl, the last one with or without its end."""
    tail = _Tail(folder / METRICS)
    tail.read()
    last = _metric(tail.rest, tail.count + 1)
    return (*tail.lines, last) if isinstance(last, Metric) else tuple(tail.lines)


class Reader:
    """Reads one run folder again and again; of metrics.jsonl only what was added since."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read before `read`."""
        self._folder = folder
        self._tail = _Tail(folder / METRICS)

    def read(self) -> TrainingRun:
        """The folder as it is now. Raises `InputError` for a folder that holds no readable run."""
        values = run_json(self._folder)
        state = state_of(self._folder, values)
        self._tail.read()
        lines, notes = self._tail.lines, self._tail.notes
        if state.over and self._tail.rest.strip():
            number, last = self._tail.count + 1, _metric(self._tail.rest, self._tail.count + 1)
            if isinstance(last, Metric):
                lines = [*lines, last]
            else:
                notes = (*notes, Note(str(self._tail.path), number, last))
        return TrainingRun(self._folder, state, values, tuple(lines), notes)


def run_json(folder: Path) -> Mapping[str, Any]:
    """A folder's run.json. Raises `InputError` where there is none, or one that ftcheck did not write."""
    path = folder / RUN
    try:
        found = bounded.read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        message = "not a run folder: it contains no run.json" if folder.is_dir() else "no such folder"
        raise _broken(folder, message) from None
    except OSError as error:
        raise _broken(path, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise _broken(path, "not valid JSON: the file is damaged, or was not written by ftcheck") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        said = found.get("schema") if isinstance(found, dict) else None
        raise _broken(path, f"its schema is {said!r}; this version of ftcheck reads {SCHEMA!r}")
    return found


def state_of(folder: Path, values: Mapping[str, Any]) -> State:
    """What became of a run. Raises `InputError` for a status that is none of ftcheck's.

    A run of this machine is asked for by its process, one of another by when it wrote last (`QUIET`).
    """
    status = values.get("status")
    try:
        said = State(str(status))
    except ValueError:
        raise _broken(folder / RUN, f"the status {status!r} is unknown to this version of ftcheck") from None
    if said is not State.RUNNING:
        return said
    if values.get("host") == socket.gethostname():
        process = values.get("process")
        alive = isinstance(process, Mapping) and is_alive(process)
    else:
        alive = quiet_minutes(folder) < QUIET
    return State.RUNNING if alive else State.CRASHED


def is_alive(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine, told by `pid` and when it `began`, is still there."""
    import psutil

    try:
        found = psutil.Process(process["pid"])
        same = abs(found.create_time() - float(process["began"])) < 2
        return same and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, LookupError, TypeError, ValueError):
        return False


def quiet_minutes(folder: Path) -> float:
    """Minutes since a run wrote last; infinite where it wrote nothing."""
    written = [path.stat().st_mtime for path in (folder / RUN, folder / METRICS) if path.exists()]
    return (time.time() - max(written, default=-math.inf)) / 60


def checkpoint_step(path: Path) -> int | None:
    """The step of a checkpoint that was written whole; None for one that was not.

    ftcheck's trainer seals its checkpoints: each file must have the size that was written (`--resume` digests
    them too). Of other trainers', transformers writes trainer_state.json after weights and optimizer.
    """
    try:
        step = bounded.read_json(path / "trainer_state.json")["global_step"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    resumable = any(path.glob("optimizer*")) or any(path.glob("global_step*"))
    return int(step) if path.name == f"checkpoint-{step}" and resumable and _keeps_its_seal(path) else None


def read_seal(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's seal: step, processes, packages, files. Raises `OSError` or `ValueError`."""
    found = bounded.read_json(checkpoint / SEAL)
    if not isinstance(found, dict):
        raise ValueError(f"{checkpoint / SEAL} is not a mapping")
    return found


def _keeps_its_seal(checkpoint: Path) -> bool:
    """Whether all files of a checkpoint are as long as its seal says; of one without a seal: yes."""
    try:
        files = read_seal(checkpoint)["files"]
        return all((checkpoint / name).stat().st_size == one["bytes"] for name, one in files.items())
    except FileNotFoundError:
        return not (checkpoint / SEAL).exists()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def text(value: Any) -> str | None:
    """A text, else None."""
    return value if isinstance(value, str) else None


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def moment(value: Any) -> datetime | None:
    """A moment with its zone, written as ISO 8601; else None."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None


def _broken(path: Path, message: str) -> InputError:
    return InputError(f"{path}: {message}", [Problem(message, str(path))])


@dataclass
class _Tail:
    """metrics.jsonl, read on from where the last reading ended; a resumed run replaces the file."""

    path: Path
    lines: list[Metric] = field(default_factory=list)
    notes: tuple[Note, ...] = ()
    count: int = 0
    rest: bytes = b""
    _offset: int = 0
    _file: int | None = None

    def read(self) -> None:
        """Read what is new. A last line without its end waits in `rest`."""
        try:
            with bounded.open_file(self.path) as file:
                about = os.fstat(file.fileno())
                if about.st_ino != self._file or about.st_size < self._offset:
                    self._begin(about.st_ino)
                file.seek(self._offset)
                added = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            self.notes = (Note(str(self.path), 1, f"cannot be read: {error.strerror or error}"),)
            return
        self._offset += len(added)
        *whole, self.rest = (self.rest + added).split(b"\n")
        for raw in whole:
            self.count += 1
            if raw.strip():
                self._take(raw)
        if len(self.rest) > MAX_LINE:
            self.rest = self.rest[: MAX_LINE + 1]

    def _begin(self, file: int) -> None:
        self.lines, self.notes, self.count, self.rest = [], (), 0, b""
        self._offset, self._file = 0, file

    def _take(self, raw: bytes) -> None:
        found = _metric(raw, self.count)
        if isinstance(found, Metric):
            self.lines.append(found)
        elif len(self.notes) < MAX_NOTES:
            self.notes = (*self.notes, Note(str(self.path), self.count, found))


def _metric(raw: bytes, line: int) -> Metric | str:
    """A line as a record, or why it is none."""
    if len(raw) > MAX_LINE:
        return f"{len(raw):,} bytes: too long for a line of metrics"
    try:
        values = bounded.loads(raw)
    except ValueError:
        return "not valid JSON: truncated or damaged"
    step = values.get("step") if isinstance(values, dict) else None
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        return "not a line of metrics: it has no step"
    return Metric(step, line, values)
