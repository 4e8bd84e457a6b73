"""Rows that nobody should have to read: each a finding on its line, in bounded time, never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.preparation import preparation
from ftcheck_plugins.reading import files
from ftcheck_plugins.reading.files import Source
from ftcheck_plugins.reading.row_formats import MAX_TURNS

from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import RowError, Rows
from ftcheck.testing import job

GOOD = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n'


def turns(*contents: Any, **more: Any) -> bytes:
    roles = ("user", "assistant")
    said = [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]
    return json.dumps({"messages": said, **more}).encode() + b"\n"


def read(folder: Path, raw: bytes) -> Rows:
    """Rows of a file with a good row before and after the hostile one, without a tokenizer."""
    path = folder / "train.jsonl"
    path.write_bytes(GOOD + raw + GOOD)
    made = job(data={"train": str(path)})
    opened = Inputs({"rows": preparation.rows}, {"run": Run(folder / "work", offline=True)}, made)
    found: Rows = opened.get("rows")
    return found


REFUSED: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "a hundred thousand turns": (
        lambda: turns(*["word"] * 100_000),
        "schema",
        f"the limit is {MAX_TURNS:,}",
    ),
    "a line of 50 MB": (lambda: turns("q", "lorem " * 8_400_000), "json", "longer than 16 MiB"),
    "deep lists": (lambda: b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "json", "too deeply"),
    "deep objects": (lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", "json", "too deeply"),
    "deep tools": (
        lambda: turns("q", "a", tools="[" * 100_000),
        "schema",
        "'tools' is a text that is not valid JSON",
    ),
    "a raw NUL": (lambda: turns("q", "a").replace(b"a", b"\x00", 1), "json", "not valid JSON"),
    "half a character": (lambda: turns("q", "\ud800"), "encoding", "lone surrogate"),
    "a byte order mark": (lambda: b"\xef\xbb\xbf" + turns("q", "a"), "encoding", "byte order mark"),
    "a number of 10,000 digits": (
        lambda: b'{"messages": [], "n": ' + b"9" * 10_000 + b"}\n",
        "json",
        "more digits",
    ),
    "switches that are a text": (lambda: turns("q", "a", chat_template_kwargs="x"), "schema", "an object"),
    "tools that are an object": (lambda: turns("q", "a", tools={"x": 1}), "schema", "a list"),
}


@pytest.mark.parametrize(("write", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_a_hostile_row_is_a_trouble_of_its_own(
    tmp_path: Path, write: Callable[[], bytes], code: str, words: str
) -> None:
    found = read(tmp_path, write())

    assert len(found) == 3
    [(row, trouble)] = found.row_errors.items()
    assert (row, trouble.code) == (1, code)
    assert words in trouble.message
    assert found.line.tolist() == [1, 2, 3]


TAKEN: dict[str, Callable[[], bytes]] = {
    "an escaped NUL": lambda: turns("q\x00", "a"),
    "line separators": lambda: turns("q\u2028", "a\u2029\x85"),
    "line separators, raw": lambda: '{"messages": [{"role": "user", "content": "a\u2028b\x85"}]}\n'.encode(),
    "a key twice": lambda: GOOD.replace(b"{", b'{"messages": [], ', 1),
    "an answer of 200,000 brackets": lambda: turns("q", "[" * 200_000),
    "an answer with a number of 10,000 digits": lambda: turns("q", '{"n": ' + "9" * 10_000 + "}"),
    "a hundred thousand keys": lambda: turns("q", "a", **{f"k{n}": n for n in range(100_000)}),
    "parts that are no parts": lambda: turns([{"type": ["x"], "text": 5}, 7, None], "a"),
    "a weight that is none": lambda: turns("q", "a").replace(b'"role"', b'"weight": {"a": [1]}, "role"'),
}


@pytest.mark.parametrize("write", TAKEN.values(), ids=TAKEN)
def test_an_odd_row_is_read_as_one_row(tmp_path: Path, write: Callable[[], bytes]) -> None:
    found = read(tmp_path, write())

    assert len(found) == 3
    assert not found.row_errors


def test_answers_that_are_no_json_for_python_are_remarked_as_broken(tmp_path: Path) -> None:
    for text in ("[" * 200_000, '{"n": ' + "9" * 10_000 + "}", '{"a": 1'):
        folder = tmp_path / str(len(text))
        folder.mkdir()
        assert read(folder, turns("q", text)).remarks["broken-json"] == (1,)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '[{"n": ' + "9" * 10_000 + "}]"], ids=["deep", "many digits"]
)
def test_a_hostile_json_array_is_a_trouble_too(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(text, encoding="utf-8")

    [row] = files.stream(Source((str(path),)))

    assert isinstance(row.trouble, RowError)
    assert row.trouble.code == "json"
