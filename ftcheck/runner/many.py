"""Many policies in one command: begun one by one, then checked side by side, each as if it ran alone.

A lane is a thread with a worker of its own, which goes from policy to policy. Policies over the same data
stay on one lane, where what their jobs have in common is worked out once. Every report says `started` before
the first check of any policy, so that a run that is killed is red everywhere.
"""

import os
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue

from ftcheck.exit_codes import ExitCode, worst_of
from ftcheck.gate.input_digests import FileDigests
from ftcheck.inputs.machine_memory import machine_memory
from ftcheck.report.job_verdicts import JobVerdict, verdicts
from ftcheck.runner import session
from ftcheck.runner.checks import MEMORY_SHARE
from ftcheck.runner.crash_log import internal_error
from ftcheck.runner.options import Options
from ftcheck.runner.parts import data_of, grouped, in_threads
from ftcheck.runner.planned import Planned
from ftcheck.runner.session import Begun, Ended
from ftcheck.runner.timeouts import Limits
from ftcheck.runner.workplace import HELPERS, Workplace

GIB = 1 << 30
NEEDED = 3 * GIB // 2
"""Memory that a worker is counted with: libraries, tokenizer, columns of some hundred thousand rows."""
INTERRUPTED = "interrupted before its first check"


@dataclass(frozen=True, slots=True)
class Named:
    """A policy with the name that tells it from the others of the command."""

    file: str
    name: str
    options: Options


@dataclass(frozen=True, slots=True)
class Outcome:
    """A policy of the command, and how its run ended."""

    named: Named
    ended: Ended


def at_once(wanted: int | None, policies: int) -> int:
    """How many workers there are: so many as wanted, else as cores and free memory allow. Beyond the policies
    and `HELPERS` none has anything to do.
    """
    if wanted is not None:
        return min(wanted, max(policies, HELPERS))
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().available // NEEDED)))


def run(
    named: Sequence[Named], places: Sequence[Workplace], stop: threading.Event, watch: session.Watch
) -> list[Outcome]:
    """Run the checks of all these policies, a lane for each place; their outcomes in the same order.

    Ctrl-C sets `stop`, which the places tell of: what runs is ended, what did not begin says so, and every
    report is written. Places of which there are more than policies help the first. Raises `UsageError` for
    outputs that cannot be written, before anything ran.
    """
    places[0].helpers = tuple(places[len(named) :])
    begun = [session.begin(one.options) for one in named]
    return _Lanes(named, begun, stop, watch).run(places[: len(named)])


@dataclass
class _Lanes:
    """The policies that wait, and those that are done."""

    named: Sequence[Named]
    begun: Sequence[Begun]
    stop: threading.Event
    watch: session.Watch
    done: dict[int, Ended] = field(default_factory=dict)
    files: FileDigests = field(default_factory=FileDigests)

    def run(self, places: Sequence[Workplace]) -> list[Outcome]:
        waiting: SimpleQueue[list[int]] = SimpleQueue()
        for group in grouped([_data(one.planned) for one in self.begun], len(places)):
            waiting.put(group)
        in_threads([partial(self._serve, place, waiting) for place in places], self.stop)
        ended = (self.done.get(number) or self._given_up(number) for number in range(len(self.begun)))
        return [Outcome(one, how) for one, how in zip(self.named, ended, strict=True)]

    def _serve(self, place: Workplace, waiting: "SimpleQueue[list[int]]") -> None:
        while not self.stop.is_set():
            try:
                group = waiting.get_nowait()
            except Empty:
                return
            for number in group:
                if not self.stop.is_set():
                    self.done[number] = self._ended(self.begun[number], place)

    def _ended(self, begun: Begun, place: Workplace) -> Ended:
        try:
            return session.finish(begun, place, self.watch, self.files)
        except KeyboardInterrupt:
            return session.give_up(begun, INTERRUPTED, ExitCode.INTERRUPTED)
        except Exception as error:
            failure = internal_error(error, "running the checks")
            return replace(session.give_up(begun, str(failure), failure.exit_code), error=failure)

    def _given_up(self, number: int) -> Ended:
        return session.give_up(self.begun[number], INTERRUPTED, ExitCode.INTERRUPTED)


def _data(planned: Planned | None) -> Hashable:
    return data_of(planned.loaded.policy.jobs[name] for name in planned.jobs) if planned is not None else None


def limits(places: int) -> Limits:
    """When a worker is stopped that shares the machine with others."""
    return Limits(memory=int(machine_memory() * MEMORY_SHARE) // places)


def verdicts_of(outcomes: Sequence[Outcome]) -> list[JobVerdict]:
    """The verdict of each job of all policies."""
    found: list[JobVerdict] = []
    for one in outcomes:
        interrupted = one.ended.code is ExitCode.INTERRUPTED
        found += verdicts(one.named.name, one.ended.report, interrupted=interrupted)
    return found


def exit_code(outcomes: Sequence[Outcome]) -> ExitCode:
    """The worst code of all policies; none of them means that nothing was checked."""
    return worst_of(one.ended.code for one in outcomes) if outcomes else ExitCode.NOTHING
