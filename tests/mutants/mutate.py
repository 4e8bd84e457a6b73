"""Breaks texts and JSON values at random: bytes, structure, types, sizes; all from one seeded source."""

import contextlib
import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

DEEP = 200_000
"""Levels of the deepest JSON."""
FORGED = "x\npolicy.yaml:1:1: error: forged\x1b[31m"

WEIRD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    "",
    " ",
    "0",
    "null",
    "~nouser/x",
    "~",
    "/dev/zero",
    "/proc/self/mem",
    ".",
    "..",
    "\0",
    "\ud800",
    "é" * 300,
    "x" * 5000,
    FORGED,
    "2026-01-01",
    "{{ 1 }}",
    "[redacted]",
    "<|im_end|>",
    [],
    {},
    [[]],
    [None],
    [{}],
    {"": None},
    {"name": []},
    ["a", 1, None],
    [{"name": ["a"], "template": "x"}],
)
"""Values that stand where others are meant."""

TOKENS = (
    "{{", "}}", "{%", "%}", "{% for m in messages %}", "{% endfor %}", "{{ messages[0]['content'] }}",
    "{{ raise_exception(messages[0]['content']) }}", "{{ messages[9] }}", "{{ undefined.x.y }}",
    "{% generation %}", "{% endgeneration %}", "{% set x = 1 %}", "{{ 'x' * 100000000 }}",
    "{% for i in range(1000000000) %}x{% endfor %}", "{{ 1 / 0 }}", "{{ messages | tojson }}",
    "{% include 'x' %}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ strftime_now(1) }}",
    "{{ ''.__class__ }}", "&a ", "*a", "!!python/object:os.system ", "!tag ", "<<: ", "? ", "- ", ": ", "#",
    "---\n", "...\n", "%YAML 1.1\n", "|\n", ">\n", "\t", "\"", "'", "[", "]", "{", "}", "~nouser", "1e400",
    "0x1F", "2026-13-45", ".inf", ".nan", "null", "=", "\0", "\u2028", "\ufeff", "\x85", FORGED, "9" * 5000,
)  # fmt: skip
"""Pieces that mean something to a parser."""


def broken_json(source: random.Random, value: Any) -> bytes:
    """A JSON value, broken in its structure, in its text, or as a whole."""
    kind = source.random()
    if kind < 0.7:
        made = copy.deepcopy(value)
        for _ in range(source.choice((1, 1, 1, 2, 5))):
            made = _altered(source, made)
        return _dumped(made)
    return broken_bytes(source, _dumped(value)) if kind < 0.93 else whole(source)


def _dumped(value: Any) -> bytes:
    """As JSON; what is nested too deeply for Python's own writer is empty."""
    with contextlib.suppress(RecursionError):
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return b""


