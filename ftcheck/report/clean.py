"""Untrusted text on its way into a report: secrets out, control characters shown, no line that it begins."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from ftcheck.errors import Problem, in_one_line
from ftcheck.records import Change, Check, Finding, Location, Measurement, Result
from ftcheck.report.record import Report
from ftcheck.report.redact import redact_json, redactor, visible

Record = TypeVar("Record")
IN_ONE_LINE = (Check, Finding, Location, Problem, Report, Result)
"""Records whose texts stand in one line each, as they are shown."""
IN_LINES = {(Finding, "message"), (Result, "detail"), (Result, "reason")}
"""Texts of several lines: the first says what is wrong, the others quote what it is about."""
GUTTER = "  | "
"""How the other lines begin: none of them looks like a place in a file."""


def clean(record: Record) -> Record:
    """The same record with all its texts redacted and their control characters made visible."""
    redact = redactor()
    cleaned: Record = _cleaned(record, lambda text: visible(redact(text)))
    return cleaned


def _cleaned(value: Any, show: Callable[[str], str]) -> Any:
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return show(value)
    if isinstance(value, (Change, Measurement)):
        return type(value)(**_cleaned({f.name: getattr(value, f.name) for f in fields(value)}, _line(show)))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _field(value, f.name, show) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(_cleaned(one, show) for one in value)
    return _shown(redact_json(value), show) if isinstance(value, (Mapping, list)) else value


def _field(record: Any, name: str, show: Callable[[str], str]) -> Any:
    value = getattr(record, name)
    if isinstance(value, Enum) or not isinstance(record, IN_ONE_LINE):
        return _cleaned(value, show)
    if isinstance(value, str):
        return with_gutter(show(value)) if (type(record), name) in IN_LINES else show(in_one_line(value))
    if isinstance(value, tuple) and all(type(one) is str for one in value):
        return tuple(show(in_one_line(one)) for one in value)
    return _cleaned(value, show)


def _line(show: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: show(in_one_line(text))


def with_gutter(text: str) -> str:
    """A text of several lines of which only the first can be taken for a line of the report's own."""
    first, *others = text.split("\n")
    return "\n".join([first, *(one if one.startswith(GUTTER) else GUTTER + one for one in others)])


def _shown(value: Any, show: Callable[[str], str]) -> Any:
    """What a key's name gives away is out already; mappings may hold records too."""
    if isinstance(value, Mapping):
        return {show(str(key)): _shown(one, show) for key, one in value.items()}
    return [_shown(one, show) for one in value] if isinstance(value, list) else _cleaned(value, show)
