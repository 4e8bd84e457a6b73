"""The fields, properties and methods of a class, as rows of a table."""

import inspect
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from docs.generator import markdown as md
from docs.generator.signatures import annotation, signature
from ftcheck.policy.params import field_docs


def members_of(owner: type[Any]) -> list[tuple[str, str]]:
    """Public members: values of an enumeration, fields, then properties and methods that say what they do."""
    if issubclass(owner, Enum):
        return [(md.code(one.name), md.code(str(one.value))) for one in owner]
    return [*_fields(owner), *_functions(owner)]


def _fields(owner: type[Any]) -> list[tuple[str, str]]:
    if not is_dataclass(owner):
        return []
    docs = field_docs(owner)
    return [
        (md.code(f"{one.name}: {annotation(one.type)}"), md.line(docs.get(one.name, "")))
        for one in fields(owner)
        if not one.name.startswith("_")
    ]


def _functions(owner: type[Any]) -> list[tuple[str, str]]:
    return [
        (md.code(_head(name, member)), md.line(doc))
        for name, member in _members(owner)
        if not name.startswith("_") and (doc := inspect.getdoc(member))
    ]


def _members(owner: type[Any]) -> list[tuple[str, Any]]:
    """Properties and functions in the order in which the class and its own bases state them."""
    found: dict[str, Any] = {}
    for one in reversed(owner.__mro__):
        if one.__module__.startswith("ftcheck"):
            found |= vars(one)
    return [(name, one) for name, one in found.items() if _is_ours(one)]


def _is_ours(member: Any) -> bool:
    return isinstance(member, property | staticmethod | classmethod) or inspect.isfunction(member)


def _head(name: str, member: Any) -> str:
    if isinstance(member, property):
        kind = inspect.signature(member.fget).return_annotation if member.fget else inspect.Signature.empty
        return name if kind is inspect.Signature.empty else f"{name}: {annotation(kind)}"
    function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    return " ".join(signature(name, function).split())
