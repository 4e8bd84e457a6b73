"""Holds a merged policy against the settings' dataclasses, and says all that is wrong with it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ftcheck import tables
from ftcheck.errors import Problem
from ftcheck.field_metadata import AlsoCalled, having
from ftcheck.policy import table
from ftcheck.policy.extra_keys import (
    EXTRA,
    below,
    fields,
    kind_at,
    members,
    section_of,
    sections,
    visit,
)
from ftcheck.policy.messages import did_you_mean, mismatch
from ftcheck.policy.nodes import (
    Node,
    Path,
    find,
    plain,
    problem,
)
from ftcheck.settings import CheckSettings, JobSettings, PolicySettings

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Validated:
    """A value of the kind that was asked for, or None and the problems."""

    value: Any
    problems: tuple[Problem, ...]


def validated(kind: Any, node: Node) -> Validated:
    """The settings that a tree states, or everything that keeps it from stating any."""
    from pydantic import ValidationError

    problems = list(unknown_keys(kind, node))
    raw = pruned(kind, node)
    try:
        value = adapter(kind).validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        problems.extend(_in_words(kind, node, error.errors(include_url=False)))
        value = None
    return Validated(None if problems else value, tuple(problems))


def adapter(kind: Any) -> "TypeAdapter[Any]":
    """Pydantic's validator of a kind, made once."""
    return _adapter(kind)


@cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def unknown_keys(kind: Any, node: Node) -> Iterator[Problem]:
    """Keys that do not exist, or not any more, and values that the libraries would refuse."""
    for stated in visit(kind, node):
        if stated.kind is not None:
            continue
        found = table.problems_of(stated)
        if found is not None:
            yield from found
            continue
        message = f"unknown key '{stated.name}'{_meant(stated.owner, stated.name)}"
        yield problem(message, stated.node.key or stated.node.at)


def _meant(owner: type[Any], name: str) -> str:
    """What a key that does not exist was probably meant to be: a key of this section, or of another."""
    homes = _job_keys()
    if name in homes and owner in (PolicySettings, *sections(JobSettings).values()):
        return f"; did you mean '{'jobs.NAME.' if owner is PolicySettings else ''}{homes[name]}'?"
    for own, called in having(owner, AlsoCalled).items():
        if name in called.names:
            return f"; did you mean '{own}'?"
    hint = tables.load("key_hints")["hints"].get(name)
    if hint is not None and owner in (PolicySettings, *sections(JobSettings).values()):
        return f"; write jobs.NAME.{hint['write']} ('{name}' is a key of {hint['of']})"
    section = table.section(owner)
    near = did_you_mean(name, [*fields(owner), *(section.names if section else ())])
    if owner is CheckSettings and not near:
        return "; parameters of the rule go under 'params'"
    return near


@cache
def _job_keys() -> Mapping[str, str]:
    """Where the keys of a job stand, by name: of several the one nearest to the top."""
    homes: dict[str, str] = {}
    for keys, owner in sorted(sections(JobSettings).items(), key=lambda one: len(one[0])):
        for name in fields(owner):
            homes.setdefault(name, ".".join((*keys, name)))
    return homes


def pruned(kind: Any, node: Node) -> Any:
    """The tree as plain data, without unknown keys, and with the libraries' keys under `extra`."""
    if isinstance(node.value, tuple):
        return [pruned(below(kind, index), child) for index, child in enumerate(node.value)]
    owner = section_of(kind)
    if not isinstance(node.value, Mapping) or kind in (None, Any):
        return plain(node)
    known = node.items if owner is None else {k: v for k, v in node.items.items() if k in fields(owner)}
    raw = {name: pruned(below(kind, name), child) for name, child in known.items()}
    extra = table.extra_of(owner, node) if owner else {}
    return raw | {EXTRA: {name: plain(child) for name, child in extra.items()}} if extra else raw


def _in_words(kind: Any, node: Node, errors: Sequence[Any]) -> Iterator[Problem]:
    said = {_path(node, error["loc"]): error for error in errors if error["type"] != "missing"}
    for path, error in said.items():
        if not any(other[: len(path)] == path and len(other) > len(path) for other in said):
            yield _of_value(kind, node, path, error)
    for error in errors:
        if error["type"] == "missing":
            yield _missing(kind, node, error["loc"])


def _path(node: Node, loc: Sequence[str | int]) -> Path:
    """The part of pydantic's place that is a place in the tree: it also names members of unions."""
    path: list[str | int] = []
    for step in loc:
        child = find(node, (step,))
        if child is not None:
            path.append(step)
            node = child
    return tuple(path)


def _of_value(kind: Any, node: Node, path: Path, error: Mapping[str, Any]) -> Problem:
    found = find(node, path) or node
    if error["type"] in ("value_error", "assertion_error"):
        return problem(str(error["ctx"]["error"]), found.place)
    inner = kind_at(kind, path)
    if inner is None or not members(inner):
        return problem(error["msg"].replace("Input should", "must"), found.at)
    return problem(mismatch(inner, plain(found)), found.at)


def _missing(kind: Any, node: Node, loc: Sequence[str | int]) -> Problem:
    path = _path(node, loc[:-1])
    found = find(node, path) or node
    if isinstance(loc[-1], int):
        return problem(mismatch(kind_at(kind, path), plain(found)), found.at)
    return problem(f"missing key '{loc[-1]}'", found.place)
