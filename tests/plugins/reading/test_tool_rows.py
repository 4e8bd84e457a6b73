"""What is said of tool calls before any template, and how it reaches the rows' remarks."""

from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.reading import row_formats, tool_rows

from tests.plugins.preparation.test_preparation import prepare

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED = {"role": "user", "content": "How will it be?"}
ANSWERED = {"role": "assistant", "content": "Fine."}
RESULT = {"role": "tool", "content": "sunny"}


def calling(*calls: Any) -> dict[str, Any]:
    listed = [
        {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}, **one}
        for one in calls
    ]
    return {"role": "assistant", "content": "", "tool_calls": listed}


def said(*turns: Any, tools: Any = (TOOL,), **columns: Any) -> set[str]:
    row = {"messages": [ASKED, *turns], "tools": list(tools) if tools else tools, **columns}
    made = row_formats.example(row, "messages", "text")
    assert isinstance(made, row_formats.Example)
    return set(tool_rows.remarks(made, row)) - {"tool-rows", "calls"}


def function(**changes: Any) -> dict[str, Any]:
    return {"function": {"name": "weather", "arguments": {"city": "Bern"}, **changes}}


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        (set(), lambda: said(calling({}), RESULT, ANSWERED)),
        (set(), lambda: said(calling({}))),
        (set(), lambda: said(ANSWERED)),
        ({"calls:undefined"}, lambda: said(calling({}), tools=None)),
        ({"calls:undeclared"}, lambda: said(calling(function(name="wether")))),
        ({"calls:parallel"}, lambda: said(calling({}, {}), RESULT, RESULT, ANSWERED)),
        ({"arguments:text"}, lambda: said(calling(function(arguments='{"city": "Bern"}')))),
        ({"arguments:required"}, lambda: said(calling(function(arguments={})))),
        ({"arguments:schema"}, lambda: said(calling(function(arguments={"city": 1})))),
        ({"definitions:bare"}, lambda: said(calling({}), tools=[TOOL["function"]])),
        ({"results:none"}, lambda: said(calling({}), ANSWERED, ASKED)),
        ({"results:none"}, lambda: said(calling({}, {}), RESULT, ANSWERED) - {"calls:parallel"}),
        ({"results:uncalled"}, lambda: said(RESULT, ANSWERED)),
        ({"results:uncalled"}, lambda: said(calling({}), RESULT, RESULT, ANSWERED)),
        ({"results:ids"}, lambda: said(calling({"id": "a"}), {**RESULT, "tool_call_id": "b"}, ANSWERED)),
        (set(), lambda: said(calling({"id": "a"}), {**RESULT, "tool_call_id": "a"}, ANSWERED)),
        (set(), lambda: said(calling({"id": "a"}), RESULT, ANSWERED)),
        (
            {"calls:undefined", "definitions:elsewhere", "definitions:in:functions"},
            lambda: said(calling({}), tools=None, functions=[TOOL]),
        ),
        (
            {"calls:undefined", "definitions:elsewhere", "definitions:in:my_apis"},
            lambda: said(calling({}), tools=None, my_apis=f"[{TOOL['function']}]".replace("'", '"')),
        ),
        (
            {"definitions:elsewhere", "definitions:in:available_tools"},
            lambda: said(ANSWERED, tools=[], available_tools=[TOOL]),
        ),
        (set(), lambda: said(ANSWERED, tools=None, functions="a word", source=["a"])),
        (
            {"calls:written"},
            lambda: said(
                {"role": "assistant", "content": '<tool_call>{"name": "weather"}</tool_call>'}, RESULT
            ),
        ),
        (set(), lambda: said({"role": "function_call", "content": "{}"}, RESULT, ANSWERED)),
    ],
)
def test_a_row_has_the_codes_of_what_is_wrong_with_it(codes: set[str], found: Any) -> None:
    assert found() == codes


def test_codes_of_reading_and_rendering_name_the_rows_of_the_data(samples: Path, tmp_path: Path) -> None:
    plain = {"messages": [ASKED, ANSWERED]}
    rows = [plain, "{broken", {"messages": [ASKED, calling({})], "tools": [TOOL]}, plain]

    remarks = prepare(samples, tmp_path, rows).rows.remarks

    assert remarks["tool-rows"] == remarks["calls"] == (2,)
    assert remarks["tools:dropped-call"] == remarks["tools:dropped-definition"] == (2,)


def test_calls_as_text_in_rows_without_tools_are_found_in_rendered_rows(
    samples: Path, tmp_path: Path
) -> None:
    written = {"role": "assistant", "content": '<functioncall> {"name": "weather", "arguments": {}}'}

    remarks = prepare(
        samples, tmp_path, [{"messages": [ASKED, ANSWERED]}, {"messages": [ASKED, written]}]
    ).rows.remarks

    assert remarks["calls:written-alone"] == (1,)
    assert "tool-rows" not in remarks
