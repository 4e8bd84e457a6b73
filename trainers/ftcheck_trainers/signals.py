"""Signals while a run trains: the first one asks it to stop after the step, the second one ends it at once.

Schedulers say SIGTERM, people Ctrl-C. A step that is finished can be checkpointed and gone on from.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from ftcheck import ranks

CAUGHT = (signal.SIGTERM, signal.SIGINT)
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, and stopped; `remedy` says how to go on."""

    def __init__(self, reason: str, remedy: str) -> None:
        """`reason` is the signal and where the run stopped."""
        super().__init__(reason)
        self.remedy = remedy


class Stop:
    """Whether somebody asked this run to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self.agreed = False

    def asked(self) -> bool:
        """Whether one of the processes was asked, and from then on `agreed`; all of them must ask this."""
        self.agreed = self.agreed or ranks.any_of(self.signal is not None)
        return self.agreed

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Within the block the first signal is only noted."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in CAUGHT}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        name = NAMES[signal.Signals(number)]
        if self.signal is not None:
            raise KeyboardInterrupt(f"{name}, twice")
        self.signal = name
        said = f"{name}: stopping after this step; send it again to stop immediately\n"
        os.write(2, said.encode())  # the handler may have come in the middle of a print

    def interrupted(self, step: int) -> Interrupted:
        """What ends the run, once its checkpoint is written."""
        reason = f"{self.signal or 'a signal to another process'} after step {step}"
        return Interrupted(reason, f"resume with --resume, from checkpoint-{step}")
