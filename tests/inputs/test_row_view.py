"""One row as the model sees it: pieces, marks, what is cut, who shares its block."""

from dataclasses import replace
from typing import Any

import pytest

from ftcheck.cli.pages import row_html
from ftcheck.cli.pages import row_page as shown
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.row_view import RowView, view
from ftcheck.testing import FakeTokenizer, job, prepared, token_store


def one_row(text: str, trained: str, **training: Any) -> RowView:
    """The view of a row of characters; the last stretch `trained` of it is in the loss."""
    tokenizer = FakeTokenizer()
    ids = tokenizer.encode(text)
    start = len(ids) - len(tokenizer.encode(trained))
    rows = replace(prepared([len(ids)]), tokens=token_store(ids, trained=[len(ids) - start]))
    return view(rows, tokenizer, job(training=training), 0)


def test_trained_tokens_are_marked_and_special_ones_known() -> None:
    row = one_row("<|user|>hi<|end|><|assistant|>ok<|end|>", "ok<|end|>", max_length=100)

    assert shown.plain(row).splitlines()[1] == "<|user|>hi<|end|><|assistant|>«ok<|end|>»"
    assert [piece.text for piece in row.pieces if piece.special] == [
        "<|user|>",
        "<|end|>",
        "<|assistant|>",
        "<|end|>",
    ]
    assert shown.headline(row) == "train.jsonl:1 · 8 tokens · 3 in the loss · ends with <|end|>, in the loss"


def test_what_the_cut_takes_is_shown_as_cut_and_not_as_trained() -> None:
    row = one_row("<|user|>hi<|assistant|>yes<|end|>", "yes<|end|>", max_length=5)

    assert shown.plain(row).splitlines()[1] == "<|user|>hi<|assistant|>«y»✂es<|end|>✂"
    assert (row.tokens, row.fed, row.trained) == (8, 5, 1)
    assert "3 cut off" in shown.headline(row)


def test_keep_end_cuts_the_beginning() -> None:
    row = one_row("<|user|>hi<|assistant|>yes", "yes", max_length=3, truncation_mode="keep_end")

    assert shown.plain(row).splitlines()[1] == "✂<|user|>hi<|assistant|>✂«yes»"


def test_characters_of_several_tokens_are_one_piece() -> None:
    class Bytes(FakeTokenizer):
        """Tokens are UTF-8 bytes."""

        def show(self, ids: Any) -> str:
            return bytes(ids).decode("utf-8", "replace")

    ids = list("héé 日本".encode())
    rows = replace(prepared([len(ids)]), tokens=token_store(ids, trained=[0]))

    row = view(rows, Bytes(), job(), 0)

    assert [piece.text for piece in row.pieces] == ["h", "é", "é", " ", "日", "本"]
    assert [len(piece.ids) for piece in row.pieces] == [1, 2, 2, 1, 3, 3]


def test_control_characters_and_line_breaks_are_visible() -> None:
    text = shown.plain(one_row("a\nb\x1b[31m", "b", max_length=None))

    assert "a⏎\nb" in text
    assert "\x1b" not in text


def test_a_row_in_trouble_says_why() -> None:
    rows = replace(
        prepared([0], row_errors={0: RowError("json", "not JSON")}), tokens=token_store([], trained=[0])
    )

    row = view(rows, FakeTokenizer(), job(), 0)

    assert "not prepared: not JSON" in shown.plain(row)


def test_rows_that_share_a_block_are_named() -> None:
    training = {"max_length": 10, "packing": True}

    row = view(prepared([6, 9, 4], packing=True, max_length=10), FakeTokenizer(), job(training=training), 0)

    assert row.neighbours == (3,)
    assert "packed with row 3" in shown.headline(row)


def test_the_page_stands_alone_and_escapes_what_the_row_holds() -> None:
    page = row_html.page(one_row("<script>alert(1)</script>", "</script>", max_length=100))

    assert page.count("<script>") == 1  # the page's own
    assert "&lt;" in page
    assert "://" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--row", "3"), "train.jsonl:3 · "),
        (("--longest",), " tokens · "),
        (("--row", "3", "--ids"), "in loss"),
    ],
)
def test_show_prints_a_row_of_the_sample_job(project: Any, arguments: tuple[str, ...], said: str) -> None:
    from tests.places import POLICIES

    policy = str(POLICIES / "night_before.yaml")

    ran = project.call("show", policy, "--job", "mapper", *arguments)

    assert ran.code == 0, ran.err
    assert said in ran.out
    assert "<|begin_of_text|>" in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--row", "99999"), "there is no row 99,999: the data has 1,500"),
        (("--record", "ffffffffffffffffffff"), "no row has the digest"),
        (("--row", "1", "--longest"), "use only one of"),
        (("--job", "nobody"), "no job 'nobody'"),
        (("-o", "pdf=x"), "write html=PATH"),
    ],
)
def test_show_refuses_what_it_cannot_show(project: Any, arguments: tuple[str, ...], said: str) -> None:
    from tests.places import POLICIES

    policy = str(POLICIES / "night_before.yaml")

    ran = project.call("show", policy, "--job", "mapper", *arguments)

    assert ran.code == 2
    assert said in ran.err
