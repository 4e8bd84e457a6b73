"""Untrusted text on its way into a report: secrets out, control characters shown."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from ftcheck.records import Change, Measurement
from ftcheck.report.redact import redact_json, redactor, visible

Record = TypeVar("Record")


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
        return type(value)(**_cleaned({f.name: getattr(value, f.name) for f in fields(value)}, show))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _cleaned(getattr(value, f.name), show) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(_cleaned(one, show) for one in value)
    return _shown(redact_json(value), show) if isinstance(value, (Mapping, list)) else value


def _shown(value: Any, show: Callable[[str], str]) -> Any:
    """What a key's name gives away is out already; mappings may hold records too."""
    if isinstance(value, Mapping):
        return {show(str(key)): _shown(one, show) for key, one in value.items()}
    return [_shown(one, show) for one in value] if isinstance(value, list) else _cleaned(value, show)
