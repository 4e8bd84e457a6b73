"""Which planned checks a run takes: by job, id, name, expression, tag, or what failed last time."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ftcheck import cache
from ftcheck.atomic import replace_file
from ftcheck.digest import of_text
from ftcheck.errors import UsageError
from ftcheck.inputs import bounded
from ftcheck.records import Check, Outcome, Result

TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How a run's plan is narrowed. Empty means: all of it."""

    jobs: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    keyword: str | None = None
    tags: tuple[str, ...] = ()
    last_failed: tuple[str, ...] | None = None
    stage: str | None = None

    def as_dict(self) -> Mapping[str, Any] | None:
        """The selection as the report shows it; None for the whole plan."""
        stated = {
            "jobs": list(self.jobs),
            "select": list(self.select),
            "ignore": list(self.ignore),
            "keyword": self.keyword,
            "tags": list(self.tags),
            "last_failed": None if self.last_failed is None else True,
            "stage": self.stage,
        }
        return {key: value for key, value in stated.items() if value} or None


def narrow(checks: Sequence[Check], selection: Selection, jobs: Sequence[str]) -> tuple[Check, ...]:
    """The checks that a selection takes, in planned order. Raises `UsageError` for unknown names."""
    _known(selection.jobs, jobs, "job")
    names = sorted({name for check in checks for name in (check.id, check.name)})
    for pattern in (*selection.select, *selection.ignore):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f"no check '{pattern}'{_meant(pattern, names)}")
    _known(selection.tags, sorted({tag for check in checks for tag in check.tags}), "tag")
    wanted = parse(selection.keyword) if selection.keyword else None
    return tuple(check for check in checks if _taken(check, selection, wanted))


def _taken(check: Check, selection: Selection, wanted: "Expression | None") -> bool:
    if selection.jobs and check.job is not None and check.job not in selection.jobs:
        return False
    if selection.select and not _matches(check, selection.select):
        return False
    if _matches(check, selection.ignore):
        return False
    if selection.tags and not set(selection.tags) & set(check.tags):
        return False
    if selection.last_failed is not None and check.id not in selection.last_failed:
        return False
    return wanted is None or wanted.holds(check.id)


def _matches(check: Check, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in (check.id, check.name))


def _known(stated: Sequence[str], known: Sequence[str], what: str) -> None:
    for name in stated:
        if name not in known:
            listed = f"; known: {', '.join(known)}" if known else ""
            raise UsageError(f"no {what} '{name}'{_meant(name, known) or listed}")


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


@dataclass(frozen=True, slots=True)
class Expression:
    """A `-k` expression: a part of a check's id, or `and`, `or`, `not` over expressions."""

    kind: str
    text: str = ""
    parts: "tuple[Expression, ...]" = ()

    def holds(self, check_id: str) -> bool:
        """Whether it is true of a check."""
        if self.kind == "not":
            return not self.parts[0].holds(check_id)
        if self.kind in ("and", "or"):
            found = [part.holds(check_id) for part in self.parts]
            return all(found) if self.kind == "and" else any(found)
        return self.text.lower() in check_id.lower()


def parse(text: str) -> Expression:
    """A `-k` expression such as `length and not analyst`. Raises `UsageError` if it is none."""
    tokens = list(TOKEN.findall(text))
    expression, rest = _or(text, tokens)
    if rest:
        raise UsageError(f"-k '{text}': unexpected '{rest[0]}'")
    return expression


def _or(text: str, tokens: list[str]) -> tuple[Expression, list[str]]:
    first, tokens = _and(text, tokens)
    parts = [first]
    while tokens and tokens[0] == "or":
        part, tokens = _and(text, tokens[1:])
        parts.append(part)
    return (Expression("or", parts=tuple(parts)) if len(parts) > 1 else first), tokens


def _and(text: str, tokens: list[str]) -> tuple[Expression, list[str]]:
    first, tokens = _not(text, tokens)
    parts = [first]
    while tokens and tokens[0] == "and":
        part, tokens = _not(text, tokens[1:])
        parts.append(part)
    return (Expression("and", parts=tuple(parts)) if len(parts) > 1 else first), tokens


def _not(text: str, tokens: list[str]) -> tuple[Expression, list[str]]:
    if not tokens:
        raise UsageError(f"-k '{text}': incomplete expression")
    head, rest = tokens[0], tokens[1:]
    if head == "not":
        inner, rest = _not(text, rest)
        return Expression("not", parts=(inner,)), rest
    if head == "(":
        inner, rest = _or(text, rest)
        if not rest or rest[0] != ")":
            raise UsageError(f"-k '{text}': a ')' is missing")
        return inner, rest[1:]
    if head in ("and", "or", ")"):
        raise UsageError(f"-k '{text}': unexpected '{head}'")
    return Expression("name", head), rest


FAILED = (Outcome.FAILED, Outcome.ERRORED, Outcome.TIMEOUT)


def last_failed(policy: str) -> tuple[str, ...]:
    """The ids that failed when this policy was run last; none if that is not known."""
    try:
        stored = bounded.read_json(_memory(policy))
    except (OSError, ValueError):
        return ()
    return tuple(one for one in stored if isinstance(one, str)) if isinstance(stored, list) else ()


def remember(policy: str, results: Sequence[Result]) -> None:
    """Keep what failed, for `--lf`. What was not run keeps the state it had; a full disk is no error."""
    ran = {result.check.id for result in results if result.outcome is not Outcome.NOT_RUN}
    failed = [result.check.id for result in results if result.outcome in FAILED]
    kept = [one for one in last_failed(policy) if one not in ran]
    memory = _memory(policy)
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        replace_file(memory, json.dumps(sorted({*failed, *kept})).encode())
    except OSError:
        return


def _memory(policy: str) -> Path:
    return cache.root() / "last" / f"{of_text(str(Path(policy).resolve()))[7:31]}.json"
