"""A policy as a tree in which every key and every value knows its place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ftcheck.errors import Problem
from ftcheck.records import Location

Scalar = str | int | float | bool | None
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its place, and the place of the key it stands under.

    The places name the file that states the value, and the path under which that file states it: a
    value that came from `defaults` says so wherever it is merged in.
    """

    value: "Scalar | Mapping[str, Node] | tuple[Node, ...]"
    at: Location
    key: Location | None = None

    @property
    def items(self) -> "Mapping[str, Node]":
        """The children of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def place(self) -> Location:
        """What to point at: the value, but the key of a block that begins on a later line."""
        if self.key is None or not isinstance(self.value, Mapping | tuple):
            return self.at
        return self.key if self.key.line != self.at.line else self.at


def plain(node: Node) -> Any:
    """The tree as dictionaries, lists and scalars."""
    if isinstance(node.value, Mapping):
        return {key: plain(child) for key, child in node.value.items()}
    return [plain(child) for child in node.value] if isinstance(node.value, tuple) else node.value


def planted(value: Any, at: Location) -> Node:
    """A tree of plain data, all of it at one place."""
    if isinstance(value, Mapping):
        return Node({key: planted(child, _below(at, key)) for key, child in value.items()}, at, at)
    if isinstance(value, list | tuple):
        return Node(tuple(planted(child, _below(at, n)) for n, child in enumerate(value)), at, at)
    return Node(value, at, at)


def _below(at: Location, key: object) -> Location:
    return replace(at, yaml_path=f"{at.yaml_path}.{key}" if at.yaml_path else str(key))


def nested(keys: Sequence[str], node: Node) -> Node:
    """The mapping of mappings that holds `node` under `keys`."""
    for key in reversed(keys):
        node = Node({key: node}, node.at, node.at)
    return node


def find(node: Node, path: Path) -> Node | None:
    """The node under a path of keys and indexes."""
    for step in path:
        if isinstance(node.value, Mapping) and step in node.value:
            node = node.value[str(step)]
        elif isinstance(node.value, tuple) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            return None
    return node


def merge(under: Node, over: Node) -> Node:
    """`over` laid on `under`: mappings are merged deep, everything else is replaced.

    A merged mapping stands where `over` has it, if that is a place in a file.
    """
    if not isinstance(under.value, Mapping) or not isinstance(over.value, Mapping):
        return over
    merged = dict(under.value)
    for key, child in over.value.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return replace(over if over.at.line else under, value=merged)


def with_items(node: Node, items: Mapping[str, Node]) -> Node:
    """The same mapping with other children."""
    return replace(node, value=dict(items))


def places(node: Node, prefix: str = "") -> dict[str, Location]:
    """The place of every value below `node`, by dotted key, and its own under `prefix`."""
    found = {prefix: replace(node.place, yaml_path=None)}
    for key, child in _children(node):
        found |= places(child, f"{prefix}.{key}" if prefix else str(key))
    return found


def _children(node: Node) -> Iterator[tuple[str | int, Node]]:
    if isinstance(node.value, Mapping):
        yield from node.value.items()
    elif isinstance(node.value, tuple):
        yield from enumerate(node.value)


def problem(message: str, at: Location) -> Problem:
    """A problem at a place."""
    return Problem(message, path=at.path, line=at.line, column=at.column, yaml_path=at.yaml_path)


def ordered(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Problems by file and line, each once: what stands in `defaults` is wrong in every job."""
    unique = {(p.path, p.line, p.column, p.yaml_path, p.message): p for p in problems}
    return tuple(sorted(unique.values(), key=_rank))


def _rank(one: Problem) -> tuple[str, int, int, str, str]:
    return one.path or "", one.line or 0, one.column or 0, one.yaml_path or "", one.message
