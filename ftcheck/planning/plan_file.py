"""Reads plans that `ftcheck plan -o json` wrote: the records again, as far as pages show them."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ftcheck.errors import UsageError
from ftcheck.inputs import bounded
from ftcheck.packing.lengths import Histogram, TrainedPositions
from ftcheck.planning.records import JobPlan, Lengths, Unplanned

SCHEMA = "ftcheck.plan/1"
MAX_PLAN = 64 << 20
"""Bytes of a plan; one of many jobs with long rows has a few million."""
MAX_TOKENS = 1 << 24
"""Tokens of the longest row that a plan may tell of."""


def read_plans(path: str | Path) -> list[JobPlan | Unplanned]:
    """The plans of a file. Raises `UsageError` with the file and what is wrong with it."""
    try:
        return from_dict(bounded.read_json(path, MAX_PLAN))
    except OSError as error:
        raise UsageError(f"{path}: {bounded.told(error)}") from error
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path}: not a plan that this version of ftcheck can read: write it again with"
        raise UsageError(f"{message} ftcheck plan -o json={path}") from error


def from_dict(data: Any) -> list[JobPlan | Unplanned]:
    """The plans of a JSON value. Raises `KeyError`, `TypeError` or `ValueError` for one that is none."""
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema is {data['schema']!r}")
    return [_read(Unplanned if "reason" in one else JobPlan, one) for one in data["jobs"].values()]


def _read(kind: Any, data: Any) -> Any:
    """A value of a type out of JSON; what a record does not know of its object is left out."""
    if kind is Any:
        return data
    if kind is Histogram:
        return _histogram(data)
    if is_dataclass(kind):
        return _record(kind, data)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if data is None else _read(next(one for one in inner if one is not NoneType), data)
    if origin is tuple:
        return _tuple(inner, data)
    if origin is Mapping:
        return {str(key): _read(inner[1], one) for key, one in data.items()}
    return _plain(kind, data)


def _plain(kind: type[Any], data: Any) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise TypeError(f"{data!r} is no {kind.__name__}")
    return data


def _record(kind: Any, data: Any) -> Any:
    hints = _hints(kind)
    known = [one.name for one in fields(kind) if one.name in data]
    if kind is Lengths:
        return kind(
            **{name: _read(hints[name], data[name]) for name in known if name != "trained"},
            trained=_trained(data),
        )
    return kind(**{name: _read(hints[name], data[name]) for name in known})


def _trained(data: Mapping[str, Any]) -> TrainedPositions:
    """Where the trained tokens stand; how many there are stands beside it."""
    positions = _histogram(data["trained"]["positions"])
    return TrainedPositions(positions.counts, int(data["trained_tokens"]), bool(data["trained"]["exact"]))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _tuple(inner: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    if inner[1:] == (...,):
        return tuple(_read(inner[0], one) for one in data)
    return tuple(_read(one, value) for one, value in zip(inner, data, strict=True))


def _histogram(pairs: Any) -> Histogram:
    import numpy as np

    if any(not 0 <= length <= MAX_TOKENS for length, _ in pairs):
        raise ValueError("a length is out of range")
    counts = np.zeros(max((length for length, _ in pairs), default=-1) + 1, dtype=np.int64)
    for length, count in pairs:
        counts[length] = count
    return Histogram(counts)
