"""Other ways to write a row's tool calls, tried on its template: which one is rendered rightly?"""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from ftcheck.inputs import tool_calls, tool_rendering
from ftcheck.inputs.tokenizer import Message

Messages = Sequence[Message]
Render = Callable[[Messages, Any], str]
"""Renders messages and tools as training does. May raise anything."""
ID_LETTERS = 9
"""Mistral's templates take ids of so many alphanumeric characters, and no others."""


class Remedy(NamedTuple):
    """One way to write tool calls otherwise: its code, what to do in words, and how a row then reads."""

    code: str
    words: str
    change: Callable[[Messages, Any], tuple[list[Message], Any]]


def remedy(messages: Messages, tools: Any, render: Render) -> Remedy | None:
    """The first way to write this row otherwise with which nothing of its tools is lost; None if none is."""
    for one in REMEDIES:
        changed, given = one.change(messages, tools)
        if (changed, given) == (list(messages), tools):
            continue
        if renders(changed, given, render):
            return one
    return None


def renders(messages: Messages, tools: Any, render: Render) -> bool:
    """Whether the template renders a row and loses none of its calls, results and definitions."""
    try:
        text = render(messages, tools)
    except Exception:
        return False
    found = tool_rendering.look(messages, tools, text).differences
    return not any(one.part not in ("description", "parameter") for one in found)


def _each_call(messages: Messages, change: Callable[[Mapping[str, Any]], Any]) -> list[Message]:
    return [
        {**one, "tool_calls": [change(call) if isinstance(call, Mapping) else call for call in listed]}
        if isinstance(listed := one.get("tool_calls"), list | tuple)
        else one
        for one in messages
    ]


def _with_arguments(messages: Messages, change: Callable[[Any], Any]) -> list[Message]:
    def changed(call: Mapping[str, Any]) -> Any:
        inner = call.get("function")
        if isinstance(inner, Mapping):
            return {**call, "function": {**inner, "arguments": change(inner.get("arguments"))}}
        return {**call, "arguments": change(call.get("arguments"))}

    return _each_call(messages, changed)


