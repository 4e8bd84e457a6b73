"""What stands in a row's tool calls before any template: codes for the row's remarks.

`tool-rows` for a row with calls, results or definitions, and then: `calls`, `calls:undefined` (no definitions
in the row), `calls:undeclared` (of a function that is not defined), `calls:parallel`, `arguments:text`
(JSON texts), `arguments:not-json`, `arguments:required`, `arguments:unknown`, `arguments:null`,
`arguments:schema`, `definitions:bare`, `definitions:types`, `definitions:invalid`, `results:none`,
`results:uncalled`, `results:ids`, and `definitions:elsewhere` with `definitions:in:COLUMN` where the
definitions stand in a column that no trainer reads.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ftcheck.inputs import tool_calls, tool_schemas
from ftcheck.inputs.tokenizer import Message
from ftcheck.inputs.tool_calls import Call, Definition
from ftcheck_plugins.reading.row_formats import ROLES, Example

COLUMNS = frozenset(
    {
        "available_functions", "available_tools", "function", "function_definitions", "function_list",
        "function_schemas", "functions", "tool", "tool_definitions", "tool_defs", "tool_list", "tool_schemas",
        "tool_specs", "tools_json", "tools_list", "tools_schema", "toolset",
    }
)  # fmt: skip
"""Names of columns that data sets keep tool definitions in; TRL reads `tools`."""
MARKUP = re.compile(
    r"<tool_call>|<function_call>|<functioncall>|<function=|\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call\|>"
    r"|<\|tool▁call▁begin\|>|<｜tool▁call▁begin｜>|<\|tool_call_begin\|>|<invoke name=|<\|action_start\|>"
    r"|\{\s*\"name\"\s*:\s*\"[^\"]{1,64}\"\s*,\s*\"(?:arguments|parameters)\"\s*:\s*\{"
)
"""How calls look that are written as text."""
SIGNS = (
    "<tool_call", "<function", "[TOOL_CALLS]", "<|python_tag|>", "<|tool", "<｜tool", "<invoke name=",
    "<|action_start|>", '"arguments"', '"parameters"',
)  # fmt: skip
"""One of these stands in every text that `MARKUP` finds."""


def has_tools(example: Example) -> bool:
    """Whether a conversation has tool definitions, calls or results."""
    if not example.conversational:
        return False
    if example.tools:
        return True
    if example.talk is not None:
        return not tool_calls.RESULT_ROLES.isdisjoint(example.talk.form[::2])
    return any(
        one.get("tool_calls") or one.get("function_call") or one.get("role") in tool_calls.RESULT_ROLES
        for one in example.turns
    )


def remarks(example: Example, row: Mapping[str, Any]) -> list[str]:
    """Codes for a row, as it is read (`row`) and as the trainer sees it."""
    elsewhere = list(_elsewhere(example, row)) if len(row) > 1 else []
    if not has_tools(example):
        return elsewhere
    turns = example.turns
    calls = tool_calls.calls(turns)
    defined = tool_calls.definitions(example.tools)
    found = {"tool-rows", *elsewhere, *_definitions(example.tools, defined), *_results(turns)}
    if calls:
        found.update(_calls(calls, defined))
    elif defined and any(written(turn) for turn in turns):
        found.add("calls:written")
    return sorted(found)


def _elsewhere(example: Example, row: Mapping[str, Any]) -> Iterator[str]:
    """Definitions in another column than `tools`: one that is called so, or any beside calls."""
    unnamed = COLUMNS.isdisjoint(row)
    if example.tools or not example.conversational or (unnamed and example.talk is not None):
        return
    names = list(row) if unnamed else sorted(COLUMNS & row.keys())
    if unnamed and not tool_calls.calls(example.turns):
        return
    for name in names:
        if name != "tools" and tool_calls.are_definitions(row[name]):
            yield "definitions:elsewhere"
            if (said := tool_calls.said(name)) is not None:
                yield f"definitions:in:{said}"
            return


def _definitions(tools: Any, defined: Sequence[Definition]) -> Iterator[str]:
    if not all(one.wrapped for one in defined):
        yield "definitions:bare"
    for one in defined:
        looked = tool_schemas.of(one.parameters)
        if looked.strange:
            yield "definitions:types"
        if looked.invalid:
            yield "definitions:invalid"


def _calls(calls: Sequence[Call], defined: Sequence[Definition]) -> Iterator[str]:
    yield "calls"
    if len({call.message for call in calls}) < len(calls):
        yield "calls:parallel"
    if not defined:
        yield "calls:undefined"
    by_name = {one.name: one for one in defined}
    for call in calls:
        if isinstance(call.arguments, str):
            yield "arguments:text"
        definition = by_name.get(call.name)
        if defined and definition is None:
            yield "calls:undeclared"
        parameters = definition.parameters if definition is not None else None
        yield from (f"arguments:{one.kind}" for one in tool_schemas.faults(call.arguments, parameters))


def _results(turns: Sequence[Message]) -> Iterator[str]:
    """Calls without results, results without calls, and ids that do not match.

    Nothing is said of results behind a call that is text, or a message of an unknown role: that may be one.
    """
    pending: list[Call] = []
    as_text = False
    for index, turn in enumerate(turns):
        if turn.get("role") in tool_calls.RESULT_ROLES:
            if as_text:
                continue
            id = turn.get("tool_call_id")
            ids = [call.id for call in pending]
            if isinstance(id, str) and id in ids:
                pending.pop(ids.index(id))
            elif isinstance(id, str) and any(ids):
                yield "results:ids"
                pending = pending[1:]
            elif pending:
                pending = pending[1:]
            else:
                yield "results:uncalled"
            continue
        if pending:
            yield "results:none"
        pending = tool_calls.calls_of(turn, index)
        as_text = not pending and (written(turn) or turn.get("role") not in ROLES)


def written(turn: Message) -> bool:
    """Whether an answer holds a call as text."""
    content = turn.get("content")
    return turn.get("role") == "assistant" and isinstance(content, str) and iswritten(content)


@lru_cache(maxsize=1_000)
def iswritten(text: str) -> bool:
    """Whether a text holds a call in one of the formats in which calls are written."""
    return ("<" in text or "[" in text or "{" in text) and MARKUP.search(text) is not None
