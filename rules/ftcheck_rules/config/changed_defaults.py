"""Changed defaults: are the defaults that the policy relies on still those of the lock?"""

from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck import Change, Finding, Job, Location, Measurement, Severity
from ftcheck.lock import Lock, today

GONE = object()
"""In place of a default: the argument no longer exists."""


def changed_defaults(job: Job, lock: Lock) -> Iterator[Finding | Measurement]:
    """Arguments that the policy does not set, and whose defaults differ from those in the lock.

    The defaults that `ftcheck lock` recorded are compared with those in ftcheck's dated table now.
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
            f"training.{key}, whose locked default is {_shown(then)}, no longer exists",
            Severity.WARNING,
            at=at,
            fix="see the library's release notes for its replacement; if this is fine: ftcheck lock POLICY",
            why="The policy relied on this argument: the run may now behave differently.",
        )
    return Finding(
        f"the default of training.{key} changed from {_shown(then)} to {_shown(now[key])} since the policy"
        " was locked, and the policy does not set it",
        Severity.WARNING,
        at=at,
        fix=f"set training.{key} in the policy; if the new default is intended: ftcheck lock POLICY",
        change=Change(path, None, then, safe=False),
        why="A new version of the library silently changes what is trained.",
    )


def _shown(value: Any) -> str:
    """A default as YAML has it."""
    return {None: "null", True: "true", False: "false"}.get(value) or repr(value)