def with_objects(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
    """Arguments as objects."""
    return _with_arguments(messages, tool_calls.parsed), tools


def with_texts(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
    """Arguments as JSON texts."""
    return _with_arguments(messages, _as_text), tools


def _as_text(arguments: Any) -> Any:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)


def one_call_each(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
    """A message for each call, each with its result behind it."""
    made: list[Message] = []
    index = 0
    while index < len(messages):
        message = messages[index]
        listed = message.get("tool_calls")
        index += 1
        if not isinstance(listed, list | tuple) or len(listed) < 2:
            made.append(message)
            continue
        results: list[Message] = []
        while index < len(messages) and messages[index].get("role") in tool_calls.RESULT_ROLES:
            results.append(messages[index])
            index += 1
        for number, call in enumerate(listed):
            content = message.get("content") if number == 0 else ""
            made.append({**message, "content": content, "tool_calls": [call]})
            if number < len(results):
                made.append(results[number])
        made += results[len(listed) :]
    return made, tools


def with_ids(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
    """Ids of nine alphanumeric characters; calls without one are numbered, and so are their results."""
    made: list[Message] = []
    pending: list[str] = []
    for index, message in enumerate(messages):
        listed = message.get("tool_calls")
        if isinstance(listed, list | tuple) and listed:
            pending = [
                _short(str(call.get("id") or f"{index}.{number}"))
                for number, call in enumerate(listed)
                if isinstance(call, Mapping)
            ]
            ids = iter(pending)
            [message] = _each_call([message], lambda call, ids=ids: {**call, "id": next(ids)})  # type: ignore[misc]
        elif message.get("role") in tool_calls.RESULT_ROLES:
            own = message.get("tool_call_id")
            short = _short(own) if isinstance(own, str) else pending[0] if pending else _short("")
            message = {**message, "tool_call_id": short}
            pending = [one for one in pending if one != short]
        made.append(message)
    return made, tools


def _short(id: str) -> str:
    if len(id) == ID_LETTERS and id.isascii() and id.isalnum():
        return id
    return sha256(id.encode()).hexdigest()[:ID_LETTERS]


def wrapped(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
    """Definitions in OpenAI's wrapper."""
    if not isinstance(tools, list | tuple):
        return list(messages), tools
    return list(messages), [
        {"type": "function", "function": one}
        if isinstance(one, Mapping) and not isinstance(one.get("function"), Mapping)
        else one
        for one in tools
    ]


def bare(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
    """Definitions without the wrapper."""
    if not isinstance(tools, list | tuple):
        return list(messages), tools
    return list(messages), [
        one["function"] if isinstance(one, Mapping) and isinstance(one.get("function"), Mapping) else one
        for one in tools
    ]


def with_wrapped_calls(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
    """Calls as `{"type": "function", "function": {...}}`."""

    def changed(call: Mapping[str, Any]) -> Any:
        if isinstance(call.get("function"), Mapping):
            return {"type": "function", **call}
        inner = {key: call[key] for key in ("name", "arguments") if key in call}
        return {"type": "function", **{k: call[k] for k in ("id",) if k in call}, "function": inner}

    return _each_call(messages, changed), tools


def with_contents(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
    """A text beside each call, if only the empty one."""
    return [
        {**one, "content": ""} if one.get("tool_calls") and one.get("content") is None else one
        for one in messages
    ], tools


def with_tool_calls(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
    """`tool_calls` instead of the older `function_call`."""
    made: list[Message] = []
    for one in messages:
        call = one.get("function_call")
        if isinstance(call, Mapping) and not one.get("tool_calls"):
            one = {key: value for key, value in one.items() if key != "function_call"}
            one |= {"tool_calls": [{"type": "function", "function": dict(call)}]}
        elif one.get("role") == "function":
            one = {**one, "role": "tool"}
        made.append(one)
    return made, tools


def with_names(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
    """Results that name their function."""
    names: dict[str, str] = {}
    last = ""
    made: list[Message] = []
    for index, one in enumerate(messages):
        for call in tool_calls.calls_of(one, index):
            names[call.id or ""] = last = call.name
        if one.get("role") in tool_calls.RESULT_ROLES and not one.get("name"):
            one = {**one, "name": names.get(str(one.get("tool_call_id") or ""), last)}
        made.append(one)
    return made, tools


def _both(*changes: Callable[[Messages, Any], tuple[list[Message], Any]]) -> Any:
    def change(messages: Messages, tools: Any) -> tuple[list[Message], Any]:
        for one in changes:
            messages, tools = one(messages, tools)
        return list(messages), tools

    return change


_OBJECTS = "write the arguments of tool calls as JSON objects, not as texts (json.loads)"
_TEXTS = "write the arguments of tool calls as JSON texts (json.dumps), which this template writes unchanged"
_ONE = (
    "write one call per message: an assistant message for each call, each followed by its result;"
    " this template takes one call at a time"
)
_IDS = (
    "give each call an id of nine alphanumeric characters (a1b2c3d4e), and the same id to its result as"
    " tool_call_id; this template takes no others"
)
_WRAPPED = 'write each tool definition as {"type": "function", "function": {...}}'
_CALLS = 'write each call as {"type": "function", "function": {"name": ..., "arguments": ...}}'
_LEGACY = "write calls under tool_calls, and results with the role tool, instead of function_call"

REMEDIES: tuple[Remedy, ...] = (
    Remedy("object", _OBJECTS, with_objects),
    Remedy("text", _TEXTS, with_texts),
    Remedy("ids", _IDS, with_ids),
    Remedy("one-call", _ONE, one_call_each),
    Remedy("wrapped", _WRAPPED, wrapped),
    Remedy("wrapped-calls", _CALLS, with_wrapped_calls),
    Remedy("content", 'write content: "" beside tool_calls, instead of null or nothing', with_contents),
    Remedy("names", "write the function's name into each result (name)", with_names),
    Remedy("tool-calls", _LEGACY, with_tool_calls),
    Remedy("bare", "write each tool definition without its wrapper, as this template reads it", bare),
    Remedy("ids-one-call", f"{_ONE}; and {_IDS}", _both(one_call_each, with_ids)),
    Remedy("object-one-call", f"{_OBJECTS}; and {_ONE}", _both(with_objects, one_call_each)),
    Remedy("object-ids", f"{_OBJECTS}; and {_IDS}", _both(with_objects, with_ids)),
    Remedy("object-wrapped", f"{_OBJECTS}; and {_WRAPPED}", _both(with_objects, wrapped)),
    Remedy("legacy-object", f"{_LEGACY}; and {_OBJECTS}", _both(with_tool_calls, with_objects)),
)
"""Tried in this order."""
