"""Keys that are null because Arrow gives every object of a column the keys of all of them.

A tool call with `{"city": "Berlin"}` beside one with `{"room": 3}` comes out of a Parquet file as
`{"city": "Berlin", "room": null}`. transformers leaves out what is null in a message itself, and no deeper.
"""

from collections.abc import Mapping
from typing import Any

from ftcheck.inputs import bounded

MESSAGES = ("messages", "prompt", "completion", "conversations")
"""Columns of messages."""


def has_nulls(value: Any) -> bool:
    """Whether an object in a value has a key that is null."""
    if isinstance(value, dict):
        return any(one is None or has_nulls(one) for one in value.values())
    return isinstance(value, list) and any(map(has_nulls, value))


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
        made["tools"] = _without(_parsed(row["tools"]))
    return made


def _turn(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value if type(value) is str else _without(value) for key, value in message.items()}


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(one) for key, one in value.items() if one is not None}
    return [_without(one) for one in value] if isinstance(value, list) else value


def _parsed(tools: Any) -> Any:
    """Definitions that are JSON text, as TRL reads them; what is no JSON stays (the schema says so)."""
    if not isinstance(tools, str):
        return tools
    try:
        return bounded.loads(tools)
    except ValueError:
        return tools
