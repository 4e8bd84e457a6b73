"""Rows as they are read: renamed, the first ones, held out; against datasets' own rename and split."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.reading import files
from ftcheck_plugins.reading.files import Source
from ftcheck_plugins.reading.row_shape import Shape, Split

from ftcheck.errors import InputError

ROWS = [
    {"id": n, "chat": [{"from": "human", "value": f"q{n}"}, {"from": "gpt", "value": "a"}]} for n in range(41)
]


def written(folder: Path, rows: Sequence[Any] = ROWS) -> str:
    """The rows as JSON lines."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def data(source: Source) -> list[Any]:
    """What is read."""
    return [row.data for row in files.stream(source)]


def test_without_a_shape_nothing_changes(tmp_path: Path) -> None:
    assert data(Source((written(tmp_path),))) == ROWS


def test_columns_and_roles_get_new_names(tmp_path: Path) -> None:
    shape = Shape(columns={"chat": "messages"}, roles={"human": "user", "gpt": "assistant"}, first=3)

    read = data(Source((written(tmp_path),), shape=shape))

    assert len(read) == 3
    assert list(read[0]) == ["id", "messages"]
    assert [turn["from"] for turn in read[2]["messages"]] == ["user", "assistant"]
    assert read[2]["messages"][0]["value"] == "q2"


def test_two_columns_of_one_name_are_an_error_of_the_row(tmp_path: Path) -> None:
    [row] = files.stream(Source((written(tmp_path, ROWS[:1]),), shape=Shape(columns={"chat": "id"})))

    assert row.data is None
    assert row.trouble is not None
    assert row.trouble.message == "data.columns gives two columns of this row the name 'id'"


@pytest.mark.parametrize(("share", "seed", "first"), [(0.05, 42, None), (0.3, 7, None), (0.25, 0, 10)])
def test_the_rows_that_are_held_out_are_those_of_datasets(
    tmp_path: Path, share: float, seed: int, first: int | None
) -> None:
    datasets = pytest.importorskip("datasets")
    theirs = datasets.Dataset.from_list(ROWS[:first]).train_test_split(test_size=share, seed=seed)
    path = written(tmp_path)

    sides = {}
    for name, held_out in (("train", False), ("test", True)):
        source = Source((path,), shape=Shape(first=first, split=Split(share, seed, held_out)))
        sides[name] = [row["id"] for row in data(source)]
        again = files.at_rows(source, [(1, 0, 0), (0, 0, 0)][:1] if len(sides[name]) > 1 else [(0, 0, 0)])
        assert [row.data["id"] for row in again if row.data] == sides[name][1:2] or len(sides[name]) == 1

    assert sides == {name: sorted(theirs[name]["id"]) for name in ("train", "test")}


def test_a_split_that_leaves_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    source = Source((written(tmp_path, ROWS[:1]),), shape=Shape(split=Split(0.5, 42, held_out=False)))

    with pytest.raises(InputError, match=r"data\.validation_split: 1 rows leave 0 to train on"):
        data(source)
