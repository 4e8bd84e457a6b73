"""Further keys of `training`, `training.lora` and `training.quantization`: what the libraries accept.

They come from a dated table, so that a policy is read without importing trl.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from ftcheck import tables
from ftcheck.errors import Problem
from ftcheck.field_metadata import LibraryKeys, having
from ftcheck.policy.extra_keys import (
    Stated,
    fields,
    members,
    nullable,
)
from ftcheck.policy.messages import is_mapping, mismatch
from ftcheck.policy.nodes import Node, plain, problem
from ftcheck.training.reserved_arguments import RESERVED_FOR_MODEL

KINDS: Mapping[str, Any] = {
    "boolean": bool,
    "integer": int,
    "number": float,
    "string": str,
    "array": list,
    "object": Mapping,
    "null": None,
}


@dataclass(frozen=True, slots=True)
class Section:
    """What the table says of one section: the library's class, its fields, and keys to write otherwise."""

    config: str
    fields: Mapping[str, Mapping[str, Any]]
    removed: Mapping[str, str]
    elsewhere: Mapping[str, str]

    def takes(self, name: str) -> bool:
        """Whether a key is the library's, and may stand here."""
        return name in self.fields and name not in self.elsewhere

    @property
    def names(self) -> list[str]:
        """The library's keys that may stand here."""
        return [name for name in self.fields if self.takes(name)]


def section(owner: type[Any]) -> Section | None:
    """The table's section for a settings class; None for one that takes no further keys."""
    for taken in having(owner, LibraryKeys).values():
        return Section(**tables.load("trainer_arguments")["sections"][taken.section])
    return None


def extra_of(owner: type[Any], node: Node) -> dict[str, Node]:
    """The keys under a section that are the library's and not ftcheck's own."""
    known = section(owner)
    if known is None:
        return {}
    return {
        name: child for name, child in node.items.items() if name not in fields(owner) and known.takes(name)
    }


def kind_of(field: Mapping[str, Any]) -> Any:
    """The kind of a field of the table, as the settings' annotations would say it."""
    kinds = [KINDS[name] for name in field["types"]]
    if field.get("choices"):
        choices = Literal.__getitem__(tuple(field["choices"]))
        kinds = [choices if kind is str else kind for kind in kinds]
    return reduce(or_, kinds)


def problems_of(stated: Stated) -> Iterator[Problem] | None:
    """What the table says against a key that is none of ftcheck's own; None if it does not know it."""
    known = section(stated.owner)
    if known is None:
        return None
    at = stated.node.key or stated.node.at
    if stated.name in known.removed:
        remedy = known.removed[stated.name]
        return iter([problem(f"'{stated.name}' was removed from {known.config}: {remedy}", at)])
    if stated.name in known.elsewhere:
        return iter([problem(f"'{stated.name}' does not belong here: {known.elsewhere[stated.name]}", at)])
    if stated.name in known.fields:
        return _of_value(stated, kind_of(known.fields[stated.name]))
    return None


def _of_value(stated: Stated, kind: Any) -> Iterator[Problem]:
    value = plain(stated.node)
    if not fits(kind, value):
        yield problem(mismatch(kind, value), stated.node.at)
    if stated.name == "model_init_kwargs":
        for name, child in stated.node.items.items():
            if name in RESERVED_FOR_MODEL:
                message = f"'{name}' does not belong here: {RESERVED_FOR_MODEL[name]}"
                yield problem(message, child.key or child.at)


def fits(kind: Any, value: Any) -> bool:
    """Whether a plain value is of a kind that the table names."""
    if value is None:
        return nullable(kind)
    return any(_is(part, value) for part in members(kind))


def _is(part: Any, value: Any) -> bool:
    if get_origin(part) is Literal:
        return value in get_args(part)
    if isinstance(value, bool):
        return part is bool
    if part is float:
        return isinstance(value, int | float)
    return is_mapping(part) if isinstance(value, dict) else part is not NoneType and isinstance(value, part)
