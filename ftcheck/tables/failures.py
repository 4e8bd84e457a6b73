"""The catalogue of real failures: what each rule must catch, and the public threads that show it."""

from dataclasses import dataclass
from functools import cache

from ftcheck import tables


@dataclass(frozen=True, slots=True)
class Failure:
    """One catalogued failure. `rule` is None where no rule looks for it yet.

    `threads` are `owner/repository#number` (the owner is left out where it is not known).
    """

    id: str
    what: str
    symptom: str
    rule: str | None
    fix: str
    threads: tuple[str, ...]


@cache
def catalogue() -> tuple[Failure, ...]:
    """All catalogued failures."""
    found = tables.load("failures")["failures"]
    return tuple(Failure(**{**one, "threads": tuple(one["threads"])}) for one in found)


def caught_by(rule: str) -> tuple[Failure, ...]:
    """The failures that a rule must catch."""
    return tuple(one for one in catalogue() if one.rule == rule)
