"""Bounds for chat templates: they come from the internet, and may loop for ever or fill the memory.

transformers renders them in jinja's sandbox, which keeps them from files and attributes, not from time
and memory. They are rendered as transformers does it, in this process, and stopped from outside: by a
timer on CPU time, and by a limit on the memory that may be added: four system calls each time, which
`bounded_together` makes once for many rows. Where the system has neither (Windows; another thread than
the main one), the time limit of checks holds.
"""

import contextlib
import json
import mmap
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

MAX_TEMPLATE = 200_000
"""Characters of a template; the longest that are in use have some 30,000."""
SECONDS = 5.0
"""CPU time for one conversation."""
MEMORY = 512 << 20
"""Bytes that rendering one conversation may add."""
FRESH = 0.005
"""Seconds for which the figure of the memory in use holds."""
FREE_OUTPUT = 1_000_000
"""Characters of output that are never too many."""
TIMES = 20
"""Beyond that, output may have so many times the characters of what was rendered."""

_refused: dict[str, str] = {}
"""Templates that went over a bound, with the reason: they are not tried again on every row."""


class OutOfBounds(Exception):
    """A chat template takes too long, needs too much memory, or writes too much."""


class _OutOfTime(BaseException):
    """Raised by the timer; no `except Exception` in a library keeps it."""


@contextlib.contextmanager
def bounded(template: Any) -> Iterator[None]:
    """Render with this template inside. Raises `OutOfBounds`, from then on at once for the same template."""
    key = template if isinstance(template, str) else str(template)
    if len(key) > MAX_TEMPLATE:
        raise OutOfBounds(f"the chat template has {len(key):,} characters; the limit is {MAX_TEMPLATE:,}")
    if key in _refused:
        raise OutOfBounds(_refused[key])
    try:
        with _Guard():
            yield
    except _OutOfTime:
        why = f"the chat template did not finish within {SECONDS:g} s on one conversation"
    except MemoryError:
        why = f"the chat template needs more than {MEMORY >> 20} MiB for one conversation"
    else:
        return
    _refused[key] = why
    raise OutOfBounds(why)


@contextlib.contextmanager
def bounded_together(template: str) -> Iterator[None]:
    """Render many conversations inside, under the bounds of one. Raises `OutOfBounds`.

    The template is not refused from then on: which conversation it was, `bounded` finds out one by one.
    """
    if len(template) > MAX_TEMPLATE or template in _refused:
        raise OutOfBounds(_refused.get(template, "the chat template is too long"))
    try:
        with _Guard():
            yield
    except (_OutOfTime, MemoryError):
        raise OutOfBounds("several conversations together exceeded the limits for one") from None


def checked(text: str, template: Any, *given: Any) -> str:
    """What was rendered of `given`, if it is not far too much. Raises `OutOfBounds`."""
    if len(text) <= FREE_OUTPUT:
        return text
    size = len(json.dumps(given, ensure_ascii=False, default=str))
    if len(text) <= FREE_OUTPUT + TIMES * size:
        return text
    why = f"the chat template renders {len(text):,} characters from a conversation of {size:,}: too many"
    _refused[template if isinstance(template, str) else str(template)] = why
    raise OutOfBounds(why)


class _Guard:
    """Stops what runs inside after `SECONDS` of CPU time, or when it asks for `MEMORY` more than there was.

    The timer fires again each second, should the first exception get lost. The signal's handler stays
    where it is: outside it does nothing, and putting it back would cost more than rendering a short row.
    """

    armed = False
    seen = (0.0, 0)

    def __enter__(self) -> None:
        self._limits = _limit_memory()
        self._timing = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        if self._timing:
            if signal.getsignal(signal.SIGPROF) is not _stop:
                signal.signal(signal.SIGPROF, _stop)
            _Guard.armed = True
            signal.setitimer(signal.ITIMER_PROF, SECONDS, 1.0)

    def __exit__(self, *error: object) -> None:
        if self._timing:
            _Guard.armed = False
            signal.setitimer(signal.ITIMER_PROF, 0)
        if self._limits is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, self._limits)


def _stop(number: int, frame: FrameType | None) -> None:
    if _Guard.armed:
        raise _OutOfTime


def _limit_memory() -> tuple[int, int] | None:
    """Limit the address space; the limits as they were. None where it is limited enough, or cannot be."""
    used = _used()
    if used is None:
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + MEMORY
    if soft != resource.RLIM_INFINITY and soft <= wanted:
        return None
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    return soft, hard


def _used() -> int | None:
    """Bytes of address space in use, asked anew after `FRESH` seconds; None where nothing says it.

    An old figure is dangerous: what a library maps meanwhile would count as the template's.
    """
    now = time.monotonic()
    if now - _Guard.seen[0] < FRESH:
        return _Guard.seen[1]
    try:
        handle = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return None
    try:
        _Guard.seen = (now, int(os.read(handle, 64).split()[0]) * mmap.PAGESIZE)
    finally:
        os.close(handle)
    return _Guard.seen[1]
