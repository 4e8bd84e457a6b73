"""How turns with tool calls end in rendered rows: codes, row by row."""

from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.model.tokenizer import open_tokenizer
from ftcheck_plugins.preparation.call_endings import CallEndings
from ftcheck_plugins.preparation.rendering import Rendered
from ftcheck_plugins.preparation.trl_tokenize import RowTokenizer
from ftcheck_plugins.reading import row_formats
from ftcheck_plugins.reading.row_formats import Example

from ftcheck.records import Location
from ftcheck.settings import Training
from tests.faults.bench import CALLS

ASKED = {"role": "user", "content": "Where is parcel 9?"}
RESULT = "The parcel 9 is in Lyon."


def call(*arguments: Any) -> dict[str, Any]:
    calls = [{"function": {"name": "find", "arguments": one}} for one in arguments]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def row(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [ASKED, *turns]}


def result(content: Any = RESULT, role: str = "tool") -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.fixture(scope="module")
def tokenizer(samples: Path) -> Any:
    return open_tokenizer(str(samples / "models" / "mapper-tiny"), place=Location())


def codes(
    tokenizer: Any,
    data: dict[str, Any],
    *texts: str,
    loss: list[tuple[int, int]] | None = None,
    **training: Any,
) -> set[str]:
    layout = "prompt-completion" if "prompt" in data else "messages"
    made = row_formats.example(data, layout, "text")
    assert isinstance(made, Example)
    endings = CallEndings(tokenizer, Training(assistant_only_loss=loss is not None, **training))
    rendered = [Rendered(text, loss or []) for text in texts]
    return set(endings.remarks([made], [rendered]))


DONE = {"role": "assistant", "content": "In Lyon."}
HEAD = "<|start_header_id|>user<|end_header_id|>"
TEXT = HEAD + "Where is parcel 9?<|eot_id|>{call}<|eot_id|>" + HEAD + "{result}<|eot_id|>In Lyon.<|eot_id|>"
CALL = 'find {"number": 9}'


def test_the_tokens_between_a_call_and_its_result_are_named(tokenizer: Any) -> None:
    text = TEXT.format(call=CALL, result=RESULT)
    told = "call-end:+<|eot_id|> +<|start_header_id|> +<|end_header_id|>"
    assert codes(tokenizer, row(call({"number": 9}), result(), DONE), text) == {"call-ends", told}


def test_each_token_says_whether_it_is_in_the_loss(tokenizer: Any) -> None:
    text = TEXT.format(call=CALL, result=RESULT)
    data = row(call({"number": 9}), result(), DONE)
    start, behind = text.index(CALL), text.index(CALL) + len(CALL)
    last = (text.index("In Lyon"), len(text))
    stop = behind + len("<|eot_id|>")

    inside = codes(tokenizer, data, text, loss=[(start, stop), last])
    assert "call-end:+<|eot_id|> -<|start_header_id|> -<|end_header_id|>" in inside
    outside = codes(tokenizer, data, text, loss=[(start, behind), last])
    assert "call-end:-<|eot_id|> -<|start_header_id|> -<|end_header_id|>" in outside
    assert not any(code.startswith("result") for code in inside | outside)
    assert "result-trained:tool" in codes(tokenizer, data, text, loss=[(start, len(text))])


@pytest.mark.parametrize(
    ("arguments", "written", "said"),
    [
        ({"text": RESULT}, f'find {{"text": "{RESULT}"}}', RESULT),
        ({"number": 9}, CALL, "9"),
        ('{"city": "Köln"}', 'find {"city": "K\\u00f6ln"}', RESULT),
        ({"a": {"b": [1, "deep"]}, "c": None, "d": True}, 'find {"a": {"b": [1, "deep"]}}', RESULT),
    ],
)
def test_a_result_that_repeats_an_argument_is_not_taken_for_it(
    tokenizer: Any, arguments: Any, written: str, said: str
) -> None:
    text = TEXT.format(call=written, result=said)
    told = "call-end:+<|eot_id|> +<|start_header_id|> +<|end_header_id|>"
    assert codes(tokenizer, row(call(arguments), result(said), DONE), text) == {"call-ends", told}


def test_a_result_written_as_json_is_found(tokenizer: Any) -> None:
    text = TEXT.format(call=CALL, result='"{\\"place\\": \\"Lyon\\"}"')
    assert "call-ends" in codes(tokenizer, row(call({"number": 9}), result('{"place": "Lyon"}'), DONE), text)


def test_a_call_or_a_result_that_is_not_found_is_unclear(tokenizer: Any) -> None:
    for text in (TEXT.format(call="", result=RESULT), TEXT.format(call=CALL, result="")):
        assert codes(tokenizer, row(call({"number": 9}), result(), DONE), text) == {"calls-unclear"}


def test_the_last_turn_and_rows_without_calls_are_none_of_its_business(tokenizer: Any) -> None:
    assert codes(tokenizer, row(call({"number": 9})), TEXT.format(call=CALL, result="")) == set()
    assert codes(tokenizer, row(DONE), "In Lyon.") == set()


def test_two_calls_in_a_turn_end_behind_the_second(tokenizer: Any) -> None:
    text = TEXT.format(call=f"{CALL}<|eom_id|>{CALL}", result=RESULT)
    told = "call-end:+<|eot_id|> +<|start_header_id|> +<|end_header_id|>"
    assert told in codes(tokenizer, row(call({"number": 9}, {"number": 9}), result(), DONE), text)


def test_results_in_a_completion_are_in_the_loss(tokenizer: Any) -> None:
    data = {"prompt": [ASKED], "completion": [call({"number": 9}), result(), DONE]}
    text = TEXT.format(call=CALL, result=RESULT)
    prompt = text[: text.index(CALL)]
    assert "result-trained:tool" in codes(tokenizer, data, prompt, text)
    assert "result-trained:tool" not in codes(tokenizer, data, prompt, text, completion_only_loss=False)


def test_the_preparation_says_it_of_rows_as_they_are_rendered(samples: Path, tmp_path: Path) -> None:
    template = tmp_path / "calls.jinja"
    template.write_text(CALLS, encoding="utf-8")
    folder = str(samples / "models" / "mapper-tiny")
    side = open_tokenizer(folder, template_file=str(template), place=Location())
    rows = [{"messages": [ASKED, DONE]}, row(call({"number": 9}), result(), DONE)]
    made = [row_formats.example(one, "messages", "text") for one in rows]
    remarks = RowTokenizer(side, Training(assistant_only_loss=True)).batch(made).remarks  # type: ignore[arg-type]
    assert remarks["call-ends"] == [1]
    assert remarks["call-end:+<|eot_id|> -<|start_header_id|> -<|end_header_id|>"] == [1]
