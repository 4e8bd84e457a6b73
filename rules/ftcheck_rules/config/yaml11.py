"""Values of a YAML file that PyYAML (YAML 1.1) reads differently than they look.

`1e-5` has no dot and is a text, `08` is not an octal number and is a text, `12:30` is 750, `010` is 8; a key
`on` is true. Quoted values are what they look like, and so are values such as `1.0e-5`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ftcheck.inputs import bounded

LIMIT = 1 << 16
"""Larger files are not read: a training configuration has a few kilobytes."""

DEEPEST = 50
"""Nested lists and mappings; the parser's time grows with the square of the depth."""

FLOAT = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
INTEGER = re.compile(
    r"[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+"
    r"|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+"
)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
"""What looks like a number."""

CLOCK = re.compile(r"[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
OCTAL = re.compile(r"[-+]?0[0-7_]*[1-7][0-7_]*")
SWITCH = re.compile(r"(?:yes|no|on|off)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Misread:
    """One place, counted from 1. `certain` where nobody can have intended what PyYAML reads."""

    line: int
    column: int
    message: str
    fix: str
    certain: bool = True


@dataclass
class _Level:
    mapping: bool
    key: str | None = None
    expects_key: bool = field(default=True)


def misread(path: Path) -> Iterator[Misread]:
    """What PyYAML would read differently than it looks, or why it could not read the file at all.

    Raises `OSError` for a file that cannot be read.
    """
    if path.is_file() and path.stat().st_size > LIMIT:
        message = f"larger than {LIMIT >> 10} KiB: not checked, a training configuration is smaller"
        yield Misread(1, 1, message, "name another file", certain=False)
        return
    try:
        yield from _of_text(bounded.read(path, LIMIT).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        yield Misread(1, 1, f"not UTF-8 (byte {error.start})", "save the file as UTF-8")


def _of_text(text: str) -> Iterator[Misread]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    levels: list[_Level] = []
    try:
        for event in YAML(typ="rt", pure=True).parse(text):
            yield from _of_event(event, levels)
            if len(levels) > DEEPEST:
                yield _at(event, f"more than {DEEPEST} levels deep", "name another file", True)
                return
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        yield Misread(line, column, f"not valid YAML: {error.problem or error.context}", "fix the file")
    except (YAMLError, ValueError, RecursionError) as error:
        yield Misread(1, 1, f"not valid YAML: {' '.join(str(error).split())[:200]}", "fix the file")


def _of_event(event: object, levels: list[_Level]) -> Iterator[Misread]:
    from ruamel.yaml.events import (
        AliasEvent,
        MappingEndEvent,
        MappingStartEvent,
        ScalarEvent,
        SequenceEndEvent,
        SequenceStartEvent,
    )

    level = levels[-1] if levels else None
    if isinstance(event, ScalarEvent):
        plain = event.style in (None, "") and event.tag is None and event.implicit[0]
        if level is not None and level.mapping and level.expects_key:
            level.key, level.expects_key = event.value, False
            if plain:
                yield from _key(event)
            return
        if plain:
            yield from _value(event, level.key if level else None)
    elif isinstance(event, MappingEndEvent | SequenceEndEvent):
        levels.pop()
        level = levels[-1] if levels else None
    elif isinstance(event, MappingStartEvent | SequenceStartEvent):
        mapping = isinstance(event, MappingStartEvent)
        levels.append(_Level(mapping, None if mapping or level is None else level.key))
        return
    elif not isinstance(event, AliasEvent):
        return
    if level is not None and level.mapping:
        level.expects_key = not level.expects_key


def _key(event: object) -> Iterator[Misread]:
    value = str(event.value)  # type: ignore[attr-defined]
    if SWITCH.fullmatch(value):
        truth = value.lower() in ("yes", "on")
        yield _at(event, f"PyYAML reads the key {value} as {str(truth).lower()}", f'write "{value}":', False)


def _value(event: object, key: str | None) -> Iterator[Misread]:
    value = str(event.value)  # type: ignore[attr-defined]
    name = f"{key}: " if key is not None else ""
    if NUMBER.fullmatch(value) and not FLOAT.fullmatch(value) and not INTEGER.fullmatch(value):
        certain = "e" in value.lower()
        written = dotted(value) if certain else (value.lstrip("0") or "0")
        yield _at(
            event, f"{name}{value} is read by PyYAML as a text, not a number", f"write {written}", certain
        )
    elif CLOCK.fullmatch(value):
        message = f"{name}{value} is read by PyYAML as {sexagesimal(value):g} (base 60)"
        yield _at(event, message, f'write "{value}"', False)
    elif OCTAL.fullmatch(value):
        number = int(value.replace("_", ""), 8)
        message = f"{name}{value} is read by PyYAML as {number} (octal)"
        yield _at(event, message, f'write "{value}", or {number}', False)
    elif key is not None and key.endswith("_strategy") and value.lower() in ("no", "off"):
        yield _at(event, f"{name}{value} is read by PyYAML as false, not a text", f'write "{value}"', False)


def _at(event: object, message: str, fix: str, certain: bool) -> Misread:
    mark = event.start_mark  # type: ignore[attr-defined]
    return Misread(mark.line + 1, mark.column + 1, message, fix, certain)


def dotted(value: str) -> str:
    """A number with an exponent as YAML 1.1 reads it: with a dot, and a sign in the exponent."""
    mantissa, _, exponent = value.lower().partition("e")
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent if exponent[0] in '+-' else '+' + exponent}"


def sexagesimal(value: str) -> float:
    """What YAML 1.1 makes of `12:30`."""
    sign = -1 if value[0] == "-" else 1
    total = 0.0
    for part in value.lstrip("+-").replace("_", "").split(":"):
        total = total * 60 + float(part)
    return sign * total
