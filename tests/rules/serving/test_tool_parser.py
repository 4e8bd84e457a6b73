"""Does the declared tool parser read what training writes (issue 14, item 4)?"""

from typing import Any

from ftcheck_rules.serving.cases.tool_parser import BARE, HERMES, parsed
from ftcheck_rules.serving.tool_parser import tool_parser

from ftcheck.records import Severity
from ftcheck.testing import Ran, run


def ran(*given: Any, params: dict[str, Any] | None = None, **more: Any) -> Ran:
    return run(tool_parser, params, **parsed(*given, **more))


def test_the_parser_of_the_template_reads_every_call() -> None:
    found = ran("hermes")

    assert found.findings == ()
    assert (found.measured["calls"], found.measured["calls_lost"]) == (3, 0)


def test_a_parser_for_another_format_is_an_error_with_the_row_and_the_parser_that_reads_all() -> None:
    [one] = ran("hermes", BARE).findings

    assert one.severity is Severity.ERROR
    assert one.message == (
        "the tool parser hermes does not read the 3 calls as training writes them: '<tool_call>' is not in it"
    )
    assert str(one.at) == "train.jsonl:1:1"
    assert one.fix == "set serving.tool_parser: llama3_json, which reads all of them"
    assert one.change is not None
    assert (one.change.path, one.change.new) == ("jobs.job.serving.tool_parser", "llama3_json")


def test_arguments_that_come_back_as_text_are_named() -> None:
    [one] = ran("hermes", text=True, params={"max_turns": 2}).findings

    assert "encoded twice" in one.message
    assert one.content is not None
    assert "Bonn" not in one.message


def test_a_parser_that_takes_arguments_as_text_reads_them_all_the_same() -> None:
    assert ran("granite4", text=True).findings == ()


def test_other_keys_for_the_arguments_are_not_read() -> None:
    written = '<tool_call>{"name": "find_room", "parameters": {"city": "Bonn", "beds": 0}}</tool_call>'

    [one] = ran("hermes", written, count=1).findings
    assert "the call has no key 'arguments'" in one.message
    assert ran("qwen25", written, count=1, engine="sglang").findings == ()


def test_a_parser_that_the_table_does_not_know_is_skipped_with_the_reason() -> None:
    skipped = ran("step3").skipped

    assert skipped is not None
    assert "does not know this tool parser of vLLM" in skipped
    assert "hermes" in skipped


def test_an_engine_without_tool_parsers_and_rows_without_calls_are_skipped() -> None:
    assert "a setting of vLLM and SGLang" in str(ran("hermes", engine="ollama").skipped)
    assert ran("hermes", called=False).skipped == "no training row and no gold item calls a tool"


def test_no_parser_is_told_where_an_engine_would_need_one_and_never_blocks() -> None:
    found = ran(None)

    [one] = found.findings
    assert (one.severity, one.fix) == (Severity.INFO, "set serving.tool_parser: hermes")
    assert found.skipped == "serving.tool_parser is not set"
    assert ran(None, called=False).findings == ()


def test_one_turn_in_many_that_is_not_read_is_a_warning() -> None:
    given = parsed("phi4_mini_json", "functools[%s]", count=120)
    texts = given["inputs"].get("row_texts")
    call = texts.rows[7].messages[1]["tool_calls"][0]
    call["function"]["arguments"]["city"] = "a]b"

    [one] = run(tool_parser, None, **given).findings

    assert one.severity is Severity.WARNING
    assert "misreads 1 of the 120 calls" in one.message
    assert str(one.at) == "train.jsonl:8:1"


def test_a_token_that_vllm_looks_for_and_the_tokenizer_lacks_is_an_error() -> None:
    [one] = ran("jamba", f"<tool_calls>[{BARE}]</tool_calls>").findings

    assert one.message.startswith("'<tool_calls>' and '</tool_calls>' are not tokens of the served tokenizer")
    assert HERMES not in one.message
