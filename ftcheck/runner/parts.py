"""The checks of one policy in parts, for several workers at once: jobs over the same data stay together."""

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial

from ftcheck.records import Check
from ftcheck.runner.workplace import Workplace
from ftcheck.settings import Job, Policy

Run = Callable[[Workplace, Sequence[int], Callable[[], bool]], None]
"""Runs checks, by their numbers, at a place; the last argument tells of Ctrl-C."""


def data_of(jobs: Iterable[Job]) -> Hashable:
    """The data that jobs are about: those that have it in common share most of their work."""
    return frozenset((one.data.train, one.data.prepared) for one in jobs)


def grouped(of: Sequence[Hashable], most: int) -> list[list[int]]:
    """Numbers by what they have in common; of fewer groups than `most` the groups in parts."""
    found: dict[Hashable, list[int]] = {}
    for number, one in enumerate(of):
        found.setdefault(one, []).append(number)
    parts = -(-most // max(1, len(found))) if len(found) < most else 1
    return [part for group in found.values() for part in _cut(group, parts)]


def _cut(group: list[int], parts: int) -> list[list[int]]:
    size = -(-len(group) // parts)
    return [group[start : start + size] for start in range(0, len(group), size)]


def parted(checks: Sequence[Check], policy: Policy, most: int) -> list[list[int]]:
    """The numbers of checks in at most so many parts, in planned order; the host's are in the first."""
    names = list(dict.fromkeys(check.job for check in checks if check.job is not None))
    groups = grouped([data_of([policy.jobs[name]]) for name in names], most)
    loads: list[list[str | None]] = [[] for _ in range(max(1, min(most, len(groups))))]
    for group in sorted(groups, key=len, reverse=True):
        min(loads, key=len).extend(names[number] for number in group)
    loads[0].append(None)
    return [[n for n, check in enumerate(checks) if check.job in load] for load in loads]


def side_by_side(run: Run, places: Sequence[Workplace], parts: Sequence[Sequence[int]]) -> None:
    """Run each part at a place of its own. Raises `KeyboardInterrupt` for Ctrl-C, and what a part raises."""
    stop, raised = threading.Event(), list[BaseException]()

    def one(place: Workplace, part: Sequence[int]) -> None:
        try:
            run(place, part, lambda: stop.is_set() or places[0].interrupted())
        except BaseException as error:
            place.worker = None
            stop.set()
            raised.append(error)

    in_threads([partial(one, *pair) for pair in zip(places, parts, strict=False)], stop)
    if stop.is_set():
        raise next(
            (error for error in raised if not isinstance(error, KeyboardInterrupt)), KeyboardInterrupt()
        )


def in_threads(works: Sequence[Callable[[], None]], stop: threading.Event) -> None:
    """Do each of these in a thread of its own, until all are done; Ctrl-C sets `stop`, of which they know.

    A thread's own `join` may take it for ended that goes on, if Ctrl-C comes within it (bpo-45274).
    """
    ended = [threading.Event() for _ in works]

    def one(work: Callable[[], None], over: threading.Event) -> None:
        try:
            work()
        finally:
            over.set()

    for pair in zip(works, ended, strict=True):
        threading.Thread(target=one, args=pair).start()
    for over in ended:
        while not over.is_set():
            try:
                over.wait(0.2)
            except KeyboardInterrupt:
                stop.set()
