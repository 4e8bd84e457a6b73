"""A bound on work for what must not blow up: CPU time, so that a busy machine makes no difference."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 60.0
"""What is measured takes below half a second: a slow machine stays far below it, another growth does not."""


@contextmanager
def bounded_cpu(seconds: float = SECONDS) -> Iterator[None]:
    """Fails if what runs inside takes more CPU time of this process."""
    started = time.process_time()
    yield
    took = time.process_time() - started
    assert took < seconds, f"{took:.1f} s of CPU time, {seconds:g} s are too much already"
