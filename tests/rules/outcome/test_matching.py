"""Gold answers that are tool calls (issue 14, item 4): right by function and arguments, valid by schema."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from ftcheck_rules.outcome.accuracy import accuracy
from ftcheck_rules.outcome.cases.accuracy import INK, RIGHT, TOOLS, called, calls, hermes
from ftcheck_rules.outcome.valid_output import valid_output

from ftcheck.inputs.finished_run import Generation
from ftcheck.inputs.tool_parsers import FunctionCall
from ftcheck.testing import Ran, generations, gold, job, output_schema, run, run_artifacts

PAPER = '{"name": "order", "arguments": {"item": "paper", "count": 1}}'
BOTH = calls(("order", {"item": "ink", "count": 2}), ("order", {"item": "paper", "count": 1}))
CALL = '{"name": "order", "arguments": {"count": 2, "item": "ink"}}'


def judged(*given: Any, wanted: Any = INK, form: str | None = "hermes") -> Ran:
    return run(accuracy, {"min_rows": 1}, **called(given, wanted, form))


def valid(*given: Any, wanted: Any = INK, schema: Any = None) -> Ran:
    questions: Sequence[tuple[str, Any]] = [(f"question {n}", wanted) for n in range(len(given))]
    return run(
        valid_output,
        job=job(serving={"max_new_tokens": 128}),
        run_artifacts=run_artifacts(),
        gold=gold(*questions, tools=TOOLS, call_format="hermes"),
        generations=generations(*given, cap=128),
        output_schema=schema,
    )


def test_the_same_call_is_right_in_any_order_of_keys() -> None:
    assert judged(RIGHT).measured["accuracy"] == 1


@pytest.mark.parametrize(
    ("answer", "function", "arguments"),
    [
        (hermes('{"name": "order", "arguments": {"item": "ink", "count": 3}}'), 1.0, 0.0),
        (hermes('{"name": "order", "arguments": {"item": "ink"}}'), 1.0, 0.0),
        (hermes('{"name": "cancel", "arguments": {"item": "ink", "count": 2}}'), 0.0, 0.0),
        (hermes('{"name": "order", "arguments": '), 0.0, 0.0),
        (CALL, 0.0, 0.0),
        ("Two of ink, at once.", 0.0, 0.0),
    ],
)
def test_another_call_or_none_is_wrong(answer: str, function: float, arguments: float) -> None:
    found = judged(answer).measured

    assert found["accuracy"] == 0
    assert (found["accuracy.function"], found["accuracy.arguments"]) == (function, arguments)


def test_parallel_calls_count_in_any_order_and_all_of_them() -> None:
    assert judged(hermes(PAPER, CALL), wanted=BOTH).measured["accuracy"] == 1
    assert judged(hermes(CALL), wanted=BOTH).measured["accuracy"] == 0
    assert judged(hermes(CALL, CALL), wanted=BOTH).measured["accuracy"] == 0


def test_calls_that_a_server_parsed_count_as_they_are() -> None:
    parsed = Generation("", 9, "stop", calls=(FunctionCall("order", {"item": "ink", "count": 2}),))
    as_text = Generation(RIGHT, 9, "stop", calls=())

    assert judged(parsed).measured["accuracy"] == 1
    assert judged(as_text).measured["accuracy"] == 0


def test_the_text_with_special_tokens_is_read_where_the_format_keeps_them() -> None:
    made = Generation(f"[{CALL}]", 9, "stop", marked=f"[TOOL_CALLS][{CALL}]")

    assert judged(made, form="mistral").measured["accuracy"] == 1


def test_an_unknown_format_is_an_error_and_not_a_wrong_answer() -> None:
    [one] = [one for one in judged(RIGHT, form=None).findings if "compared" in one.message]

    assert "the format in which the model writes calls is unknown" in one.message
    assert one.fix is not None
    assert "serving.tool_parser" in one.fix


def test_valid_calls_name_a_tool_and_satisfy_its_schema() -> None:
    found = valid(RIGHT, RIGHT)

    assert found.findings == ()
    assert found.measured["calls_valid"] == 1


def test_calls_that_break_their_tool_are_counted_by_kind_without_content() -> None:
    found = valid(
        RIGHT,
        hermes('{"name": "order", "arguments": {"item": "rubber", "count": 2}}'),
        hermes('{"name": "cancel", "arguments": {}}'),
        hermes('{"name": "order"'),
        "rubber",
    )

    assert found.measured["calls_valid"] == 0.2
    [one] = found.findings
    assert "a call names a function that is not among the tools: 1" in one.message
    assert "rubber" not in one.message


def test_the_output_schema_is_of_answers_that_are_no_calls() -> None:
    found = valid(RIGHT, schema=output_schema({"type": "object"}))

    assert "valid_at_retry_0" not in found.measured
    assert found.findings == ()


def test_an_answer_of_calls_alone_is_not_empty() -> None:
    parsed = Generation("", 9, "stop", calls=(FunctionCall("order", json.loads(CALL)["arguments"]),))

    assert valid(parsed).findings == ()
