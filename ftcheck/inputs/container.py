"""What rules may ask for by argument name, and the container that opens it lazily.

Inputs (argument names): `job`, `jobs`, `machine`, `packages`, `environment`, `rows`, `prepared`,
`prepared_eval`, `prepared_here`, `sample`, `role_tokens`, `row_texts`, `arrow_nulls`, `tokenizer`, `serving`,
`evaluation`, `lock`,
`collated`, `saved`, `model`, `weights`, `modules`, `repository`, `gold`, `benchmarks`, `output_schema`,
`endpoint`, `run`; rules of stage `during` also `metrics`; rules of stage `after` also `run_artifacts`,
`adapter`, `generations`, `base_generations`, `load_report` and `baseline`. Their types are the records and
protocols of this folder; rules see nothing else. Tokenizer, data set and model libraries are opened by
loaders.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ftcheck.errors import DiskFull, FtcheckError, InputError, Problem
from ftcheck.inputs.loader import Loader
from ftcheck.inputs.observed import Cell, observed, read
from ftcheck.inputs.traces import ToldDigests, Trace, Traces
from ftcheck.records import Progress
from ftcheck.settings import Job

GIVEN = frozenset({"job", "jobs", "run", "inputs", "metrics"})
"""Inputs that need no loader. `metrics` is there while a job trains (stage `during`)."""
ERRNO = re.compile(r"\[errno (\d+)\]")
"""The number of an error of the system in Arrow's words."""

Jobs = tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What a run lends to its loaders: a work folder that all its workers share, and switches.

    `folder` outlives a worker: what a loader writes there, the next worker maps again. `policy` is the
    file that was named on the command line. With `cache`, preparations are kept for later runs and taken
    from earlier ones; `digests` are those of data files that were digested already (`mapper.train`), and
    `cached` is told which of them came out of the cache, `note` what the report should say beside results
    (`f"{job.label}.train: …"`: what is worked out for one job may be taken over by others), and
    `read_content` that a rule asked for the texts of rows. `engine` prepares them: `local` in
    processes here, `ray` in tasks of the cluster at `ray_address` (None: one that is started here).
    """

    folder: Path
    offline: bool = False
    workers: int | None = None
    report: Callable[[Progress], None] = lambda progress: None
    policy: str | None = None
    cache: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)
    cached: Callable[[str], None] = lambda name: None
    note: Callable[[str], None] = lambda text: None
    read_content: Callable[[], None] = lambda: None
    engine: str = "local"
    ray_address: str | None = None


class Inputs:
    """Opens inputs by name, once each; remembers what could not be opened, and says so again."""

    def __init__(
        self,
        loaders: Mapping[str, Loader],
        base: Mapping[str, Any],
        job: Job | None,
        shared: Store | None = None,
        opening: Callable[[str, bool], None] = lambda name, done: None,
        poisoned: Sequence[str] = (),
        traces: Traces | None = None,
    ) -> None:
        """`base` are values that need no loader (`run`, `jobs`); `shared` holds what is opened once a run.

        `opening(name, done)` is told before and after a loader runs. `poisoned` inputs killed workers
        before, and are not opened. With `traces`, what was opened for another job is taken over where it
        would come out the same.
        """
        self._loaders = loaders
        self._base = {**base, "job": job}
        self._job = job
        self._shared = shared if shared is not None else Store()
        self._own = Store()
        self._poisoned = frozenset(poisoned)
        self._opening = opening
        self.asked: set[str] = set()
        """Names that were asked for; whoever wants to know empties it first."""
        self.traces = traces

    def get(self, name: str) -> Any:
        """The input `name`, opened now if it was not. Raises `InputError`, each time the same."""
        self.asked.add(name)
        if name == "inputs":
            return self
        if name in self._base:
            return self._base[name]
        if name in self._poisoned:
            raise InputError(f"input '{name}' killed two workers and is not opened again")
        store = self._store(name)
        if name in store.failed:
            raise store.failed[name].again()
        if name not in store.opened:
            store.opened[name] = self._open(name, store)
        return store.opened[name]

    def opened(self, name: str) -> Any | None:
        """The input `name` if it is open already, else None."""
        return self._store(name).opened.get(name)

    def has(self, name: str) -> bool:
        """Whether anything could open `name`."""
        return name in self._base or name in self._loaders or name == "inputs"

    def of_job(self, name: str) -> bool:
        """Whether `name` is about one job (it needs `job`, itself or through what it needs)."""
        return needs_job(self._loaders, name)

    def _store(self, name: str) -> Store:
        return self._own if self.of_job(name) else self._shared

    def token(self, name: str) -> object:
        """What tells an opened input from others of its name: the same where it was taken over.

        What needs no loader stands for itself, and None is the same for all.
        """
        value = self.get(name)
        return value if value is None or name in self._base else self._store(name).tokens[name]

    def now(self, cell: Cell) -> Any:
        """What a cell of a trace holds for this job; the failure where it is an input that does not open."""
        kind, name = cell
        if kind == "input":
            try:
                return self.token(name)
            except FtcheckError as error:
                return str(error)
        if kind == "policy":
            return self._base["run"].policy
        if kind == "digest":
            return self._base["run"].digests.get(f"{self.label}{name}")
        if self._job is None:
            raise LookupError(name)
        return read(self._job, cell)

    @property
    def label(self) -> str:
        """The job's name; empty for the host."""
        return self._job.name if self._job is not None else ""

    def _open(self, name: str, store: Store) -> Any:
        opener = self._loaders.get(name)
        if opener is None:
            raise InputError(f"no loader provides the input '{name}'")
        if self.traces is None:
            return self._opened(name, store, opener, [self.get(need) for need in opener.needs])
        found = self.traces.find(opener.open, self)
        if found is None:
            trace = Trace()
            watched = Watched(self, trace)
            made = self._opened(name, store, opener, [watched.argument(need) for need in opener.needs])
            found = self.traces.keep(opener.open, trace, made)
        else:
            self._told(found)
        store.tokens[name] = found.token
        return found.answer

    def _told(self, trace: Trace) -> None:
        """Tell the run what the work would have told it, had it been done for this job."""
        run: Run = self._base["run"]
        for kind, labelled, text in trace.effects:
            (run.cached if kind == "cached" else run.note)(f"{self.label}{text}" if labelled else text)

    def _opened(self, name: str, store: Store, opener: Loader, arguments: Sequence[Any]) -> Any:
        self._opening(name, False)
        try:
            return opener.open(*arguments)
        except Exception as error:
            store.failed[name] = Failure.of(name, error, getattr(self._base.get("run"), "folder", None))
        finally:
            self._opening(name, True)
        raise store.failed[name].again()


