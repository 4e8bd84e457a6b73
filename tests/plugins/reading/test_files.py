"""Rows out of files: every format, every way to be broken, each with its place."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ftcheck_plugins.reading import files, parquet_rows
from ftcheck_plugins.reading.files import (
    at_rows,
    find,
    stream,
)
from ftcheck_plugins.reading.parquet_rows import RowGroups
from ftcheck_plugins.reading.raw_rows import RawRow

from ftcheck.errors import InputError
from ftcheck.paths import is_hub_data
from ftcheck.records import Location

PLACE = Location("policy.yaml", 7, 12, "jobs.mapper.data.train")


def read(*paths: Path) -> list[RawRow]:
    return list(stream(find([str(path) for path in paths], PLACE, "data.train")))


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def test_json_lines_come_with_line_and_offset_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.jsonl", '{"text": "é"}\n\n{"text": "b"}\r\n{"text": "c"}'))

    assert [row.data for row in rows] == [{"text": "é"}, {"text": "b"}, {"text": "c"}]
    assert [(row.line, row.offset) for row in rows] == [(1, 0), (3, 16), (4, 31)]


def test_the_same_row_has_the_same_record_wherever_it_stands(tmp_path: Path) -> None:
    first = read(write(tmp_path, "a.jsonl", '{"text": "x"}\n{"text": "y"}\n'))
    second = read(write(tmp_path, "b.jsonl", '{"text": "y"}\r\n{"text": "x"}'))

    assert [row.record for row in first] == [row.record for row in reversed(second)]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (b'{"text": "ha', "json", "not valid JSON: unterminated string starting at"),
        (b"\xff\xfe{}", "encoding", "not UTF-8: byte 0xff"),
        (b'\xef\xbb\xbf{"text": "a"}', "encoding", "starts with a byte order mark"),
        (b'["a"]', "schema", "a row must be a JSON object, this is a list"),
        (b'{"text": "\\uD83D"}', "encoding", "contains a lone surrogate (half a character)"),
        (b"null", "schema", "a row must be a JSON object, this is null"),
        (b"[" * 100_000, "json", "not readable: nested too deeply"),
    ],
    ids=["half a line", "not UTF-8", "BOM", "a list", "surrogate", "null", "too deep"],
)
def test_a_broken_line_is_a_row_in_trouble_and_reading_goes_on(
    tmp_path: Path, line: bytes, code: str, said: str
) -> None:
    first, broken, last = read(write(tmp_path, "a.jsonl", b'{"text": "a"}\n' + line + b'\n{"text": "b"}\n'))

    assert broken.trouble is not None
    assert (broken.trouble.code, broken.trouble.message, broken.line) == (code, said, 2)
    assert first.trouble is None
    assert last.data == {"text": "b"}


def test_a_json_array_comes_item_by_item_with_lines(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.json", '[\n {"text": "a"},\n\n {"text": "b"}\n]\n'))

    assert [(row.line, row.data) for row in rows] == [(2, {"text": "a"}), (4, {"text": "b"})]


def test_a_json_file_of_json_lines_is_read_as_such(tmp_path: Path) -> None:
    assert len(read(write(tmp_path, "a.json", '{"text": "a"}\n{"text": "b"}\n'))) == 2


ROWS = ", ".join(f'{{"text": "{n}"}}' for n in range(20))


@pytest.mark.parametrize(
    ("text", "rows", "place", "said"),
    [
        ('[{"a": 1}, {"b": ', 1, (1, 18), "not valid JSON: expecting value"),
        ('[{"a": 1}', 1, (1, 10), "not valid JSON: the file ends inside the array"),
        ('[{"a": 1},\n {"b": 2]', 1, (2, 9), "not valid JSON: expecting ',' delimiter"),
        ('[{"a": 1} {"b": 2}] garbage', 1, (1, 11), "not valid JSON: expecting ',' delimiter"),
        ('[{"a": 1}] garbage', 1, (1, 12), "not valid JSON: more text after the end of the array"),
        (f"[{ROWS}]\n[{ROWS}]\n", 20, (2, 1), "not valid JSON: more text after the end of the array"),
        ('[{"a": 1}]]', 1, (1, 11), "not valid JSON: more text after the end of the array"),
        ("[", 0, (1, 2), "not valid JSON: expecting value"),
        ("", 0, (1, 1), "not valid JSON: the file is empty"),
        (" \n", 0, (2, 1), "not valid JSON: the file is empty"),
        ('{\n "a": 1,\n "b": ,\n "c": [\n  {"d": 1}\n ]\n}\n', 0, (3, 7), "not valid JSON: expecting value"),
        ('{\n "a": 1\n}\n]', 1, (4, 1), "not valid JSON: expecting value"),
        ('{"a": 1},\n', 1, (1, 9), "not valid JSON: expecting value"),
    ],
)
def test_a_json_file_that_is_neither_an_array_nor_objects_says_where_and_why(
    tmp_path: Path, text: str, rows: int, place: tuple[int, int], said: str
) -> None:
    *good, broken = read(write(tmp_path, "a.json", text))

    assert len([row.data for row in good if row.data is not None]) == len(good) == rows
    assert broken.trouble is not None
    assert broken.trouble.code == "json"
    assert (broken.line, broken.trouble.column, broken.trouble.message) == (*place, said)
    assert str(broken.trouble.fix) in (
        "one array of objects, or one JSON object a line",
        "write one complete JSON object per line",
    )


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{\n "a": 1,\n "b": {\n  "c": 2\n }\n}\n', [{"a": 1, "b": {"c": 2}}]),
        ('{\n"a": [\n{"b": 1}\n]\n}', [{"a": [{"b": 1}]}]),
        ('{\n "a": 1\n}\n{\n "a": 2\n}\n', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}{"a": 2} {"a": 3}\n{"a": 4}', [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]),
        ('{"a": 1}\n\n{\n"a": 2}\n', [{"a": 1}, {"a": 2}]),
        (' {"a": 1}\r\n  {"a": 2}\r\n', [{"a": 1}, {"a": 2}]),
        ('\n [{"a": 1},\n{"a": 2}]\n', [{"a": 1}, {"a": 2}]),
        ("[]", []),
    ],
)
def test_a_json_file_has_the_rows_that_datasets_makes_of_it(
    tmp_path: Path, text: str, values: list[dict[str, Any]]
) -> None:
    datasets = pytest.importorskip("datasets")
    path = write(tmp_path, "a.json", text)

    assert [row.data for row in read(path)] == values
    if values:  # datasets has an error for a file without rows
        loaded = datasets.load_dataset(
            "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "c")
        )
        assert list(loaded) == values


def test_broken_lines_of_a_json_file_are_rows_in_trouble_as_in_json_lines(tmp_path: Path) -> None:
    text = '{"a": 1}\n{"a":\n{"a": "half\nnull\n{"a": 2}\n{"a": "\\ud83d"}\n{"a": 3,}\n{"a": 4}\n'
    lines, objects = (read(write(tmp_path, f"a.{kind}", text)) for kind in ("jsonl", "json"))

    without_null = [row._replace(trouble=None) for row in lines if row.line != 4]
    assert [row._replace(trouble=None) for row in objects] == without_null
    assert [row.trouble for row in objects] == [row.trouble for row in lines if row.line != 4]


def test_a_json_array_is_as_doubtful_as_json_lines(tmp_path: Path) -> None:
    odd = [b'{"a": "\\ud83d"}', b'{"a": "\xff"}', b"null", b'{"a": "\\ud83d\\ude00"}', b'{"a": NaN}']
    lines = read(write(tmp_path, "a.jsonl", b"\n".join(odd)))
    items = read(write(tmp_path, "a.json", b"[" + b", ".join(odd) + b"]"))

    assert [(row.record, row.trouble, repr(row.data)) for row in items] == [
        (row.record, row.trouble, repr(row.data)) for row in lines
    ]


def test_csv_rows_come_with_their_lines(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", 'prompt,completion\na,"two\nlines"\nb,c\n'))

    assert [row.line for row in rows] == [2, 4]
    assert rows[0].data == {"prompt": "a", "completion": "two\nlines"}


def test_a_csv_row_with_other_columns_is_in_trouble(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", "prompt,completion\na\nb,c,d\ne,f\n"))

    assert [row.trouble is not None for row in rows] == [True, True, False]


def test_parquet_rows_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"]}), path)

    assert [(row.line, row.data) for row in read(path)] == [(1, {"text": "a"}), (2, {"text": "b"})]


def test_a_file_that_is_not_parquet_is_a_row_in_trouble(tmp_path: Path) -> None:
    [row] = read(write(tmp_path, "a.parquet", "nonsense"))

    assert (row.line, row.data) == (1, None)
    assert row.trouble is not None
    assert row.trouble.message.startswith("not a readable Parquet file: ")


def damaged(path: Path) -> Path:
    """Six rows in row groups of two: the second group's bytes are lost, at rows 3 and 4."""
    pq.write_table(pa.table({"text": list("abcdef")}), path, row_group_size=2)
    lost = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = lost.dictionary_page_offset or lost.data_page_offset
    whole = bytearray(path.read_bytes())
    whole[start : start + lost.total_compressed_size] = b"\xff" * lost.total_compressed_size
    path.write_bytes(whole)
    return path


