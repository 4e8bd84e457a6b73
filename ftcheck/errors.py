"""Errors that are printed as one line each."""

from collections.abc import Sequence
from dataclasses import dataclass

from ftcheck.exit_codes import ExitCode

BREAKS = {ord(sign): name for sign, name in zip("\n\r\v\f", (r"\n", r"\r", r"\v", r"\f"), strict=True)}
BREAKS |= {code: f"\\x{code:02x}" for code in (0x1C, 0x1D, 0x1E, 0x85)}
BREAKS |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029)}
"""All at which a text is broken into lines, as it is shown."""


def in_one_line(text: str) -> str:
    """A text with its line breaks made visible: nothing in it begins a line, and looks like a place."""
    return text.translate(BREAKS)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with what ftcheck was given, with its place: `file:line:col: path: what`."""

    message: str
    path: str | None = None
    line: int | None = None
    column: int | None = None
    yaml_path: str | None = None

    def __str__(self) -> str:
        """The problem as one clickable line, whatever its texts hold."""
        place = ":".join(str(p) for p in (self.path, self.line, self.column) if p is not None)
        return in_one_line(": ".join(part for part in (place, self.yaml_path, self.message) if part))


class FtcheckError(Exception):
    """A problem of the user's making: printed without a traceback, one line a problem."""

    exit_code = ExitCode.USAGE
    code = "usage"
    trace = ""
    """A traceback as text, where a bug is behind it; for the report's details, never for the terminal."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        """`problems` are the places; without them the message stands alone."""
        super().__init__(message)
        self.problems = tuple(problems) or (Problem(message),)

    def __str__(self) -> str:
        """All problems, one line each."""
        return "\n".join(str(problem) for problem in self.problems)


class UsageError(FtcheckError):
    """The command line asks for something that does not exist or does not fit together."""


class PolicyError(FtcheckError):
    """A policy cannot be used; carries every problem that was found, not only the first."""

    code = "policy"


class PluginError(FtcheckError):
    """A plugin does not load, names an unknown hook, or offers a name that is already taken."""

    exit_code = ExitCode.INCOMPLETE
    code = "plugin"


class MissingDependency(FtcheckError):
    """A library is not installed; the message holds the exact command that installs it."""

    exit_code = ExitCode.INCOMPLETE
    code = "missing-dependency"

    def __init__(self, what: str, extra: str) -> None:
        """`what` needs the library; `extra` is the extra of ftcheck that brings it."""
        super().__init__(f"{what}; install it with: pip install 'ftcheck[{extra}]'")


class InputError(FtcheckError):
    """An input of a rule cannot be opened: a file is missing, broken, or changed while it was read."""

    exit_code = ExitCode.INCOMPLETE
    code = "input"


class EngineError(FtcheckError):
    """What prepares the rows cannot be reached, or has given up: nothing is known of the rows."""

    exit_code = ExitCode.INCOMPLETE
    code = "engine"


class DiskFull(FtcheckError):
    """There is no room for what a run writes while it goes on: nothing is known of the input it was for."""

    exit_code = ExitCode.INCOMPLETE
    code = "disk-full"


class AbsentConfig(InputError):
    """A model's folder holds a tokenizer and no config.json: one check reports it, the others are skipped."""

    opens = "model"
    """The input that cannot be opened."""


class TrainingError(FtcheckError):
    """Training could not start or was stopped."""

    exit_code = ExitCode.TRAINING
    code = "training"


class InternalError(FtcheckError):
    """A bug of ftcheck's own, or of a plugin: said in one line, with the log that holds its traceback."""

    exit_code = ExitCode.INCOMPLETE
    code = "internal"
