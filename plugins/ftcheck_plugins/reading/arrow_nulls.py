"""Keys that are null because Arrow gives every object of a column the keys of all of them.

A tool call with `{"city": "Berlin"}` beside one with `{"room": 3}` comes out of a Parquet file as
`{"city": "Berlin", "room": null}`. transformers leaves out what is null in a message itself, and no deeper.
"""

from collections.abc import Mapping
from typing import Any

from ftcheck.inputs import tool_calls

MESSAGES = ("messages", "prompt", "completion", "conversations")
"""Columns of messages."""
VALUES = frozenset({"default", "const", "example"})
"""Keys of a JSON Schema that hold values, so that null may stand there."""
HOLDERS = frozenset({dict, list})
"""Types of values that hold others."""


def has_nulls(value: Any) -> bool:
    """Whether an object in a value has a key that is null."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if type(one) is dict:
            if None in one.values():
                return True
            waiting.extend(inner for inner in one.values() if type(inner) in HOLDERS)
        elif type(one) is list:
            waiting.extend(inner for inner in one if type(inner) in HOLDERS)
    return False


def below(message: Mapping[str, Any]) -> bool:
    """Whether there are such keys deeper in a message than in the message itself."""
    return any(type(one) is not str and has_nulls(one) for one in message.values())


def dropped(row: dict[str, Any]) -> dict[str, Any]:
    """The row without the keys that are null in its tool definitions, and inside its messages."""
    made = dict(row)
    for name in MESSAGES:
        turns = row.get(name)
        if isinstance(turns, list):
            made[name] = [_turn(one) if isinstance(one, dict) else one for one in turns]
    if row.get("tools") is not None:
        made["tools"] = _without(tool_calls.parsed(row["tools"]))
    return made


def may_be_meant(row: Mapping[str, Any]) -> bool:
    """Whether each null in the row's calls is an argument whose declared type takes null, and no definition
    has one but as a value (`default`).
    """
    tools = tool_calls.parsed(row.get("tools"))
    schemas = {one.name: one.parameters for one in tool_calls.definitions(tools)}
    turns = [one for name in MESSAGES for one in row.get(name) or () if isinstance(one, dict)]
    arguments = [(schemas.get(call.name), call.values) for call in tool_calls.calls(turns)]
    return all(_takes_nulls(*one) for one in arguments) and not _odd_nulls(tools)


def _takes_nulls(schema: Any, arguments: Any) -> bool:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    declared = properties if isinstance(properties, Mapping) else {}
    if not isinstance(arguments, dict):
        return True
    return all(
        _takes_null(declared.get(key)) if value is None else not has_nulls(value)
        for key, value in arguments.items()
    )


def _takes_null(schema: Any) -> bool:
    """Whether null is a value by this schema: it is declared, and names no single other type."""
    one = schema.get("type") if isinstance(schema, Mapping) else "absent"
    return (
        not isinstance(one, str)
        or one == "null"
        or (isinstance(schema, Mapping) and bool(schema.get("nullable")))
    )


def _odd_nulls(value: Any) -> bool:
    if isinstance(value, dict):
        return any(key not in VALUES if one is None else _odd_nulls(one) for key, one in value.items())
    return isinstance(value, list) and any(map(_odd_nulls, value))


def _turn(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value if type(value) is str else _without(value) for key, value in message.items()}


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(one) for key, one in value.items() if one is not None}
    return [_without(one) for one in value] if isinstance(value, list) else value
