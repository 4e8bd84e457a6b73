"""JSON files read a part at a time: what json.loads accepts, with its values, and nothing else."""

import io
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.reading import json_window
from ftcheck_plugins.reading.files import Source, stream
from ftcheck_plugins.reading.json_window import Fault, JsonWindow
from ftcheck_plugins.reading.raw_rows import RawRow

TEXTS = ["", "x", "[{", '"', "\\", "a\nb", "naïve", "日本", "😀", "\x00", "\ud83d", "}],", "/", "\u2028"]
NUMBERS = [0, -0.0, 1, -7, 2**70, 0.1, 1e-12, 37.77492951234567, 1e400, float("nan"), -float("inf"), 1.5e300]
DAMAGE = [
    "",
    ",",
    "]",
    "[",
    "{",
    "}",
    '"',
    ":",
    "\\",
    "x",
    " ",
    "\n",
    "0",
    "-",
    "1.",
    "NaN",
    "tru",
    "\x01",
    "\t",
]
DAMAGE += ["\\u12", "\ufeff", "\xa0", "\x0c", "//", "'", "é"]


def value(draw: random.Random, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = draw.random()
    if depth < 4 and kind < 0.2:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if depth < 4 and kind < 0.45:
        return {draw.choice(TEXTS): value(draw, depth + 1) for _ in range(draw.randrange(4))}
    return draw.choice([*TEXTS, *NUMBERS, True, False, None])


def document(draw: random.Random) -> str:
    """An array or an object, as people and libraries write them; keys may stand twice."""
    made = [value(draw) for _ in range(draw.randrange(5))] if draw.random() < 0.7 else {"a": value(draw)}
    indent = draw.choice([None, None, 0, 1, 4])
    separators = draw.choice([None, (",", ":"), (" , ", " : ")])
    text = json.dumps(made, indent=indent, separators=separators, ensure_ascii=draw.random() < 0.5)
    text = text.replace('"x"', '"x":1,"x"') if draw.random() < 0.1 else text
    return draw.choice(["", "", " ", "\n\r\t "]) + text + draw.choice(["", "", "\n", " \r\n"])


def damaged(draw: random.Random, text: str) -> str:
    """The text with a few characters more, fewer, or others."""
    for _ in range(draw.choice([1, 1, 2])):
        at = draw.randrange(len(text) + 1)
        text = text[:at] + draw.choice(DAMAGE) + text[at + draw.choice([0, 0, 1, 2, 20]) :]
    return text


def loaded(text: str) -> tuple[list[Any], bool]:
    """What json.loads makes of a document: its rows, and whether it accepts it."""
    try:
        found = json.loads(text)
    except ValueError:
        return [], False
    return (found if isinstance(found, list) else [found]), True


def read(content: bytes) -> tuple[list[Any], bool]:
    """The items of an array, or the one value that there is; False where there is a fault."""
    window = JsonWindow(io.BytesIO(content), 1 << 20)
    items = []
    try:
        if window.take("["):
            more = window.peek() != "]"
            while more:
                items.append(window.value().value)
                more = window.take(",")
            if not window.take("]"):
                return items, False
        else:
            items.append(window.value().value)
        return items, window.peek() == ""
    except Fault:
        return items, False


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 18])
def test_exactly_what_json_loads_accepts_is_read_and_with_its_values(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_window, "CHUNK", chunk)
    draw, accepted, refused = random.Random(chunk), 0, 0
    while accepted < 700 or refused < 700:
        text = document(draw)
        text = damaged(draw, text) if draw.random() < 0.6 else text
        if text.lstrip(" \n\r\t")[:1] not in ("[", "{"):
            continue
        content = text.encode("utf-8", "surrogatepass")
        if b"\xed\xa0" in content:  # half a character that is not escaped is no UTF-8
            continue
        wanted, good = loaded(text)

        items, whole = read(content)

        assert whole == good, text
        assert not good or repr(items) == repr(wanted), text
        accepted, refused = accepted + good, refused + (not good)


@pytest.mark.parametrize("chunk", [1, 5, 1 << 18])
def test_every_value_has_its_line_its_offset_and_its_bytes(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_window, "CHUNK", chunk)
    draw = random.Random(3)
    rows = [{"a": value(draw), "b": "日本"} for _ in range(60)]
    text = (
        "["
        + ",".join(draw.choice(["", " ", "\n", "\r\n\t"]) + json.dumps(row, indent=1) for row in rows)
        + "]"
    )
    content = text.encode()
    window = JsonWindow(io.BytesIO(content), 1 << 20)

    window.take("[")
    for _ in rows:
        line, offset, column = window.line, window.offset, window.column
        found = window.value()
        assert content[offset : offset + len(found.content)] == found.content
        assert line == content[:offset].count(b"\n") + 1
        assert column == len(content[:offset].rpartition(b"\n")[2].decode()) + 1
        window.take(",")


@pytest.mark.parametrize("chunk", [1, 6, 1 << 18])
@pytest.mark.parametrize(
    "text", ['[\n{"é": 1},\n  {"日": tru}]', '[{"a": "\n"}]', "[1,\n\n 2 3]", '[\n{"a": 1,}]']
)
def test_a_fault_stands_where_json_loads_finds_it(
    text: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_window, "CHUNK", chunk)
    with pytest.raises(json.JSONDecodeError) as wanted:
        json.loads(text)

    [*_, row] = rows_of(tmp_path / "x.json", text.encode())

    assert row.trouble is not None
    assert (row.line, row.trouble.column) == (wanted.value.lineno, wanted.value.colno)
    assert row.offset == len(text[: wanted.value.pos].encode())
    assert row.trouble.message == f"not valid JSON: {wanted.value.msg[0].lower()}{wanted.value.msg[1:]}"


def rows_of(name: Path, content: bytes) -> list[RawRow]:
    """The rows of a file that holds some bytes."""
    name.write_bytes(content)
    return list(stream(Source((str(name),))))


def test_bytes_that_are_not_utf_8_are_a_fault_or_a_doubtful_value() -> None:
    window = JsonWindow(io.BytesIO(b'[{"a": "\xff"},\xff]'), 100)
    window.take("[")
    inside = window.value()
    window.take(",")

    assert inside.doubtful
    assert inside.content == b'{"a": "\xff"}'
    with pytest.raises(Fault, match="not UTF-8: byte 0xff"):
        window.value()


def test_a_value_over_the_limit_is_a_fault_and_not_read_to_its_end() -> None:
    handle = io.BytesIO(b'[{"a": "' + b"x" * (64 << 20) + b'"}]')
    window = JsonWindow(handle, 1 << 20)
    window.take("[")

    with pytest.raises(Fault, match="a value longer than 1 MiB"):
        window.value()
    assert handle.tell() < 8 << 20


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    row = json.dumps({"text": "x" * 10_000})
    path.write_text(f"[{','.join([row] * 3000)}]", encoding="utf-8")

    tracemalloc.start()
    try:
        count = sum(1 for _ in stream(Source((str(path),))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 3000
    assert peak < 4 << 20 < path.stat().st_size
