from collections.abc import Sequence
from typing import Any

import pytest
from ftcheck_rules.data.cases.special_tokens_in_text import CASES
from ftcheck_rules.data.special_tokens_in_text import special_tokens_in_text

from ftcheck import Severity
from ftcheck.testing import Case, FakeTokenizer, Ran, prepared, rows, run, tokenizer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(special_tokens_in_text, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def marked(marks: dict[str, list[int]], count: int = 20, **made: Any) -> Ran:
    side = tokenizer(chat_template="<|user|>{{ m }}<|end|>", marks=("<|end|>", "<|pad|>", "<|ticket|>"))
    of = rows(count, marks=marks, **made)
    return run(special_tokens_in_text, prepared=prepared([5] * count, of=of), tokenizer=side)


def test_each_token_is_one_finding_at_its_first_row_with_the_number_of_rows() -> None:
    first, second = marked({"<|pad|>": [7], "<|end|>": [3, 4]}).findings
    assert (str(first.at), str(second.at)) == ("train.jsonl:4:1", "train.jsonl:8:1")
    assert "2 of 20 rows contain <|end|>" in first.message


def test_a_control_token_in_every_conversation_is_still_a_warning() -> None:
    assert marked({"<|end|>": list(range(20))}).worst is Severity.WARNING


def test_a_token_of_ones_own_in_every_row_is_meant() -> None:
    assert marked({"<|ticket|>": list(range(20))}).worst is Severity.INFO
    assert marked({"<|ticket|>": [1]}).worst is Severity.WARNING


def test_prompts_rendered_by_hand_hold_control_tokens_on_purpose() -> None:
    by_hand: dict[str, Any] = {"layout": "prompt-completion", "turns": [0] * 20}
    assert marked({"<|end|>": list(range(20))}, **by_hand).worst is Severity.INFO
    assert marked({"<|end|>": [1]}, **by_hand).worst is Severity.WARNING


def test_thoughts_and_tool_calls_are_written_on_purpose() -> None:
    ran = marked({"<think>": [1], "</think>": [1], "<tool_call>": [2]})
    assert ran.measured["rows_with_special_tokens"] == 0
    assert not ran.findings


class Gemma(FakeTokenizer):
    """A tokenizer whose HTML tags are added tokens that are not special."""

    def plain(self, ids: Sequence[int]) -> str:
        return "".join(self.show([one]) for one in ids if self.show([one]) not in ("<end>", "<pad>"))


def test_21_added_tokens_that_are_not_special_are_ordinary_text() -> None:
    side = Gemma(chat_template="{{ m }}<end>", marks=("<end>", "<pad>", "<h1>", "<table>", "</td>"))
    html = rows(20, marks={"<h1>": [1, 2], "<table>": [3], "</td>": [3, 4], "<end>": [5]})

    ran = run(special_tokens_in_text, prepared=prepared([5] * 20, of=html), tokenizer=side)

    [finding] = ran.findings
    assert "contains <end> as text" in finding.message
    assert ran.measured["rows_with_special_tokens"] == 1
    assert ran.measured["ordinary_added_tokens"] == 3
