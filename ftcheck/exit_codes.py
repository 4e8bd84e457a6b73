"""The exit codes of the command line, and which one wins."""

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What `ftcheck` exits with (design, section 8). `--exit-zero` hides `BLOCKED` only."""

    OK = 0
    """Every planned check has an outcome, none errored or timed out, nothing blocks, something passed."""
    BLOCKED = 1
    """The same, with a blocking finding."""
    USAGE = 2
    """The command line, the policy or a waiver is wrong."""
    INCOMPLETE = 3
    """A check errored or timed out, a plugin did not load, or an input could not be read."""
    NOTHING = 4
    """Nothing was planned or selected, or nothing passed or failed."""
    REFUSED = 5
    """The gate refused."""
    TRAINING = 6
    """Training failed or was stopped."""
    INTERRUPTED = 130
    """Interrupted (Ctrl-C)."""


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
