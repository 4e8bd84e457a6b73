import json
import random

import pytest
from ftcheck_plugins.guard import merge, split

WORDS = (
    "a",
    "heron",
    "stood.",
    "Why?",
    "日本語。",
    "x" * 90,
    "\n",
    "\n\n",
    "  ",
    "No!",
    "😀",
    "e\u0301",
    "…",
)


@pytest.mark.parametrize("seed", range(40))
def test_chunks_fit_and_are_the_text_again(seed: int) -> None:
    dice = random.Random(seed)
    text = " ".join(dice.choice(WORDS) for _ in range(dice.randint(1, 200)))
    limit = dice.randint(1, 120)

    parts = split(text, lambda one: len(one.encode()) <= max(limit, 4))

    assert "".join(parts) == text
    assert all(0 < len(one.encode()) <= max(limit, 4) for one in parts)


@pytest.mark.parametrize("seed", range(10))
def test_chunks_fit_where_tokens_do_not_grow_with_the_text(seed: int) -> None:
    """Merges of a tokenizer can make a longer text shorter."""
    dice = random.Random(seed)
    text = "".join(dice.choice("ab .\n") for _ in range(500))

    def tokens(one: str) -> int:
        return len(one.replace("abab", "T").replace("ba", "U"))

    assert all(tokens(one) <= 25 for one in split(text, lambda one: tokens(one) <= 25))


def test_a_chunk_ends_with_a_paragraph_else_a_sentence_else_a_word_else_anywhere() -> None:
    def first(text: str) -> str:
        return split(text, lambda one: len(one) <= 40)[0]

    assert (
        first("One sentence. And two.\n\nThen a paragraph that is long enough.")
        == "One sentence. And two.\n\n"
    )
    assert first("One sentence that is a while long. And two more, which do not fit.") == (
        "One sentence that is a while long. "
    )
    assert (
        first("many words with no stop that go on and on for a while")
        == "many words with no stop that go on and "
    )
    assert first("x" * 100) == "x" * 40


def test_a_boundary_in_the_first_half_is_left_for_a_longer_chunk() -> None:
    assert split("Hi.\n\n" + "word " * 20, lambda one: len(one) <= 50)[0] == "Hi.\n\n" + "word " * 9


def test_where_nothing_fits_there_are_no_chunks() -> None:
    with pytest.raises(ValueError, match="not even one"):
        split("text", lambda one: False)


@pytest.mark.parametrize(
    ("answers", "merged"),
    [
        (['["a"]', '["b", "c"]'], ["a", "b", "c"]),
        (
            ['{"a": 1, "l": [1]}', '{"a": 2, "l": [2]}', '{"a": 2, "b": {"c": 3}}'],
            {"a": 2, "l": [1, 2], "b": {"c": 3}},
        ),
        (['{"a": "x"}', '{"a": "y"}'], {"a": "x"}),
        (['{"a": {"b": 1}}', '{"a": {"b": 1, "c": null}}'], {"a": {"b": 1, "c": None}}),
        (['"hr"', '"it"', '"it"'], "it"),
        (["true", "1", "true"], True),
    ],
)
def test_json_answers_become_one(answers: list[str], merged: object) -> None:
    assert json.loads(merge(answers)) == merged


@pytest.mark.parametrize(
    "answers", [["Verdict: yes", "Verdict: no"], ['{"a": 1}', "text"], ["[1]", "{}"], ["NaN", "1"]]
)
def test_texts_and_answers_of_several_kinds_stand_below_one_another(answers: list[str]) -> None:
    assert merge(answers) == "\n".join(answers)


def test_true_and_one_are_different_votes() -> None:
    assert merge(['{"a": 1}', '{"a": true}', '{"a": true}']) == '{"a": true}'
