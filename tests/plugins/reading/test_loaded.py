"""What load_dataset makes of files, by the library itself, and where it differs (issue 13, A2, A3)."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.reading import files, loaded
from ftcheck_plugins.reading.files import Source

pytest.importorskip("datasets")


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Source:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Source((str(path),))


def csv(path: Path, text: str) -> Source:
    path.write_text(text, encoding="utf-8")
    return Source((str(path),))


CALL = {"type": "function", "function": {"name": "f", "arguments": {"p": 0.3, "q": 1e-12, "n": 3}}}
PLAIN = [{"role": "user", "content": "p?"}, {"role": "assistant", "content": "a"}]
CALLING = [{"role": "user", "content": "p?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]


def test_numbers_of_columns_whose_keys_differ_are_those_of_ujson(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [{"messages": PLAIN}, {"messages": CALLING}])

    made = loaded.load(source, tmp_path)

    assert made.other
    one = made.compared.reread["number"]
    assert (one.rows, one.first, one.written, one.read) == (1, 1, "0.3", "0.30000000000000004")
    assert one.path == "messages[1].tool_calls[0].function.arguments.p"
    [plain, calling] = loaded.rows(source, made)
    assert plain.data == {"messages": PLAIN}
    assert calling.data is not None
    arguments = calling.data["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert arguments == {"p": 0.30000000000000004, "q": 0.0, "n": 3}
    assert calling.line == 2


def test_texts_that_are_all_dates_become_dates(tmp_path: Path) -> None:
    rows = [{"prompt": f"When {n}?", "completion": f"2024-01-0{n}"} for n in range(1, 5)]

    compared = loaded.load(lines(tmp_path / "a.jsonl", rows), tmp_path).compared

    assert compared.reread["type"].rows == 4
    assert compared.types["completion"] == "timestamp[s]"


def test_texts_and_the_same_keys_are_not_compared_row_by_row(tmp_path: Path) -> None:
    made = loaded.load(lines(tmp_path / "a.jsonl", [{"messages": PLAIN}] * 3), tmp_path)

    assert not made.other
    assert made.compared.total == 3


def test_a_key_that_only_some_rows_have_is_no_difference(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "b", "source": "wiki"}]

    made = loaded.load(lines(tmp_path / "a.jsonl", rows), tmp_path)

    assert made.compared.reread == {}


def test_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    one = lines(tmp_path / "a.jsonl", [{"messages": PLAIN}])
    other = lines(tmp_path / "b.jsonl", [{"messages": PLAIN, "source": "wiki"}])

    compared = loaded.load(Source(one.files + other.files), tmp_path).compared

    assert compared.refused is not None
    assert "CastError" in compared.refused


def test_cells_of_csv_become_numbers_and_null(tmp_path: Path) -> None:
    numbers = loaded.load(csv(tmp_path / "a.csv", "prompt,completion\na,0\nb,4\n"), tmp_path).compared
    nothing = loaded.load(
        csv(tmp_path / "b.csv", "prompt,completion\na,None\nb,N/A\nc,c\n"), tmp_path
    ).compared

    assert numbers.reread["type"].rows == 2
    assert numbers.types["completion"] == "int64"
    assert nothing.reread["null"].rows == 2


def test_rows_that_are_left_out_stay_out(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [{"messages": CALLING}, {"messages": PLAIN}, {"messages": CALLING}])
    second = len(json.dumps({"messages": CALLING})) + 1
    made = loaded.load(source, tmp_path)
    through = Source(source.files, excluded={0: frozenset({second})})
    through = Source(source.files, excluded=through.excluded, through=partial(loaded.rows, through, made))

    assert [row.line for row in files.stream(through)] == [1, 3]
    assert files.pieces(through, 100) is None
    assert [row.line for row in files.at_rows(through, [(1, 0, 0)])] == [3]


def test_differences_name_their_kind() -> None:
    own = {"a": 1, "b": "x", "c": [1.0, True], "d": None, "e": {"k": "v"}}
    read = {"a": 1.0, "b": None, "c": [1.0, 1], "e": {"k": "w", "n": None}, "f": None}

    found = [(one.kind, one.path) for one in loaded.differences(own, read)]

    assert found == [
        ("number", "a"),
        ("null", "b"),
        ("type", "c[1]"),
        ("text", "e.k"),
        ("filled", "e.n"),
    ]


def test_a_repeated_column_is_the_first_and_long_cells_are_read(tmp_path: Path) -> None:
    long = "x" * 200_000
    source = csv(tmp_path / "a.csv", f"prompt,completion,completion\na,first,second\nb,{long},third\n")

    [one, other] = files.stream(source)

    assert one.data == {"prompt": "a", "completion": "first", "completion.1": "second"}
    assert other.data is not None
    assert other.data["completion"] == long