def test_a_row_group_that_cannot_be_read_costs_its_own_rows(tmp_path: Path) -> None:
    rows = read(damaged(tmp_path / "a.parquet"))

    assert [(row.line, (row.data or {}).get("text")) for row in rows] == [
        (1, "a"),
        (2, "b"),
        (3, None),
        (5, "e"),
        (6, "f"),
    ]
    assert rows[2].trouble is not None
    assert rows[2].trouble.message.startswith("row group 1 cannot be read: ")


@pytest.mark.parametrize("size", [1, 600, 1500, 10**9])
@pytest.mark.parametrize("group", [3, 50])
def test_pieces_of_a_parquet_file_are_all_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int, size: int
) -> None:
    """Also those of a row group that is larger than a piece."""
    monkeypatch.setattr(parquet_rows, "BATCH", 4)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"row {n}" for n in range(41)]}), path, row_group_size=group)
    source = find(str(path), PLACE, "data.train")
    pieces = files.pieces(source, size)

    assert pieces is not None
    assert (len(pieces) > 1) == (size < 10**9)
    apart, before = [], 0
    for piece in pieces:
        apart += [row._replace(line=row.line + before) for row in piece]
        before += piece.count
    assert apart == list(stream(source))
    assert before == 41
    assert [list(piece) for piece in reversed(pieces)] == [list(piece) for piece in pieces][::-1]


