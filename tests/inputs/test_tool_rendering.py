"""What is found again of calls, results and definitions in a rendered text, and what is not."""

import json
from collections.abc import Mapping
from typing import Any

from ftcheck.inputs.tokenizer import Message
from ftcheck.inputs.tool_rendering import ToolRendering, look

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        },
    },
}
DEFINED = json.dumps(TOOL)
ASKED = "How will the weather be?"
ANSWERED = "It will be a fine day."


def talk(*arguments: Any, content: str | None = "", result: str = "sunny, 20 degrees") -> list[Message]:
    """A question, calls, as many results, and an answer."""
    calls = [{"type": "function", "function": {"name": "weather", "arguments": one}} for one in arguments]
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": content, "tool_calls": calls},
        *[{"role": "tool", "content": f"{result} {number}"} for number, _ in enumerate(arguments)],
        {"role": "assistant", "content": ANSWERED},
    ]


def text(*written: str, results: int = 1, defined: str = DEFINED, result: str = "sunny, 20 degrees") -> str:
    """Definitions, the question, calls as they are written, results, the answer."""
    told = "".join(f"<tool>{result} {number}</tool>" for number in range(results))
    return f"{defined}Be brief.<user>{ASKED}<assistant>{''.join(written)}{told}<assistant>{ANSWERED}"


def call(arguments: str, name: str = "weather") -> str:
    return f'<call>{{"name": "{name}", "arguments": {arguments}}}</call>'


def kinds(looked: ToolRendering) -> list[tuple[str, str, str]]:
    return [(one.kind, one.part, one.path) for one in looked.differences]


def seen(arguments: Any, written: str, tools: Any = (TOOL,), **more: Any) -> list[tuple[str, str, str]]:
    return kinds(look(talk(arguments, **more), list(tools), text(written)))


def test_a_call_as_it_stands_is_found_with_its_place() -> None:
    whole = text(call('{"city": "Bern", "days": 2}'))

    looked = look(talk({"city": "Bern", "days": 2}), [TOOL], whole)

    assert looked.differences == ()
    spans = {one.part: whole[one.start : one.stop] for one in looked.spans}
    assert spans["call"] == 'weather", "arguments": {"city": "Bern", "days": 2}'
    assert spans["result"] == "sunny, 20 degrees 0"
    assert "Tells the weather." in spans["definition"]


def test_the_name_in_definition_and_answer_is_no_call() -> None:
    turns = [*talk({"city": "Bern"})[:-1], {"role": "assistant", "content": "The weather of Bern is fine."}]
    whole = text("").replace(ANSWERED, "The weather of Bern is fine.")

    [found] = look(turns, [TOOL], whole).differences

    assert (found.kind, found.part, found.name, found.message, found.call) == (
        "dropped",
        "call",
        "weather",
        2,
        0,
    )
    assert found.words == 'weather({"city": "Bern"})'
    assert whole[: found.start].endswith(ASKED)


def test_a_template_that_knows_no_tools_drops_all_three() -> None:
    bare = f"Be brief.<user>{ASKED}<assistant><assistant>{ANSWERED}"

    assert kinds(look(talk({"city": "Bern"}), [TOOL], bare)) == [
        ("dropped", "call", ""),
        ("dropped", "result", ""),
        ("dropped", "definition", ""),
    ]


def test_arguments_encoded_twice_are_told_in_both_forms() -> None:
    given = '{"city": "Bern"}'

    assert seen(given, call(json.dumps(given))) == [("encoded-twice", "argument", "")]
    assert seen(json.loads(given), call(json.dumps(given))) == [("encoded-twice", "argument", "")]
    assert seen("{}", call('"{}"')) == [("encoded-twice", "argument", "")]
    assert seen(given, call(given)) == []


def test_json_inside_a_value_is_not_encoded_twice() -> None:
    given = {"city": '{"city": "Bern"}'}

    assert seen(given, call(json.dumps(given))) == []


def test_arguments_as_python_prints_them() -> None:
    given = {"city": "Bern", "days": True}

    assert seen(given, call(str(given))) == [("as-repr", "argument", "")]


def test_a_text_of_arguments_in_braces_of_its_own_is_told() -> None:
    """Gemma 4's template writes objects in a notation of its own, and texts as they are, in braces."""
    given = '{"city": "Bern", "days": 2}'
    assert seen(given, f"<call>call:weather{{{given}}}</call>") == [("braced", "argument", "")]
    assert seen(json.loads(given), '<call>call:weather{city:"Bern",days:2}</call>') == []
    assert seen(given, call(given)) == []


def test_markup_of_a_call_that_is_escaped_as_html_is_told() -> None:
    """mistral-common's templates escape the quotes around a name where arguments are objects."""
    given = {"city": "Bern"}
    whole = '[{&#34;name&#34;: &#34;weather&#34;, &#34;arguments&#34;: {"city": "Bern"}}]'
    assert seen(given, whole) == [("escaped", "call", "")]
    assert seen(given, '&lt;function=weather&gt;{"city": "Bern"}') == [("escaped", "call", "")]