class Watched(Inputs):
    """The inputs of a job as one loader or rule sees them: what it reads is recorded in its trace."""

    def __init__(self, real: Inputs, trace: Trace) -> None:
        """`real` are the inputs themselves."""
        self._real, self._trace = real, trace

    def argument(self, name: str) -> Any:
        """An input as it is handed over: job and run tell what is read of them."""
        if name == "inputs":
            return self
        if name == "job" and self._real._job is not None:
            return observed(self._real._job, self._trace.tell)
        if name == "run":
            return self._run(self._real._base["run"])
        return self.get(name)

    def get(self, name: str) -> Any:
        """The input `name`; that it was asked for is recorded, and what it was."""
        if name in ("inputs", "job", "run"):
            return self.argument(name)
        self._trace.tell(("input", name), self._real.now(("input", name)))
        return self._real.get(name)

    def has(self, name: str) -> bool:
        """Whether anything could open `name`."""
        return self._real.has(name)

    def of_job(self, name: str) -> bool:
        """Whether `name` is about one job."""
        return self._real.of_job(name)

    def opened(self, name: str) -> Any | None:
        """The input `name` if it is open already; None here, for that depends on what ran before."""
        return None

    def _run(self, run: Run) -> Run:
        label, tell = self._real.label, self._trace.tell

        def told(kind: str, say: Callable[[str], None]) -> Callable[[str], None]:
            def saying(text: str) -> None:
                labelled = bool(label) and text.startswith(f"{label}.")
                self._trace.effects.append((kind, labelled, text.removeprefix(label) if labelled else text))
                say(text)

            return saying

        digests = ToldDigests(run.digests, label, tell)
        made = replace(run, digests=digests, cached=told("cached", run.cached), note=told("note", run.note))
        return observed(made, lambda cell, value: _tell_policy(tell, cell, value))


def _tell_policy(tell: Callable[[Cell, Any], None], cell: Cell, value: Any) -> None:
    """Of what a run lends, only its policy is not the same for all jobs of a command."""
    if cell == ("value", "policy"):
        tell(("policy", ""), value)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an input could not be opened: the error without its traceback, which would keep the loader's data.

    `trace` is that traceback as text where the loader broke (a bug), else empty.
    """

    kind: type[FtcheckError]
    message: str
    problems: tuple[Problem, ...]
    trace: str = ""

    @classmethod
    def of(cls, name: str, error: Exception, folder: object = None) -> Failure:
        """The failure that a loader's error is; `folder` is the one that loaders write to."""
        if isinstance(error, FtcheckError):
            return cls(type(error), error.args[0] if error.args else "", error.problems)
        if isinstance(error, OSError) and _is_full(error):
            message = (
                f"{folder}: no space left for input '{name}': free space, or set TMPDIR to another folder"
            )
            return cls(DiskFull, message, ())
        if isinstance(
            error, OSError
        ):  # a file, not a bug: it vanished, may not be read, has no possible name
            place = f"{str(error.filename)[:200]}: " if error.filename is not None else ""
            message = f"input '{name}': {place}cannot be read: {error.strerror or error}"
            return cls(InputError, message, (Problem(message),))
        message = f"input '{name}' could not be opened: {type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        return cls(InputError, message, (Problem(message),), trace)

    def again(self) -> FtcheckError:
        """A new error that says the same."""
        error = self.kind.__new__(self.kind)
        FtcheckError.__init__(error, self.message, self.problems)
        error.trace = self.trace
        return error


def _is_full(error: OSError) -> bool:
    """Whether it says that a disk or a quota is full; Arrow says it in words alone."""
    told = ERRNO.search(str(error))
    return (int(told[1]) if error.errno is None and told else error.errno) in (errno.ENOSPC, errno.EDQUOT)


@dataclass
class Store:
    """Inputs that were opened, and those that could not be, by name."""

    opened: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)


def needs_job(loaders: Mapping[str, Loader], name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether an input is about one job: it is `job`, or its loader needs one that is."""
    if name in ("job", "inputs", "metrics"):
        return True
    if name in seen or name not in loaders:
        return False
    return any(needs_job(loaders, need, seen | {name}) for need in loaders[name].needs)


def closure(loaders: Mapping[str, Loader], names: Sequence[str]) -> frozenset[str]:
    """All inputs that `names` stand on, themselves included."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(loaders[name].needs if name in loaders else ())
    return frozenset(found)
