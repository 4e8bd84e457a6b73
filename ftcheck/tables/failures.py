"""The catalogue of real failures: what each rule must catch, and the public threads that show it."""

from dataclasses import dataclass
from functools import cache

from ftcheck import tables


@dataclass(frozen=True, slots=True)
class Failure:
    """One catalogued failure. `rule` is None where no rule looks for it yet.

    `threads` are URLs of issues and pull requests; `repository#number` where the owner is not known.
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
    return tuple(Failure(**{**one, "threads": tuple(map(url, one["threads"]))}) for one in found)


def url(thread: str) -> str:
    """The URL of `huggingface/trl#5`; GitHub redirects it where the thread is a pull request.

    Without an owner there is no URL: the name stays as it is.
    """
    repository, _, number = thread.partition("#")
    return f"https://github.com/{repository}/issues/{number}" if "/" in repository else thread


def caught_by(rule: str) -> tuple[Failure, ...]:
    """The failures that a rule must catch."""
    return tuple(one for one in catalogue() if one.rule == rule)