def test_one_argument_that_is_dropped_is_named_with_its_path() -> None:
    given = {"city": "Bern", "filters": [{"least": 86421}]}

    assert seen(given, "<call>weather city=Bern</call>") == [("dropped", "argument", "filters.0.least")]


def test_xml_and_other_forms_of_values_are_found() -> None:
    given = {"city": 'Bern "old"', "days": 2, "far": 3.0, "true": True, "none": [], "empty": ""}
    written = '<weather><city>Bern "old"</city><days>2</days><far>3</far><true>True</true></weather>'

    assert seen(given, written) == []


def test_a_null_is_told_where_it_is_written_as_none() -> None:
    given = {"city": "Bern", "days": None}

    assert seen(given, "<weather city=Bern days=None>") == [("as-none", "argument", "days")]
    assert seen(given, call(json.dumps(given))) == []


def test_a_null_content_written_as_the_word_is_told() -> None:
    written = "None" + call('{"city": "Bern"}')

    assert seen({"city": "Bern"}, written, content=None) == [("as-none", "content", "")]
    assert seen({"city": "None"}, call('{"city": "None"}'), content=None) == []


def test_of_two_calls_the_one_that_is_dropped_is_told() -> None:
    first, second = {"city": "Bern"}, {"city": "Rome"}

    looked = look(talk(first, second), [TOOL], text(call(json.dumps(first)), results=2))

    assert [(one.kind, one.part, one.call) for one in looked.differences] == [("dropped", "call", 1)]


def test_a_name_in_the_header_of_a_result_is_no_call() -> None:
    first, second = {"city": "Bern"}, {"city": "Rome"}
    whole = text(call(json.dumps(first)), results=2).replace("<tool>", "<weather to=assistant>")

    looked = look(talk(first, second), [TOOL], whole)

    assert [(one.kind, one.part, one.call) for one in looked.differences] == [("dropped", "call", 1)]


def test_a_call_that_is_written_twice_is_doubled() -> None:
    written = call('{"city": "Winterthur"}')

    assert seen({"city": "Winterthur"}, written * 2) == [("doubled", "call", "")]


def test_calls_in_another_order_are_told() -> None:
    turns = talk({"city": "Bern"})
    turns[2] = {
        **turns[2],
        "tool_calls": [
            {"function": {"name": name, "arguments": {"city": "Bern"}}} for name in ("first", "second")
        ],
    }
    written = call('{"city": "Bern"}', "second") + call('{"city": "Bern"}', "first")

    assert ("reordered", "call", "") in kinds(look(turns, None, text(written)))


def test_results_in_another_order_are_told() -> None:
    given = {"city": "Bern"}, {"city": "Rome"}
    whole = text(*(call(json.dumps(one)) for one in given), results=2)
    swapped = whole.replace("degrees 0", "degrees X").replace("degrees 1", "degrees 0").replace("X", "1")

    assert kinds(look(talk(*given), [TOOL], swapped)) == [("reordered", "result", "")]


def test_results_are_found_encoded_and_written_anew() -> None:
    result = '{"case": 11438, "note": "as said"} 0'.removesuffix(" 0")
    turns = [*talk({"city": "Bern"})[:3], {"role": "tool", "content": result}]
    start = f"{DEFINED}<user>{ASKED}{call(json.dumps({'city': 'Bern'}))}"

    assert kinds(look(turns, [TOOL], start + json.dumps(result))) == []
    assert kinds(look(turns, [TOOL], start + "case: 11438\nnote: as said")) == []
    assert kinds(look(turns, [TOOL], start)) == [("dropped", "result", "")]


def test_parts_of_definitions_that_are_dropped_are_named() -> None:
    short = "weather(city: string)"

    found = look(talk({"city": "Bern"}), [TOOL], text(call('{"city": "Bern"}'), defined=short)).differences

    assert [(one.part, one.path) for one in found] == [("description", ""), ("parameter", "days")]


def test_definitions_with_and_without_wrapper_are_found_in_any_layout() -> None:
    function: Mapping[str, Any] = TOOL["function"]  # type: ignore[assignment]
    written = call('{"city": "Bern"}')

    for tools, defined in (
        ([function], json.dumps(function, indent=4)),
        ([TOOL], "// Tells the weather.\ntype weather = (_: {city: string, days: number}) => any"),
    ):
        assert kinds(look(talk({"city": "Bern"}), tools, text(written, defined=defined))) == []


def test_short_contents_do_not_mislead() -> None:
    turns: list[Message] = [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "f", "arguments": {"n": 5}}}],
        },
        {"role": "tool", "content": "5"},
        {"role": "assistant", "content": "ok"},
    ]

    assert kinds(look(turns, None, '<user>a<call>f{"n": 5}</call><tool>5<assistant>ok')) == []


def test_the_older_function_call_is_a_call() -> None:
    turns = talk({"city": "Bern"})
    turns[2] = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}}

    assert kinds(look(turns, [TOOL], text(""))) == [("dropped", "call", "")]
