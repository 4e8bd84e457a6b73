"""The parent's side of a run: one worker that may die, a clock, a memory limit, and the ledger.

The parent never runs rules. If the worker dies or a check runs over its time, only the check in
flight is charged, and a new worker goes on. An input that kills two workers is poisoned: the checks
that need it are `errored`, by name.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from ftcheck.host import Host
from ftcheck.inputs import closure, needs_job
from ftcheck.ledger import Ledger, judge
from ftcheck.records import Check, Outcome, Progress, Result, Severity
from ftcheck.report import result_from_dict
from ftcheck.setup import Setup, pack

TICK = 0.05
STALL = 600.0
KILLS_TO_POISON = 2
STARTS_TO_GIVE_UP = 2
MEMORY_SHARE = 0.85
MEMORY_RESERVE = 0.03
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class PreparedFacts:
    """What the report needs to know of a job's preparation."""

    ids: str | None
    rows: int
    troubles: int = 0
    first: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker is stopped: memory in bytes (None: 85 % of the machine's), seconds without progress."""

    memory: int | None = None
    stall: float = STALL


@dataclass
class Facts:
    """What a run found out beside the results: preparations by job."""

    prepared: dict[str, PreparedFacts] = field(default_factory=dict)


Stop = Callable[[Result], bool]


def run_checks(
    setup: Setup,
    host: Host,
    ledger: Ledger,
    *,
    fail_on: Severity,
    limits: Limits | None = None,
    finish: Callable[[Result], Result] = lambda result: result,
    stop: Stop = lambda result: False,
) -> Facts:
    """Run the ledger's checks in order and enter each outcome.

    `finish` is applied to every judged result (waivers); `stop` ends the run early, and what is left
    stays without outcome. Ctrl-C kills the worker and goes through.
    """
    run = _Run(setup, host, limits or Limits())
    try:
        for index, check in enumerate(ledger.checks):
            result = finish(judge(run.one(index, check), fail_on))
            ledger.enter(result)
            host.check_finished(result)
            if stop(result):
                break
    finally:
        run.end()
    return run.facts


class _Run:
    """The state of one run: the worker there is, the inputs that killed workers, the facts."""

    def __init__(self, setup: Setup, host: Host, limits: Limits) -> None:
        self._setup = setup
        self._host = host
        self._limits = limits
        self._memory = limits.memory or int(_machine_memory() * MEMORY_SHARE)
        self._worker: _Worker | None = None
        self._kills: Counter[tuple[str | None, str]] = Counter()
        self._bad_starts = 0
        self._last_words = ""
        self.facts = Facts()

    def one(self, index: int, check: Check) -> Result:
        poisoned = self._poisoned(check)
        if poisoned is not None:
            reason = f"input '{poisoned}' killed {KILLS_TO_POISON} workers and is not opened again"
            return Result(check, Outcome.ERRORED, reason=reason)
        if self._bad_starts >= STARTS_TO_GIVE_UP:
            return Result(check, Outcome.ERRORED, reason=f"no worker starts: {self._last_words}")
        worker = self._worker = self._worker or _Worker(replace(self._setup, poisoned=self._all_poisoned()))
        return self._watch(worker, index, check)

    def _all_poisoned(self) -> tuple[tuple[str | None, str], ...]:
        return tuple(key for key, kills in self._kills.items() if kills >= KILLS_TO_POISON)

    def end(self) -> None:
        if self._worker is not None:
            self._worker.end()

    def _poisoned(self, check: Check) -> str | None:
        poisoned = self._all_poisoned()
        needed = sorted(closure(self._host.loaders, check.needs))
        return next((name for name in needed if self._key(name, check) in poisoned), None)

    def _key(self, name: str, check: Check) -> tuple[str | None, str]:
        return (check.job if needs_job(self._host.loaders, name) else None, name)

    def _watch(self, worker: "_Worker", index: int, check: Check) -> Result:
        clock = _Clock(check.timeout, self._limits.stall)
        worker.send(index)
        while True:
            event = worker.event(TICK)
            if event is None:
                charged = self._over(worker, clock)
                if charged is not None:
                    return self._stopped(worker, check, clock, *charged)
            elif event["event"] == "died":
                return self._died(worker, check, clock)
            elif event["event"] == "result":
                result = result_from_dict(event["result"], event["seconds"])
                return replace(result, check=check)
            else:
                self._note(event, check, clock)

    def _note(self, event: Mapping[str, Any], check: Check, clock: "_Clock") -> None:
        clock.alive()
        if event["event"] == "ready":
            self._bad_starts = 0
            clock.start()
        elif event["event"] == "input":
            clock.input(event["name"], event["done"])
        elif event["event"] == "progress":
            told = {key: value for key, value in event.items() if key != "event"}
            self._host.progress(Progress(**told))
        elif event["event"] == "prepared" and event["job"] is not None:
            first = tuple(event["first"]) if event["first"] else None
            self.facts.prepared[event["job"]] = PreparedFacts(
                event["ids"], event["rows"], event["troubles"], first
            )

    def _over(self, worker: "_Worker", clock: "_Clock") -> tuple[Outcome, str] | None:
        """Whether the worker is over its time or its memory."""
        late = clock.late()
        if late is not None:
            return Outcome.TIMEOUT, late
        used = worker.memory()
        if used > self._memory:
            limit = f"{self._memory / GIB:.1f} GiB"
            return Outcome.ERRORED, f"stopped: it used more than {limit} of memory"
        if used > self._memory / 4 and _memory_left() < MEMORY_RESERVE:
            return Outcome.ERRORED, f"stopped at {used / GIB:.1f} GiB: the machine's memory is used up"
        return None

    def _stopped(
        self, worker: "_Worker", check: Check, clock: "_Clock", outcome: Outcome, reason: str
    ) -> Result:
        self._charge(clock, check)
        worker.kill()
        self._worker = None
        return Result(check, outcome, reason=_during(clock, reason), seconds=clock.seconds())

    def _died(self, worker: "_Worker", check: Check, clock: "_Clock") -> Result:
        self._charge(clock, check)
        self._worker = None
        ended, words = worker.how_it_ended(), worker.last_words()
        if not clock.started:
            self._bad_starts += 1
            self._last_words = (words.strip().splitlines() or [ended])[-1]
        reason = _during(clock, f"the worker died: {ended}")
        return Result(
            check, Outcome.ERRORED, reason=reason, detail=words[-4000:] or None, seconds=clock.seconds()
        )

    def _charge(self, clock: "_Clock", check: Check) -> None:
        if clock.opening:
            self._kills[self._key(clock.opening[-1], check)] += 1


def _during(clock: "_Clock", reason: str) -> str:
    return f"{reason}, while opening the input '{clock.opening[-1]}'" if clock.opening else reason


class _Clock:
    """Time of the check in flight: opening inputs does not count, but must make progress."""

    def __init__(self, timeout: float, stall: float) -> None:
        self._timeout = timeout
        self._stall = stall
        self._began = self._alive = time.monotonic()
        self._paused = 0.0
        self._paused_at: float | None = None
        self.opening: list[str] = []
        self.started = False

    def start(self) -> None:
        """The worker is up: only now does the check's time run."""
        self._began = time.monotonic()
        self.started = True

    def alive(self) -> None:
        self._alive = time.monotonic()
        self.started = True

    def input(self, name: str, done: bool) -> None:
        now = time.monotonic()
        if not done:
            if not self.opening:
                self._paused_at = now
            self.opening.append(name)
        elif self.opening:
            self.opening.pop()
            if not self.opening and self._paused_at is not None:
                self._paused += now - self._paused_at
                self._paused_at = None

    def seconds(self) -> float:
        """The rule's own time so far."""
        now = self._paused_at if self._paused_at is not None else time.monotonic()
        return max(0.0, now - self._began - self._paused)

    def late(self) -> str | None:
        """Why the worker must be stopped now, or None."""
        if self.opening:
            quiet = time.monotonic() - self._alive
            return f"no progress for {quiet:.0f} s" if quiet > self._stall else None
        if self.seconds() > self._timeout:
            return f"not done after {self._timeout:g} s"
        return None


class _Worker:
    """One worker process, its events, and what it printed."""

    def __init__(self, setup: Setup) -> None:
        setup.folder.mkdir(parents=True, exist_ok=True)
        self._log = _new_log(setup.folder)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ftcheck.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(setup),
                start_new_session=os.name == "posix",
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        self._events: queue.Queue[Mapping[str, Any]] = queue.Queue()
        reading = (self._process.stdout, self._events)
        self._reader = threading.Thread(target=_read, args=reading, daemon=True)
        self._reader.start()
        self._write(pack(setup))

    def send(self, index: int) -> None:
        self._write(str(index))

    def _write(self, line: str) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
        except OSError:
            """It died; its end of the event stream says so."""

    def event(self, seconds: float) -> Mapping[str, Any] | None:
        """The next event, or None after some time without one."""
        try:
            return self._events.get(timeout=seconds)
        except queue.Empty:
            return None

    def memory(self) -> int:
        """Bytes of memory that the worker and its children really use."""
        import psutil

        try:
            process = psutil.Process(self._process.pid)
            family = [process, *process.children(recursive=True)]
            return sum(one.memory_info().rss for one in family)
        except psutil.Error:
            return 0

    def kill(self) -> None:
        """Stop it and everything it started, now."""
        try:
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        except OSError:
            """It was gone already."""
        self._process.wait()
        self._close()

    def end(self) -> None:
        """Let it go: it ends when its stdin closes."""
        self._shut_stdin()
        try:
            self._process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()

    def _close(self) -> None:
        """Close our ends of its pipes; the reader ends with the process."""
        self._shut_stdin()
        self._reader.join(timeout=5)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _shut_stdin(self) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except OSError:
            """What was still to be written has no reader."""

    def how_it_ended(self) -> str:
        """The exit code or the signal, in words."""
        code = self._process.wait()
        self._close()
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")

    def last_words(self) -> str:
        """The end of what it printed."""
        try:
            return self._log.read_bytes()[-8000:].decode("utf-8", "replace")
        except OSError:
            return ""


def _new_log(folder: Path) -> Path:
    number = len(list(folder.glob("worker-*.log"))) + 1
    return folder / f"worker-{number}.log"


def _environment(setup: Setup) -> dict[str, str]:
    """The worker's environment: no network where --offline says so, threads as --workers says."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "true"}
    environment.setdefault("TRANSFORMERS_VERBOSITY", "error")
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if setup.offline:
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if setup.workers is not None:
        environment["RAYON_NUM_THREADS"] = str(setup.workers)
    return environment


def _read(stream: IO[str] | None, events: "queue.Queue[Mapping[str, Any]]") -> None:
    """Events from the worker's lines, and one of our own when the stream ends."""
    for line in stream or ():
        try:
            events.put(json.loads(line))
        except ValueError:
            break
    events.put({"event": "died"})


def _memory_left() -> float:
    """Share of the machine's memory that is still to be had, 0 to 1."""
    import psutil

    memory = psutil.virtual_memory()
    return float(memory.available / memory.total)


def _machine_memory() -> int:
    """Memory in bytes: the machine's, or the control group's limit if that is lower."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            return min(total, int(text))
    return total
