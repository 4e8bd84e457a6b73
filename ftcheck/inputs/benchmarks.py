"""Questions of public or private test sets that no training row may be taken from."""

from dataclasses import dataclass

from ftcheck.records import Location


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a test set, as text, and where it stands."""

    text: str
    at: Location


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """The questions of the files that data.benchmarks names; `unread` are rows that hold none."""

    files: tuple[str, ...]
    questions: tuple[Question, ...]
    unread: tuple[Location, ...] = ()
