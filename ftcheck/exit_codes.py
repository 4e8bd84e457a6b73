"""The exit codes of the command line, and which one wins."""

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What `ftcheck` exits with (design, section 8). `--exit-zero` hides `BLOCKED` only."""

    OK = 0
    BLOCKED = 1
    USAGE = 2
    INCOMPLETE = 3
    NOTHING = 4
    REFUSED = 5
    TRAINING = 6
    INTERRUPTED = 130


PRECEDENCE = (
    ExitCode.INTERRUPTED,
    ExitCode.USAGE,
    ExitCode.INCOMPLETE,
    ExitCode.TRAINING,
    ExitCode.REFUSED,
    ExitCode.NOTHING,
    ExitCode.BLOCKED,
    ExitCode.OK,
)


def worst_of(codes: Iterable[ExitCode]) -> ExitCode:
    """The code that takes precedence: 130 > 2 > 3 > 6 > 5 > 4 > 1 > 0."""
    found = set(codes)
    return next(code for code in PRECEDENCE if code in found)
