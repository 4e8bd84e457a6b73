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

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.errors import FtcheckError, InputError, Problem
from ftcheck.inputs.loader import Loader
from ftcheck.records import Progress
from ftcheck.settings import Job

if TYPE_CHECKING:
    pass

GIVEN = frozenset({"job", "jobs", "run", "inputs", "metrics"})
"""Inputs that need no loader. `metrics` is there while a job trains (stage `during`)."""

Jobs = tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What a run lends to its loaders: a work folder that all its workers share, and switches.

    `folder` outlives a worker: what a loader writes there, the next worker maps again. `policy` is the
    file that was named on the command line. With `cache`, preparations are kept for later runs and taken
    from earlier ones; `digests` are those of data files that were digested already (`mapper.train`), and
    `cached` is told which of them came out of the cache, `note` what the report should say beside results,
    and `read_content` that a rule asked for the texts of rows. `engine` prepares them: `local` in processes
    here, `ray` in tasks of the cluster at `ray_address` (None: one that is started here).
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
    ) -> None:
        """`base` are values that need no loader (`run`, `jobs`); `shared` holds what is opened once a run.

        `opening(name, done)` is told before and after a loader runs. `poisoned` inputs killed workers
        before, and are not opened.
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

    def _open(self, name: str, store: Store) -> Any:
        opener = self._loaders.get(name)
        if opener is None:
            raise InputError(f"no loader provides the input '{name}'")
        arguments = [self.get(need) for need in opener.needs]
        self._opening(name, False)
        try:
            return opener.open(*arguments)
        except Exception as error:
            store.failed[name] = Failure.of(name, error)
        finally:
            self._opening(name, True)
        raise store.failed[name].again()


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
    def of(cls, name: str, error: Exception) -> Failure:
        """The failure that a loader's error is."""
        if isinstance(error, FtcheckError):
            return cls(type(error), error.args[0] if error.args else "", error.problems)
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


@dataclass
class Store:
    """Inputs that were opened, and those that could not be, by name."""

    opened: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)


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