def test_pieces_of_a_damaged_row_group_name_its_first_missing_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "BATCH", 1)
    source = find(str(damaged(tmp_path / "a.parquet")), PLACE, "data.train")
    pieces = files.pieces(source, 1)

    assert pieces is not None
    assert [[(row.line, row.trouble is None) for row in piece] for piece in pieces] == [
        [(1, True)],
        [(1, True)],
        [(1, False)],
        [],
        [(1, True)],
        [(1, True)],
    ]


def test_a_file_that_changes_between_two_pieces_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": list("abcd")}), path, row_group_size=2)
    first, second = RowGroups(0, str(path), 0, 2), RowGroups(0, str(path), 2, 4)

    assert [row.data for row in first] == [{"text": "a"}, {"text": "b"}]
    pq.write_table(pa.table({"text": list("uvwxyz")}), path, row_group_size=2)
    assert [row.data for row in second] == [{"text": "w"}, {"text": "x"}]
    pq.write_table(pa.table({"text": list("uv")}), path)
    with pytest.raises(InputError, match="changed while it was read: it has 2 rows now"):
        list(second)


def test_pieces_of_one_file_may_be_read_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": list("abcdef")}), path, row_group_size=3)
    both = zip(RowGroups(0, str(path), 0, 3), RowGroups(0, str(path), 3, 6), strict=True)

    assert [(one.data, other.data) for one, other in both] == [
        ({"text": a}, {"text": b}) for a, b in ("ad", "be", "cf")
    ]


