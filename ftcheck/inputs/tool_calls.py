"""Tool calls, their results and tool definitions, as they stand in a row's messages and tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftcheck.inputs import bounded
from ftcheck.inputs.tokenizer import Message

RESULT_ROLES = frozenset({"tool", "ipython", "function"})
"""Roles of messages that hold what a tool returned."""
NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}")
"""A name that looks like an identifier: reports may say it. Any other text is content."""
MAX_DEPTH = 16
"""Values and schemas are followed so deep."""


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call: its message and its number in it (both from 0), and what it says.

    `arguments` are as in the row: an object, a JSON text, or whatever else stands there. `legacy` calls stand
    under `function_call`, which chat templates do not read.
    """

    message: int
    number: int
    name: str
    arguments: Any
    id: str | None = None
    legacy: bool = False

    @property
    def values(self) -> Any:
        """The arguments, parsed where they are a JSON text; as they are where that is not JSON."""
        return parsed(self.arguments)


@dataclass(frozen=True, slots=True)
class Definition:
    """One tool definition: `wrapped` ones stand in `{"type": "function", "function": {...}}`."""

    name: str
    description: str
    parameters: Any
    wrapped: bool


def parsed(arguments: Any) -> Any:
    """What a JSON text says; anything else as it is."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return bounded.loads(arguments)
    except ValueError:
        return arguments


def calls_of(message: Message, index: int = 0) -> list[Call]:
    """The calls of one message, in order; entries that are no calls are left out."""
    if message.get("role") != "assistant":
        return []
    listed = message.get("tool_calls")
    found = []
    for number, one in enumerate(listed if isinstance(listed, list | tuple) else ()):
        if (call := _call(one, index, number)) is not None:
            found.append(call)
    legacy = message.get("function_call")
    if not found and isinstance(legacy, Mapping) and isinstance(legacy.get("name"), str):
        found.append(Call(index, 0, legacy["name"], legacy.get("arguments"), legacy=True))
    return found


def _call(value: Any, message: int, number: int) -> Call | None:
    if not isinstance(value, Mapping):
        return None
    inner = value.get("function")
    function = inner if isinstance(inner, Mapping) else value
    name, id = function.get("name"), value.get("id")
    if not isinstance(name, str) or not name:
        return None
    return Call(message, number, name, function.get("arguments"), id if isinstance(id, str) else None)


def calls(messages: Sequence[Message]) -> list[Call]:
    """All calls of a conversation, in order."""
    return [call for index, one in enumerate(messages) for call in calls_of(one, index)]


def definitions(tools: Any) -> list[Definition]:
    """What a row's tools define; entries without a name are left out."""
    found = []
    for one in tools if isinstance(tools, list | tuple) else ():
        if not isinstance(one, Mapping):
            continue
        inner = one.get("function")
        wrapped = isinstance(inner, Mapping)
        function = inner if isinstance(inner, Mapping) else one
        name, described = function.get("name"), function.get("description")
        if isinstance(name, str) and name:
            description = described if isinstance(described, str) else ""
            found.append(Definition(name, description, function.get("parameters"), wrapped))
    return found


def are_definitions(value: Any) -> bool:
    """Whether a value is a list of tool definitions, or a JSON text of one."""
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return False
        value = parsed(value)
    if not isinstance(value, list | tuple) or not value:
        return False
    found = definitions(value)
    return len(found) == len(value) and all(
        isinstance(one.parameters, Mapping) or one.description for one in found
    )


def leaves(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The values inside a value that hold no others, each with its path (`filters.0.min`)."""
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list | tuple) and depth < MAX_DEPTH:
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}.{number}" if path else str(number), depth + 1)
    else:
        yield path, value


def compact(value: Any) -> str:
    """A value as templates write it: JSON, characters as they are."""
    return json.dumps(value, ensure_ascii=False, default=str)


def said(name: str) -> str | None:
    """A name as a report may say it; None for one that may be content."""
    return name if NAME.fullmatch(name) else None
