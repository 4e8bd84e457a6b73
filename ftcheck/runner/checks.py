"""The parent's side of a run: one worker that may die, a clock, a memory limit, and the ledger.

The parent never runs rules. If the worker dies or a check runs over its time, only the check in
flight is charged, and a new worker goes on. An input that kills two workers is poisoned: the checks
that need it are `errored`, by name.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ftcheck.extension.plugin_host import Host
from ftcheck.inputs.container import closure, needs_job
from ftcheck.inputs.machine_memory import machine_memory
from ftcheck.ledger import Ledger, judge
from ftcheck.records import Check, Location, Outcome, Progress, Result, Severity
from ftcheck.report.record import result_from_dict
from ftcheck.runner.timeouts import CheckClock, Limits
from ftcheck.runner.worker_process import Worker, memory_left
from ftcheck.runner.worker_setup import Setup
from ftcheck.sampling.row_sample import RowSample

LOOK_EVERY = 0.25
"""Seconds between looks at the worker's memory and at the clock: a look costs about 3 ms."""
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
    row_errors: int = 0
    first: tuple[str, str] | None = None
    eval_ids: str | None = None
    framework: str | None = None
    sample: RowSample | None = None


@dataclass
class Facts:
    """What a run found out beside the results: preparations by job, which of them were cached, notes."""

    prepared: dict[str, PreparedFacts] = field(default_factory=dict)
    cached: dict[str, None] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)


Stop = Callable[[Result], bool]


def run_checks(
    setup: Setup,
    host: Host,
    ledger: Ledger,
    facts: Facts,
    *,
    fail_on: Severity,
    limits: Limits | None = None,
    finish: Callable[[Result], Result] = lambda result: result,
    stop: Stop = lambda result: False,
    worker: Worker | None = None,
) -> None:
    """Run the ledger's checks in order and enter each outcome; what is found out beside them goes to `facts`.

    `finish` is applied to every judged result (waivers); `stop` ends the run early, and what is left
    stays without outcome. `worker` is one that was started already and waits for its set-up. Ctrl-C
    kills the worker and goes through.
    """
    run = _Run(setup, host, limits or Limits(), worker, facts)
    try:
        for index, check in enumerate(ledger.checks):
            result = finish(judge(run.one(index, check), fail_on))
            ledger.enter(result)
            host.check_finished(result)
            if stop(result):
                break
    finally:
        run.end()


class _Run:
    """The state of one run: the worker there is, the inputs that killed workers, the facts."""

    def __init__(
        self, setup: Setup, host: Host, limits: Limits, waiting: Worker | None, facts: Facts
    ) -> None:
        self._setup = setup
        self._host = host
        self._limits = limits
        self._memory = limits.memory or int(machine_memory() * MEMORY_SHARE)
        self._worker: Worker | None = None
        self._waiting = waiting
        self._kills: Counter[tuple[str | None, str]] = Counter()
        self._bad_starts = 0
        self._last_words = ""
        self._ready = False
        self._looked = time.monotonic()
        self._facts = facts

    def one(self, index: int, check: Check) -> Result:
        poisoned = self._poisoned(check)
        if poisoned is not None:
            reason = f"input '{poisoned}' killed {KILLS_TO_POISON} workers and is not opened again"
            return Result(check, Outcome.ERRORED, reason=reason)
        if self._bad_starts >= STARTS_TO_GIVE_UP:
            return Result(check, Outcome.ERRORED, reason=f"worker failed to start: {self._last_words}")
        worker = self._worker = self._worker or self._begun()
        return self._watch(worker, index, check)

    def _begun(self) -> Worker:
        setup = self._setup
        worker = self._waiting or Worker(setup.folder, offline=setup.offline, workers=setup.workers)
        self._waiting, self._ready = None, False
        worker.begin(replace(setup, poisoned=self._all_poisoned()))
        return worker

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

    def _watch(self, worker: Worker, index: int, check: Check) -> Result:
        clock = CheckClock(check.timeout, self._limits.stall)
        worker.send(index)
        while True:
            event = worker.event(min(LOOK_EVERY, clock.left()))
            if event is not None and event["event"] == "died":
                return self._died(worker, check, clock)
            if event is not None and event["event"] == "result":
                result = result_from_dict(event["result"], event["seconds"])
                rows = (Location(path, line, record=record) for path, line, record in event["rows"])
                return replace(result, check=check, rows=tuple(rows))
            if event is not None:
                self._note(event, check, clock)
            charged = self._over(worker, clock)
            if charged is not None:
                return self._stopped(worker, check, clock, *charged)

    def _note(self, event: Mapping[str, Any], check: Check, clock: "CheckClock") -> None:
        clock.alive()
        self._ready, self._bad_starts = True, 0
        if event["event"] == "running":
            clock.start()
        elif event["event"] == "input":
            clock.input(event["name"], event["done"])
        elif event["event"] == "progress":
            told = {key: value for key, value in event.items() if key != "event"}
            self._host.progress(Progress(**told))
        elif event["event"] == "cached":
            self._facts.cached[event["name"]] = None
        elif event["event"] == "note":
            self._facts.notes[event["text"]] = None
        elif event["event"] == "prepared" and event["job"] is not None:
            first = tuple(event["first"]) if event["first"] else None
            self._facts.prepared[event["job"]] = PreparedFacts(
                event["ids"],
                event["rows"],
                event["row_errors"],
                first,
                event["eval_ids"],
                event["framework"],
                RowSample(**event["sample"]) if event["sample"] is not None else None,
            )

    def _over(self, worker: Worker, clock: "CheckClock") -> tuple[Outcome, str] | None:
        """Whether the worker is over its time or its memory; memory is looked at now and then."""
        late = clock.late()
        if late is not None:
            return Outcome.TIMEOUT, late
        if time.monotonic() - self._looked < LOOK_EVERY:
            return None
        self._looked = time.monotonic()
        used = worker.memory(free=self._memory // 4)
        if used > self._memory:
            limit = f"{self._memory / GIB:.1f} GiB"
            return Outcome.ERRORED, f"stopped: it used more than {limit} of memory"
        if used > self._memory / 4 and memory_left() < MEMORY_RESERVE:
            return Outcome.ERRORED, f"stopped at {used / GIB:.1f} GiB: the machine is out of memory"
        return None

    def _stopped(
        self, worker: Worker, check: Check, clock: "CheckClock", outcome: Outcome, reason: str
    ) -> Result:
        self._charge(clock, check)
        worker.kill()
        self._worker = None
        return Result(check, outcome, reason=_during(clock, reason), seconds=clock.seconds())

    def _died(self, worker: Worker, check: Check, clock: "CheckClock") -> Result:
        self._charge(clock, check)
        self._worker = None
        ended, words = worker.how_it_ended(), worker.last_words()
        if not self._ready:
            self._bad_starts += 1
            self._last_words = (words.strip().splitlines() or [ended])[-1]
        reason = _during(clock, f"the worker died: {ended}")
        return Result(
            check, Outcome.ERRORED, reason=reason, detail=words[-4000:] or None, seconds=clock.seconds()
        )

    def _charge(self, clock: "CheckClock", check: Check) -> None:
        if clock.opening:
            self._kills[self._key(clock.opening[-1], check)] += 1


def _during(clock: "CheckClock", reason: str) -> str:
    return f"{reason}, while opening the input '{clock.opening[-1]}'" if clock.opening else reason
