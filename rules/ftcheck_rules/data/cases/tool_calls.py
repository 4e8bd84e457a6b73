"""Must-fail and must-pass inputs of the rule about tool calls."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.row_texts import ReadRow
from ftcheck.inputs.tokenizer import Message
from ftcheck.testing import Case, FakeTokenizer, inputs, job, prepared, row_texts, rows

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}


class Calling(FakeTokenizer):
    """Writes definitions first, and calls as JSON; `form` says how it writes what."""

    form: str = "right"

    def render(self, messages: Sequence[Message], *, prompt: bool = False, **switches: Any) -> str:
        """The conversation as text."""
        if self.form == "drops":
            return super().render(messages, prompt=prompt)
        turns = [self._written(one) if one.get("tool_calls") else one for one in messages]
        return json.dumps(switches.get("tools") or []) + super().render(turns, prompt=prompt)

    def _written(self, message: Message) -> Message:
        calls = message["tool_calls"][:1] if self.form == "first" else message["tool_calls"]
        return {**message, "content": "".join(self._call(one["function"]) for one in calls)}

    def _call(self, function: Mapping[str, Any]) -> str:
        given = function["arguments"]
        raw = self.form == "raw" and isinstance(given, str)
        return f'{{"name": "{function["name"]}", "arguments": {given if raw else json.dumps(given)}}}'


def calling(form: str = "right") -> FakeTokenizer:
    """A tokenizer whose template writes tools in some form: `right`, `raw`, `first`, or `drops`."""
    made = Calling()
    made.form = form
    return made


def conversation(*arguments: Any, name: str = "weather") -> tuple[Message, ...]:
    """A question, calls with these arguments in one message, their results, and an answer."""
    calls = [{"type": "function", "function": {"name": name, "arguments": one}} for one in arguments]
    results = [{"role": "tool", "content": f"sunny, {number} degrees"} for number, _ in enumerate(calls)]
    return (
        {"role": "user", "content": "How will the weather be?"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        *results,
        {"role": "assistant", "content": "It will be a fine day."},
    )


def tool_row(
    codes: Sequence[str] = (),
    *arguments: Any,
    form: str = "right",
    tools: Any = (TOOL,),
    name: str = "weather",
    data: Mapping[str, Any] | None = None,
    count: int = 3,
    trouble: RowError | None = None,
) -> dict[str, Any]:
    """Rows of one such conversation, of which the preparation said `codes`."""
    turns = conversation(*(arguments or ({"city": "Bern"},)), name=name)
    given = list(tools) if tools is not None else None
    every = range(count)
    errors = dict.fromkeys(every, trouble) if trouble is not None else {}
    made = rows(
        count,
        remarks={code: list(every) for code in ("tool-rows", "calls", *codes)},
        row_errors=errors,
    )
    read = [
        ReadRow(row, turns, tools=given, data=data or {"messages": turns, "tools": given}) for row in every
    ]
    return {
        "job": job(),
        "tokenizer": calling(form),
        "prepared": prepared([9] * count, of=made, row_errors=errors),
        "inputs": inputs(row_texts=row_texts(*read)),
    }


def _without_definitions(**columns: Any) -> dict[str, Any]:
    codes = ["calls:undefined"]
    codes += [code for name in columns for code in ("definitions:elsewhere", f"definitions:in:{name}")]
    return tool_row(codes, tools=None, data={"messages": [], **columns})


CASES = (
    Case("tool-calls", "calls that are rendered as they stand", False, lambda: tool_row()),
    Case(
        "tool-calls",
        "a template that drops calls, definitions and results",
        True,
        lambda: tool_row(["tools:dropped-call", "tools:dropped-definition"], form="drops"),
    ),
    Case(
        "tool-calls",
        "arguments encoded twice",
        True,
        lambda: tool_row(["tools:encoded-twice-argument", "arguments:text"], '{"city": "Bern"}'),
    ),
    Case(
        "tool-calls",
        "two calls in a turn, of which the template takes one",
        True,
        lambda: tool_row(
            ["tools:dropped-call", "calls:parallel"], {"city": "Bern"}, {"city": "Rome"}, form="first"
        ),
    ),
    Case(
        "tool-calls",
        "definitions in another column",
        True,
        lambda: _without_definitions(functions=[TOOL]),
    ),
    Case("tool-calls", "calls without definitions", True, _without_definitions),
    Case("tool-calls", "an undeclared function", True, lambda: tool_row(["calls:undeclared"], name="wether")),
    Case(
        "tool-calls",
        "a required argument that is missing",
        True,
        lambda: tool_row(["arguments:required"], {"days": 2}),
    ),
    Case(
        "tool-calls",
        "an argument of another type",
        True,
        lambda: tool_row(["arguments:schema"], {"city": 7}),
    ),
    Case(
        "tool-calls",
        "types that JSON Schema does not know",
        True,
        lambda: tool_row(
            ["definitions:types"],
            tools=[
                {**TOOL, "function": {"name": "weather", "parameters": {"type": "dict", "properties": {}}}}
            ],
        ),
    ),
    Case("tool-calls", "calls without results", True, lambda: tool_row(["results:none"])),
)
