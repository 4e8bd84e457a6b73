"""Rows read again from their files."""

from pathlib import Path

import pytest
from ftcheck_plugins.preparation import row_texts

from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from tests.plugins.preparation.test_preparation import chat, inputs


def test_rows_are_read_with_all_their_columns_in_the_order_asked_for(samples: Path, tmp_path: Path) -> None:
    functions = [{"name": "f"}]
    made = inputs(samples, tmp_path, [chat("one"), {**chat("two"), "functions": functions}, "{broken"])
    texts = row_texts.FromFiles(made.get("job"), Run(folder=tmp_path), made.get("prepared").rows)

    two, one, broken = texts.read([1, 0, 2])

    assert (two.index, two.messages[1]["content"], two.data["functions"]) == (1, "two", functions)
    assert (one.index, one.messages[1]["content"], one.prompt_turns) == (0, "one", 0)
    assert (broken.messages, broken.data) == ((), {})


def test_a_row_that_changed_in_its_place_is_an_error(samples: Path, tmp_path: Path) -> None:
    made = inputs(samples, tmp_path, [chat("one"), chat("two")])
    texts = row_texts.FromFiles(made.get("job"), Run(folder=tmp_path), made.get("prepared").rows)
    file = tmp_path / "rows.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace("two", "six"), encoding="utf-8")

    assert texts.read([0])[0].messages[1]["content"] == "one"
    with pytest.raises(InputError, match="changed after it was prepared"):
        texts.read([1])
