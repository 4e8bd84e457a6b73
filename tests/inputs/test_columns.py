"""The columns that TRL trains, held against the installed TRL's own functions (issue 13, A4)."""

from itertools import combinations
from typing import Any

import pytest

from ftcheck.inputs.columns import Keys, KeySet, decide, kinds, unclear

TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
SHAREGPT = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
VALUES: dict[str, tuple[Any, ...]] = {
    "messages": (TALK, "text"),
    "conversations": (TALK, SHAREGPT),
    "prompt": (TALK[:1], "text"),
    "completion": (TALK[1:], "text"),
    "text": ("text",),
    "prompt_id": ("7",),
}


def mixes() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for count in (1, 2, 3):
        for names in combinations(VALUES, count):
            some: list[dict[str, Any]] = [{}]
            for name in names:
                some = [{**one, name: value} for one in some for value in VALUES[name]]
            rows += some
    return rows


def trls(row: dict[str, Any], *, assistant_only_loss: bool) -> str:
    """What the code of `SFTTrainer` does with a data set of this one row: the layout, or `raises`."""
    import copy

    from trl import data_utils

    example = copy.deepcopy(row)
    if assistant_only_loss and not data_utils.is_conversational(example):
        return "raises"
    converted = data_utils.is_conversational_from_value(example)
    if converted:
        example = data_utils.maybe_convert_to_chatml(example)
    talks = data_utils.is_conversational(example)
    if not talks and not isinstance(example.get("text", ""), str):
        return "raises"
    if "prompt" in example:
        return "prompt-completion" if "completion" in example else "raises"
    if talks:
        return ("sharegpt" if converted else "messages") if "messages" in example else "raises"
    return "text" if "text" in example else "raises"


@pytest.mark.parametrize("masks", [False, True])
def test_every_mix_of_columns_is_decided_as_the_installed_trl_decides(masks: bool) -> None:
    pytest.importorskip("trl")
    looked = 0
    for row in mixes():
        decided = decide(row.keys(), kinds(row, "text"), "text", assistant_only_loss=masks)
        if decided.raises is not None and "order of a set" in decided.raises:
            continue
        looked += 1
        assert (decided.layout or "raises") == trls(row, assistant_only_loss=masks), sorted(row)
    assert looked > 60


def test_columns_of_other_rows_count() -> None:
    """`prompt` in a later row only: the column is there, and null in the first."""
    assert decide({"messages", "prompt"}, {"messages": "talk"}, "text").raises is not None


def test_a_text_column_takes_the_end_of_the_completion() -> None:
    row = {"prompt": "a", "completion": "b", "text": "c"}

    assert decide(row.keys(), kinds(row, "text"), "text").ending == "text"


def test_a_prompt_text_beside_messages_raises_whatever_comes_first() -> None:
    row = {"prompt": "a", "prompt_id": "7", "messages": TALK}

    assert decide(row.keys(), kinds(row, "text"), "text").raises == "KeyError: 'completion'"


def sets(*rows: dict[str, Any]) -> list[KeySet]:
    return [KeySet(Keys.of(row), 1, number) for number, row in enumerate(rows)]


MIXED = {"prompt": "text", "completion": "text", "messages": TALK}
TEXTS = {"prompt": "text", "completion": "text"}
TALKS = {"prompt": TALK[:1], "completion": TALK[1:]}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([MIXED, MIXED], [0, 1]),
        ([TEXTS, MIXED], [1]),
        ([{**TALKS, "messages": None}, TALKS], [0, 1]),
        ([TALKS, {**TALKS, "messages": TALK}], [0]),
        ([TEXTS, TEXTS], []),
        ([{**TALKS, "messages": TALK}], []),
        ([{"messages": TALK}], []),
    ],
)
def test_rows_that_trl_takes_for_conversations_by_the_order_of_a_set(
    rows: list[dict[str, Any]], found: list[int]
) -> None:
    assert [one.first for one in unclear(sets(*rows))] == found
