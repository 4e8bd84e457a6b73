"""What the rule about tool calls says of rows, by the codes of the preparation and the rows themselves."""

import json
from typing import Any

import pytest
from ftcheck_rules.data.cases.tool_calls import TOOL, tool_row
from ftcheck_rules.data.tool_calls import LOSSES, UNMATCHED, WRONG, tool_calls

from ftcheck import Severity
from ftcheck.inputs.prepared import RowError
from ftcheck.testing import Ran, inputs, job, prepared, rows, run, tokenizer

VANISHED = ("tools:dropped-call", "tools:dropped-definition")


def check(codes: Any = (), *arguments: Any, **changes: Any) -> Ran:
    return run(tool_calls, **tool_row(codes, *arguments, **changes))


def test_calls_that_vanish_are_one_error_with_rows_and_remedy() -> None:
    ran = check(VANISHED, form="drops")

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.message.startswith(
        "the template drops the tool calls of 3 rows and the tool definitions of 3 rows"
    )
    assert "weather (3 rows; also lines 2, 3)" in finding.message
    assert str(finding.at) == "train.jsonl:1:1"
    assert finding.fix is not None
    assert "use a template that renders tool calls" in finding.fix
    assert finding.content == 'weather({"city": "Bern"})'


def test_the_form_of_arguments_that_is_rendered_rightly_is_the_remedy() -> None:
    codes = ["tools:encoded-twice-argument"]

    [finding] = check(codes, '{"city": "Bern"}').findings

    assert finding.fix == "write the arguments of tool calls as JSON objects, not as texts (json.loads)"
    assert "Bern" not in f"{finding.message}{finding.fix}"


def test_parallel_calls_get_one_call_per_message() -> None:
    [finding] = check(["tools:dropped-call"], {"city": "Bern"}, {"city": "Rome"}, form="first").findings

    assert finding.fix is not None
    assert finding.fix.startswith("write one call per message")


def test_a_column_of_another_name_is_named_and_an_error_where_no_row_has_tools() -> None:
    codes = ["calls:undefined", "definitions:elsewhere", "definitions:in:functions"]

    [finding] = check(codes, tools=None, data={"functions": [TOOL]}).findings

    assert finding.severity is Severity.ERROR
    assert "they are in the column functions, which is not read" in finding.message
    assert finding.fix == "rename the column to tools"


def test_definitions_that_some_rows_lack_are_a_warning() -> None:
    made = tool_row(tools=None, data={"tools": None})
    some = rows(3, remarks={"tool-rows": [0, 1, 2], "calls": [0, 1, 2], "calls:undefined": [1]})

    [finding] = run(tool_calls, **{**made, "prepared": prepared([9] * 3, of=some)}).findings

    assert finding.severity is Severity.WARNING
    assert finding.message.startswith("1 of 3 rows with tools has no definitions")
    assert finding.message.endswith("tools is null")
    assert str(finding.at) == "train.jsonl:2:1"


def test_wrong_arguments_are_errors_above_their_share_only() -> None:
    made = tool_row([], {"days": 2}, count=40)
    wrong = rows(40, remarks={"tool-rows": range(40), "calls": range(40), "arguments:required": [3]})
    given = {**made, "prepared": prepared([9] * 40, of=wrong)}

    [few] = run(tool_calls, **given).findings
    [many] = run(tool_calls, {"max_wrong_share": 0.01}, **given).findings

    assert (few.severity, many.severity) == (Severity.WARNING, Severity.ERROR)
    assert "requires: weather.city" in few.message


def test_types_are_named_with_what_to_write_instead() -> None:
    tools = [
        {
            "function": {
                "name": "weather",
                "parameters": {"type": "dict", "properties": {"a": {"type": "any"}}},
            }
        }
    ]

    [finding] = check(["definitions:types"], {}, tools=tools).findings

    assert finding.message.startswith("tool definitions have types that JSON Schema does not know: any, dict")
    assert finding.fix == "write any as no type at all, dict as object"


def test_names_that_are_no_identifiers_are_content() -> None:
    [finding] = check(["calls:undeclared"], name="call Mr Smith").findings

    assert "Smith" not in f"{finding.message}{finding.fix}"
    assert finding.content == "call Mr Smith"


def test_null_arguments_are_left_to_arrow_nulls_in_files_of_arrow() -> None:
    made = tool_row(["arguments:null", "tools:as-none-argument"], {"city": "Bern", "days": None})

    assert [one.severity for one in run(tool_calls, **made).findings] == [Severity.WARNING]

    from dataclasses import replace

    arrow = replace(made["prepared"].rows, files=("train.parquet",))
    made["prepared"] = replace(made["prepared"], rows=arrow)
    assert run(tool_calls, **made).findings == ()


@pytest.mark.parametrize(
    "code", [*LOSSES, *UNMATCHED, *(f"arguments:{kind}" for kind in WRONG), "definitions:invalid"]
)
def test_every_code_has_its_finding(code: str) -> None:
    [finding] = check([code]).findings

    assert finding.fix
    assert finding.why


def test_rows_on_which_the_template_raises_are_told_by_chat_template() -> None:
    trouble = RowError("template", "the chat template raised TemplateError: one call only")

    ran = check(["calls:parallel"], trouble=trouble)

    assert ran.skipped is not None
    assert "see chat-template" in ran.skipped


def test_rows_without_tools_are_skipped() -> None:
    ran = run(tool_calls, job=job(), tokenizer=tokenizer(), prepared=prepared([9]), inputs=inputs())

    assert ran.skipped == "no row has tool calls, results or definitions"


def test_nothing_of_a_row_is_shown() -> None:
    ran = check([*VANISHED, "arguments:schema"], {"city": ["Secretville"]}, form="drops")

    assert "Secretville" not in json.dumps([f"{one.message} {one.fix} {one.why}" for one in ran.findings])