def test_rows_of_parquet_files_are_read_again_by_their_row_groups(tmp_path: Path) -> None:
    for name, texts in (("a", "abcde"), ("b", "fghij")):
        pq.write_table(pa.table({"text": list(texts)}), tmp_path / f"{name}.parquet", row_group_size=2)
    source = find(str(tmp_path / "*.parquet"), PLACE, "data.train")
    whole = list(stream(source))
    chosen = (0, 3, 4, 7, 9)

    again = at_rows(source, [(n, whole[n].file, whole[n].offset) for n in chosen])

    assert again == [whole[n] for n in chosen]


def test_a_glob_names_its_files_in_order(tmp_path: Path) -> None:
    write(tmp_path, "b.jsonl", '{"text": "b"}\n')
    write(tmp_path, "a.jsonl", '{"text": "a"}\n')

    rows = list(stream(find(str(tmp_path / "*.jsonl"), PLACE, "data.train")))

    assert [(row.file, row.data) for row in rows] == [(0, {"text": "a"}), (1, {"text": "b"})]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing.jsonl", "no such file"),
        ("*.jsonl", "no file matches"),
        ("", "is a folder: name the files"),
        ("notes.txt", "ftcheck reads .jsonl, .json, .parquet, .csv"),
    ],
)
def test_a_path_that_names_no_data_is_an_error_at_its_place_in_the_policy(
    tmp_path: Path, name: str, said: str
) -> None:
    write(tmp_path, "notes.txt", "x")

    with pytest.raises(InputError) as error:
        find(str(tmp_path / name), PLACE, "data.train")

    assert str(error.value).startswith("policy.yaml:7:12: jobs.mapper.data.train: data.train")
    assert said in str(error.value)


def test_rows_are_found_again_by_offset_and_by_index(tmp_path: Path) -> None:
    texts = [{"text": str(n)} for n in range(30)]
    lines = write(tmp_path, "a.jsonl", "".join(json.dumps(text) + "\n" for text in texts))
    array = write(tmp_path, "a.json", json.dumps(texts))
    for path in (lines, array):
        source = find(str(path), PLACE, "data.train")
        rows = list(stream(source))
        wanted = [(n, rows[n].file, rows[n].offset) for n in (3, 17, 29)]

        assert [row.data for row in at_rows(source, wanted)] == [texts[3], texts[17], texts[29]]


def test_names_of_hub_data_sets_are_told_from_paths() -> None:
    assert is_hub_data("tatsu-lab/alpaca")
    assert is_hub_data("imdb")
    assert not is_hub_data("data/train.jsonl")
    assert not is_hub_data("./alpaca")
    assert not is_hub_data("/data/alpaca")
    assert not is_hub_data("data/*.jsonl")


@pytest.mark.parametrize("number", ["12345678901234567890123", "-9223372036854775809", "1e400", "NaN"])
def test_numbers_are_read_as_python_reads_them(number: str, tmp_path: Path) -> None:
    """orjson, where it is installed, makes floats of large integers: it only reads rows of texts."""
    [row] = read(write(tmp_path, "a.jsonl", f'{{"text": "x", "n": {number}}}\n'))

    assert row.data is not None
    assert repr(row.data["n"]) == repr(json.loads(number))
