"""Defaults that changed: is what the policy leaves to the libraries still what it was when it was locked?"""

from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck import Change, Finding, Job, Location, Measurement, Severity
from ftcheck.lock import Lock, today

GONE = object()
"""In place of a default: the argument is no longer there."""


def changed_defaults(job: Job, lock: Lock) -> Iterator[Finding | Measurement]:
    """Arguments that the policy does not state, whose defaults are not those of when it was locked.

    The defaults that `ftcheck lock` wrote down are compared with those that ftcheck's dated table states now.
    """
    now = today()
    changed = [(key, then) for key, then in sorted(lock.defaults.items()) if now.get(key, GONE) != then]
    silent = [(key, then) for key, then in changed if not _stated(job, key)]
    yield Measurement("defaults", len(lock.defaults), unit="arguments")
    yield Measurement("defaults_changed", len(changed), unit="arguments")
    yield Measurement("defaults_changed_silently", len(silent), unit="arguments", limit="0")
    for key, then in silent:
        yield _finding(job, lock, key, then, now)


def _stated(job: Job, key: str) -> bool:
    return f"training.{key}" in job.places or key in job.training.extra


def _finding(job: Job, lock: Lock, key: str, then: Any, now: Mapping[str, Any]) -> Finding:
    path = f"jobs.{job.name}.training.{key}"
    at = Location(path=lock.path)
    if key not in now:
        return Finding(
            f"training.{key} had the default {then!r} when the policy was locked, and is gone now",
            Severity.WARNING,
            at=at,
            fix="see what replaced it in the library's notes; if all is well: ftcheck lock POLICY",
        )
    return Finding(
        f"the default of training.{key} was {then!r} when the policy was locked, and is {now[key]!r} now;"
        " the policy does not state it",
        Severity.WARNING,
        at=at,
        fix=f"state training.{key} in the policy; if the new default is meant: ftcheck lock POLICY",
        change=Change(path, None, then, safe=False),
    )
