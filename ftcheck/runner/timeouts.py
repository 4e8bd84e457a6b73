"""When a worker is stopped: the limits, and the clock of the check in flight."""

import time
from dataclasses import dataclass

STALL = 600.0
"""Seconds without any progress after which a worker is stopped that opens inputs, or that starts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker is stopped: memory in bytes (None: 85 % of the machine's), seconds without progress."""

    memory: int | None = None
    stall: float = STALL


class CheckClock:
    """The time of the check in flight: that of its rule.

    The start of a worker and the opening of inputs do not count, but must make progress.
    """

    def __init__(self, timeout: float, stall: float) -> None:
        self._timeout = timeout
        self._stall = stall
        self._alive = time.monotonic()
        self._spent = 0.0
        self._since: float | None = None
        self.opening: list[str] = []

    def start(self) -> None:
        """The rule runs: only from now on does the check's time run."""
        self._since = time.monotonic()

    def alive(self) -> None:
        """The worker has said something."""
        self._alive = time.monotonic()

    def input(self, name: str, done: bool) -> None:
        """An input is being opened, or it is open: the rule waits for it."""
        running = self._since is not None
        if not done:
            if running and not self.opening:
                self._spent = self.seconds()
            self.opening.append(name)
        elif self.opening:
            self.opening.pop()
            if running and not self.opening:
                self._since = time.monotonic()

    def seconds(self) -> float:
        """The rule's own time so far."""
        if self._since is None or self.opening:
            return self._spent
        return self._spent + time.monotonic() - self._since

    def left(self) -> float:
        """Seconds until the worker is late, if nothing happens."""
        if self._since is None or self.opening:
            return max(0.0, self._stall - (time.monotonic() - self._alive))
        return max(0.0, self._timeout - self.seconds())

    def late(self) -> str | None:
        """Why the worker must be stopped now, or None."""
        if self.left() > 0:
            return None
        if self._since is None or self.opening:
            return f"no progress for {time.monotonic() - self._alive:.0f} s"
        return f"not finished after {self._timeout:g} s"
