"""Rows read again from their files."""

from pathlib import Path

from ftcheck_plugins.preparation import row_texts

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
