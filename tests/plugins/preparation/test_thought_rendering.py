"""What becomes of reasoning in rendered rows: codes, row by row."""

from typing import Any

import pytest
from ftcheck_plugins.preparation import thought_rendering
from ftcheck_plugins.preparation.thought_rendering import thoughts
from ftcheck_plugins.reading import row_formats
from ftcheck_plugins.reading.row_formats import Example

from ftcheck.inputs import thinking

LONG = "The user asks for the capital of France."
ASKED = {"role": "user", "content": "Which?"}


def codes(row: dict[str, Any], text: str | None, layout: str = "messages") -> set[str]:
    made = row_formats.example(row, layout, "text")
    assert isinstance(made, Example)
    return {code for code, _ in thoughts([made], [text])}


def talk(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [ASKED, *turns], **more}


def said(content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def test_each_mark_has_a_stem_by_which_texts_are_told_that_have_none() -> None:
    for mark in thought_rendering.MARKS:
        assert any(stem in mark for stem in thought_rendering.STEMS) or mark == "<|end|><|start|>assistant"
    for mark in thought_rendering.CLOSING:
        assert any(stem in mark for stem in thought_rendering.CLOSING_STEMS)


@pytest.mark.parametrize("key", thinking.KEYS)
def test_a_thought_under_any_key_is_found_and_missed(key: str) -> None:
    row = talk(said("Paris", **{key: LONG}))
    assert codes(row, f"Which?<think>{LONG}</think>Paris") == {"thought", f"thought-in:{key}"}
    assert codes(row, "Which?Paris") == {"thought", f"thought-in:{key}", "thought-lost"}


@pytest.mark.parametrize("tag", thinking.TAGS, ids=lambda tag: tag.open)
def test_a_thought_in_any_tags_is_found_and_missed(tag: thinking.Tag) -> None:
    content = f"{tag.open}\n{LONG}\n{tag.close}\n\nParis"
    row = talk(said(content))
    assert codes(row, "Which?" + content) == {"thought", f"thought-in:{tag.open}"}
    assert codes(row, "Which?Paris") == {"thought", f"thought-in:{tag.open}", "thought-lost"}


def test_a_thought_that_begins_in_the_prompt() -> None:
    row = talk(said(f"{LONG}\n</think>\n\nParis"))
    assert codes(row, f"Which?<think>\n{LONG}\n</think>\n\nParis") == {"thought", "thought-in:<think>"}


def test_thoughts_of_earlier_turns_and_of_the_prompt_stand_apart() -> None:
    first, last = said("Bonn", reasoning_content="Before 1990."), said("Berlin", reasoning_content=LONG)
    told = {"thought", "thought-in:reasoning_content"}
    assert codes(talk(first, ASKED, last), f"Bonn<think>{LONG}</think>Berlin") == told | {"thought-lost-past"}
    row = {"prompt": [ASKED, first, ASKED], "completion": [last]}
    kept = f"Bonn<think>{LONG}</think>Berlin"
    assert codes(row, kept, "prompt-completion") == told | {"thought-lost-prompt"}


def test_thoughts_between_calls_belong_to_the_last_question() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    first = said("", reasoning_content="A tool.", tool_calls=[call])
    row = talk(first, {"role": "tool", "content": "9"}, said("Nine", reasoning_content=LONG))
    assert "thought-lost" in codes(row, f"Which?f9<think>{LONG}</think>Nine")


def test_a_row_that_switches_thinking_off_loses_nothing_unasked() -> None:
    row = talk(said("Paris", reasoning_content=LONG), chat_template_kwargs={"enable_thinking": False})
    assert codes(row, "Which?Paris") == {
        "thought",
        "thought-in:reasoning_content",
        "thought-off",
        "thought-switch",
    }


def test_a_thought_under_a_key_and_in_tags_is_rendered_twice() -> None:
    row = talk(said(f"<think>{LONG}</think>Paris", reasoning_content=LONG))
    twice = f"Which?<think>{LONG}</think><think>{LONG}</think>Paris"
    assert "thought-twice" in codes(row, twice)
    assert "thought-twice" not in codes(row, f"Which?<think>{LONG}</think>Paris")


OPEN = f"<think>\n{LONG}"


@pytest.mark.parametrize(
    ("content", "text", "open_"),
    [
        (OPEN, f"Which?<think>\n\n</think>\n\n{OPEN}<|im_end|>", True),
        (OPEN, f"Which?{OPEN}\n</think>\n\n<|im_end|>", False),
        (OPEN, "Which?<|im_end|>", False),
        (f"{OPEN}</think>Paris", f"Which?{OPEN}</think>Paris", False),
        ("Write your thoughts in a <think> block.", "Write your thoughts in a <think> block.", False),
        ("Paris", "system: think between <think> and the end. Which? Paris", False),
    ],
)
def test_a_block_that_is_never_closed(content: str, text: str, open_: bool) -> None:
    assert ("thought-open" in codes(talk(said(content)), text)) is open_


def test_a_template_that_opens_a_block_for_a_key_and_never_closes_it() -> None:
    row = talk(said("Paris", reasoning_content=LONG))
    assert "thought-open" in codes(row, f"Which?<think>\n{LONG}\nParis")
    assert "thought-open" not in codes(row, f"Which?{LONG}\nParis")


def test_plain_text_that_never_closes_a_block() -> None:
    assert codes({"text": f"Q<|im_start|>assistant\n{OPEN}"}, None, "text") == {"thought-open"}
    row = {"prompt": "Q\n<think>\n", "completion": f"{LONG}</think>Paris"}
    assert codes(row, None, "prompt-completion") == {"thought", "thought-in:<think>"}


def test_a_row_without_reasoning_whose_text_says_so() -> None:
    assert codes(talk(said("Paris")), "Which?<think>\n\n</think>\n\nParis") == {"thought-marked"}
    assert codes(talk(said("Paris")), "Which?Paris") == set()


def test_a_conversation_on_which_the_template_raised() -> None:
    assert codes(talk(said("Paris", thinking=LONG)), None) == {"thought", "thought-in:thinking"}
