"""Reads the shape of a policy from the settings' dataclasses: which keys there are and of what kind."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from dataclasses import fields as dataclass_fields
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from ftcheck.field_metadata import LibraryKeys, having, key_of
from ftcheck.policy.nodes import Node, Path, with_items
from ftcheck.settings import JobSettings, PolicySettings

EXTRA = "extra"
"""The field that holds the library's other keys, in the sections that take them."""


@dataclass(frozen=True, slots=True)
class Stated:
    """A key that a policy states: in which section, of what kind (None: no such key), its node."""

    owner: type[Any]
    name: str
    kind: Any
    node: Node


def fields(owner: Any) -> Mapping[str, Any]:
    """The keys of a section with their kinds. `defaults` is a job; `extra` is nothing one writes."""
    return _fields(owner)


@cache
def _fields(owner: type[Any]) -> Mapping[str, Any]:
    hints = get_type_hints(owner)
    known = {key_of(field.name): hints[field.name] for field in dataclass_fields(owner) if field.init}
    known = {name: kind for name, kind in known.items() if name not in having(owner, LibraryKeys)}
    return known | {"defaults": JobSettings} if owner is PolicySettings else known


def members(kind: Any) -> list[Any]:
    """The kinds a field takes, without None."""
    parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return [part for part in parts if part is not types.NoneType]


def nullable(kind: Any) -> bool:
    """Whether null is a value of its own here."""
    return kind is Any or types.NoneType in get_args(kind)


def section_of(kind: Any) -> type[Any] | None:
    """The dataclass a field takes, if it takes one."""
    return next((part for part in members(kind) if isinstance(part, type) and is_dataclass(part)), None)


def sections(owner: Any) -> Mapping[tuple[str, ...], type[Any]]:
    """A section and those inside it, by the keys that they stand under; its own are none: `()`."""
    return _sections(owner)


@cache
def _sections(owner: type[Any]) -> Mapping[tuple[str, ...], type[Any]]:
    found: dict[tuple[str, ...], type[Any]] = {(): owner}
    for name, kind in fields(owner).items():
        inner = section_of(kind)
        if inner is not None:
            found |= {(name, *keys): one for keys, one in sections(inner).items()}
    return found


def below(kind: Any, step: str | int) -> Any:
    """The kind of a child: of a section's key, a map's value, a list's item. None if there is none."""
    owner = section_of(kind)
    if owner is not None and isinstance(step, str):
        return fields(owner).get(step)
    for part in members(kind):
        arguments = get_args(part)
        if isinstance(step, str) and arguments and get_origin(part) is not tuple:
            return arguments[-1]
        if isinstance(step, int) and get_origin(part) is tuple:
            return arguments[0]
    return None


def kind_at(kind: Any, path: Path) -> Any:
    """The kind of what stands under a path."""
    for step in path:
        kind = below(kind, step)
    return kind


def visit(kind: Any, node: Node) -> Iterator[Stated]:
    """Every key that is stated under `node`, sections inside sections included."""
    owner = section_of(kind)
    if owner is not None:
        for name, child in node.items.items():
            inner = fields(owner).get(name)
            yield Stated(owner, name, inner, child)
            yield from visit(inner, child) if inner is not None else ()
        return
    for step, child in _children(node):
        inner = below(kind, step)
        yield from visit(inner, child) if inner not in (None, Any) else ()


def _children(node: Node) -> list[tuple[str | int, Node]]:
    if isinstance(node.value, tuple):
        return list(enumerate(node.value))
    return list(node.items.items())


def settled(kind: Any, node: Node) -> Node:
    """The tree with every section that is left empty read as one that says nothing."""
    if node.value is None:
        return _empty(kind, node)
    if not node.items or kind in (None, Any):
        return node
    return with_items(node, {key: settled(below(kind, key), child) for key, child in node.items.items()})


def _empty(kind: Any, node: Node) -> Node:
    value = empty_value(kind)
    return node if value is None else replace(node, value=value)


def empty_value(kind: Any) -> dict[str, Node] | tuple[Node, ...] | None:
    """What a section that is left empty is read as; None where null is a value, or an error."""
    if kind is None or nullable(kind):
        return None
    [part] = members(kind) if len(members(kind)) == 1 else [kind]
    if section_of(part) or get_origin(part) is Mapping or part is Mapping:
        return {}
    return () if get_args(part)[1:] == (Ellipsis,) else None