def _altered(source: random.Random, value: Any) -> Any:
    """The value with one part changed."""
    places = list(_places(value))
    if not places:
        return source.choice(WEIRD)
    owner, key = source.choice(places)
    action = source.choice(
        ("replace", "replace", "replace", "remove", "rename", "add", "wrap", "swap", "deep")
    )
    if action == "replace":
        owner[key] = copy.deepcopy(source.choice(WEIRD))
    elif action == "remove":
        del owner[key]
    elif action == "rename" and isinstance(owner, dict):
        owner[str(source.choice(WEIRD))] = owner.pop(key)
    elif action == "add":
        new = copy.deepcopy(source.choice(WEIRD))
        if isinstance(owner, dict):
            owner[str(source.choice(WEIRD))] = new
        else:
            owner.insert(source.randrange(len(owner) + 1), new)
    elif action == "wrap":
        owner[key] = [owner[key]]
    elif action == "swap":
        other, place = source.choice(places)
        with contextlib.suppress(KeyError, IndexError, RecursionError):
            owner[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(owner[key])
    else:
        owner[key] = nested(source.choice((150, 199, 300)))
    return value


def nested(levels: int) -> Any:
    """Lists and objects in each other."""
    value: Any = None
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def _places(value: Any) -> Any:
    """Every part of a value, by what it lies in and its key there."""
    todo = [value]
    while todo:
        one = todo.pop()
        keys: Sequence[Any] = (
            list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        )
        for key in keys:
            yield one, key
            todo.append(one[key])


def broken_text(source: random.Random, text: str) -> bytes:
    """A text of lines (YAML, a template, JSON lines), broken by lines, pieces, and bytes."""
    kind = source.random()
    if kind < 0.06:
        return whole(source)
    if kind < 0.25:
        return broken_bytes(source, text.encode())
    for _ in range(source.choice((1, 1, 2, 4))):
        text = source.choice(LINES)(source, text)
    return text.encode("utf-8", "surrogatepass")


def _without_line(source: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    if lines:
        del lines[source.randrange(len(lines))]
    return "".join(lines)


def _twice(source: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    if lines:
        lines.insert(source.randrange(len(lines)), source.choice(lines))
    return "".join(lines)


def _swapped(source: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    source.shuffle(lines) if source.random() < 0.1 else None
    if len(lines) > 1:
        one, other = source.randrange(len(lines)), source.randrange(len(lines))
        lines[one], lines[other] = lines[other], lines[one]
    return "".join(lines)


def _indented(source: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    if lines:
        place = source.randrange(len(lines))
        lines[place] = source.choice(("  ", "\t", " ", "- ")) + lines[place].lstrip(" ")
    return "".join(lines)


def _with_token(source: random.Random, text: str) -> str:
    place = source.randrange(len(text) + 1)
    return text[:place] + source.choice(TOKENS) + text[place:]


def _other_value(source: random.Random, text: str) -> str:
    """What stands behind a colon is something else."""
    lines = text.splitlines(keepends=True)
    places = [n for n, line in enumerate(lines) if ": " in line]
    if not places:
        return text
    place = source.choice(places)
    head = lines[place].partition(": ")[0]
    value = source.choice(WEIRD)
    said = json.dumps(value) if source.random() < 0.7 else source.choice(TOKENS)
    lines[place] = f"{head}: {said}\n"
    return "".join(lines)


LINES: tuple[Callable[[random.Random, str], str], ...] = (
    _without_line,
    _twice,
    _swapped,
    _indented,
    _with_token,
    _with_token,
    _other_value,
    _other_value,
    _other_value,
)


def broken_bytes(source: random.Random, content: bytes) -> bytes:
    """Bytes changed, removed, doubled, inserted, or the end cut off."""
    content = bytearray(content)  # type: ignore[assignment]
    for _ in range(source.choice((1, 1, 2, 8))):
        place = source.randrange(len(content) + 1)
        stop = min(len(content), place + source.choice((1, 1, 4, 50)))
        action = source.randrange(5)
        if action == 0:
            content = content[:place]
        elif action == 1:
            content = content[:place] + content[stop:]
        elif action == 2:
            content = content[:place] + content[place:stop] + content[place:]
        elif action == 3:
            content = (
                content[:place] + bytes(source.randrange(256) for _ in range(stop - place)) + content[stop:]
            )
        else:
            piece = source.choice(
                (b"\xff", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b'"', b"}", b"]", b",")
            )
            content = content[:place] + piece + content[place:]
    return bytes(content)


def whole(source: random.Random) -> bytes:
    """Another content altogether."""
    return source.choice(
        (
            b"",
            b" \n",
            b"null",
            b"[]",
            b"{}",
            b"0",
            b'"text"',
            b"[" * DEEP,
            b"[" * DEEP + b"]" * DEEP,
            b'{"a":' * DEEP + b"1" + b"}" * DEEP,
            b"[" * 600 + b"]" * 600,
            b"9" * 10_000,
            b'{"a": ' + b"9" * 10_000 + b"}",
            b"\0" * 1000,
            b"\xff\xfe" + "{}".encode("utf-16-le"),
            b"\xef\xbb\xbf{}",
            b"x" * 2_000_000,
            b"a: &a [*a]\n",
            b"a: &a [b, b]\nb: &b [*a, *a]\nc: [*b, *b]\n",
            bytes(range(256)) * 16,
        )
    )
