"""What the processes of a command take while it runs: memory, CPU time and bytes read, by kind."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

EVERY = 0.5
"""Seconds between two looks."""
KINDS = (
    ("ray::", "task"),
    ("raylet/raylet", "raylet"),
    ("gcs_server", "gcs"),
    ("ftcheck.runner.worker", "checks"),
    ("-m ftcheck run", "command"),
)
"""What stands in the command line of each kind of process."""


@dataclass
class Peaks:
    """Of processes that are looked at now and then, by kind: the peak memory in bytes of the largest (`peaks`
    are RSS, `own` without mapped files), CPU seconds, and bytes that came by calls to read (not mapped ones).

    `together` is the peak of the anonymous memory of all of them, pages that they share counted once.
    """

    peaks: dict[str, int] = field(default_factory=dict)
    own: dict[str, int] = field(default_factory=dict)
    cpu: dict[tuple[str, int], float] = field(default_factory=dict)
    read: dict[tuple[str, int], int] = field(default_factory=dict)
    together: int = 0

    def look(self, root: int) -> None:
        """At a process and all that it started."""
        anonymous = 0
        for one in [psutil.Process(root), *psutil.Process(root).children(recursive=True)]:
            try:
                kind, times = _kind(" ".join(one.cmdline())), one.cpu_times()
                sizes = _sizes(one.pid, "status")
                anonymous += _sizes(one.pid, "smaps_rollup").get("Pss_Anon", 0) if kind else 0
                read = one.io_counters().read_chars
            except (psutil.Error, OSError):
                continue
            if kind is not None and sizes:
                self.cpu[kind, one.pid], self.read[kind, one.pid] = times.user + times.system, read
                self.peaks[kind] = max(self.peaks.get(kind, 0), sizes["VmRSS"])
                self.own[kind] = max(self.own.get(kind, 0), sizes["RssAnon"] + sizes["RssShmem"])
        self.together = max(self.together, anonymous)

    def spent(self, *kinds: str) -> float:
        """CPU seconds of all processes of these kinds."""
        return sum(seconds for (kind, _), seconds in self.cpu.items() if kind in kinds)


def _sizes(pid: int, name: str) -> dict[str, int]:
    """The sizes in a file of /proc, in bytes."""
    lines = Path(f"/proc/{pid}/{name}").read_text(encoding="ascii").splitlines()
    return {line.partition(":")[0]: int(line.split()[1]) << 10 for line in lines if line.endswith(" kB")}


def _kind(words: str) -> str | None:
    """What a process is, by its command line."""
    return next((kind for part, kind in KINDS if part in words), None)


@contextmanager
def looked_at(root: int | None = None) -> Iterator[Peaks]:
    """What a process (this one) and all that it starts take while the block runs."""
    peaks, over = Peaks(), threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            peaks.look(root or os.getpid())

    looking = threading.Thread(target=watch, daemon=True)
    looking.start()
    try:
        yield peaks
    finally:
        over.set()
        looking.join()
