"""Untrusted text on its way into a report: secrets out, control characters shown."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from ftcheck.records import Change, Measurement
from ftcheck.redact import redact, redact_json, visible

Record = TypeVar("Record")


def clean(record: Record) -> Record:
    """The same record with all its texts redacted and their control characters made visible."""
    cleaned: Record = _cleaned(record)
    return cleaned


def _cleaned(value: Any) -> Any:
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return visible(redact(value))
    if isinstance(value, (Change, Measurement)):
        return type(value)(**_cleaned({f.name: getattr(value, f.name) for f in fields(value)}))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _cleaned(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(_cleaned(one) for one in value)
    return _shown(redact_json(value)) if isinstance(value, (Mapping, list)) else value


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {visible(key) if isinstance(key, str) else key: _cleaned(one) for key, one in value.items()}
    return [_cleaned(one) for one in value]
