"""Which nulls are dropped from a row, and which stay."""

import json
from typing import Any

from ftcheck_plugins.reading.arrow_nulls import below, dropped, has_nulls, may_be_meant

CALL = {"type": "function", "function": {"name": "f", "arguments": {"city": "Lima", "room": None}}}
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"city": {"type": "string", "enum": None}}},
}


def row(**more: Any) -> dict[str, Any]:
    answer = {"role": "assistant", "content": None, "tool_calls": [CALL], "name": None}
    return {"messages": [{"role": "user", "content": "Where?"}, answer], "tools": [TOOL], **more}


def test_nulls_inside_messages_and_tools_are_dropped_and_a_message_s_own_stay() -> None:
    made = dropped(row(source=None))

    [call] = made["messages"][1]["tool_calls"]
    assert call["function"]["arguments"] == {"city": "Lima"}
    assert made["tools"][0]["function"]["parameters"] == {"city": {"type": "string"}}
    assert (made["messages"][1]["content"], made["messages"][1]["name"], made["source"]) == (None, None, None)
    assert not any(map(below, made["messages"]))


def test_tools_as_json_text_are_read_as_trl_reads_them() -> None:
    assert dropped(row(tools=json.dumps([TOOL])))["tools"] == dropped(row())["tools"]
    assert dropped(row(tools="no JSON"))["tools"] == "no JSON"


def test_the_row_itself_is_left_as_it_is() -> None:
    given = row()
    dropped(given)
    assert given == row()
    assert has_nulls(given)


def test_a_null_is_meant_where_its_argument_is_declared_so() -> None:
    def asked(kind: Any) -> bool:
        room = {"type": kind} if kind is not None else {}
        parameters = {"type": "object", "properties": {"city": {"type": "string"}, "room": room}}
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        return may_be_meant(row(tools=[tool]))

    assert [asked(kind) for kind in ("integer", ["integer", "null"], None)] == [False, True, True]
    assert not may_be_meant(row(tools=[]))
    assert not may_be_meant(row())
