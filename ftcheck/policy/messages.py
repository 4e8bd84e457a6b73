"""Says what is wrong in plain words: what was expected, what stands there, what was probably meant."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import date
from difflib import get_close_matches
from enum import Enum
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from ftcheck.policy.extra_keys import below, members

NAMES: Mapping[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "true or false"),
    date: ("a date such as 2026-12-31", "dates"),
}
YES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
SHOWN = 40


def close(word: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: one spelt alike, or the only one that contains all its parts."""
    folded = {name.lower(): name for name in names}
    alike = get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    if alike:
        return folded[alike[0]]
    parts = set(re.split(r"[_\-.]", word.lower()))
    holding = [name for low, name in folded.items() if parts <= set(re.split(r"[_\-.]", low))]
    return holding[0] if len(holding) == 1 else None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    meant = close(word, names)
    return f"; did you mean '{meant}'?" if meant else ""


def listed(names: Sequence[str]) -> str:
    """`'a', 'b' or 'c'`."""
    quoted = [f"'{name}'" for name in names]
    return " or ".join(part for part in (", ".join(quoted[:-1]), quoted[-1]) if part)


def mismatch(kind: Any, value: Any) -> str:
    """Why a value is not of its kind."""
    return f"must be {expected(kind)}, not {shown(value)}{_hint(kind, value)}"


def expected(kind: Any) -> str:
    """What a field takes, in words."""
    choices = choices_of(kind)
    others = [said for part in members(kind) if not _choices(part) for said in _others(part)]
    said = list(dict.fromkeys([*([listed(choices)] if choices else []), *others]))
    return " or ".join(said) if said else "null"


def choices_of(kind: Any) -> list[str]:
    """The words a field takes, where they are given."""
    return [choice for part in members(kind) for choice in _choices(part)]


def _choices(part: Any) -> list[str]:
    if get_origin(part) is Literal:
        return [choice for choice in get_args(part) if isinstance(choice, str)]
    if isinstance(part, type) and issubclass(part, Enum):
        return [str(choice.value) for choice in part]
    return []


def _others(part: Any) -> list[str]:
    return [str(choice) for choice in get_args(part)] if get_origin(part) is Literal else [_one(part)]


def _one(part: Any) -> str:
    if part in NAMES:
        return NAMES[part][0]
    if get_origin(part) is not tuple and part not in (tuple, list):
        return "a mapping" if is_mapping(part) else str(getattr(part, "__name__", part))
    items = [item for item in get_args(part) if item is not Ellipsis]
    if len(items) == 2:
        return f"two {NAMES[items[0]][1]}, [lowest, highest]"
    return "a list" + (f" of {NAMES[items[0]][1]}" if items and items[0] in NAMES else "")


def is_mapping(part: Any) -> bool:
    """Whether a kind is written as a mapping."""
    origin = get_origin(part) or part
    return is_dataclass(part) or (isinstance(origin, type) and issubclass(origin, Mapping))


def shown(value: Any) -> str:
    """A value as it stands in a message."""
    if isinstance(value, str):
        return f"the text '{value if len(value) <= SHOWN else value[: SHOWN - 3] + '...'}'"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _hint(kind: Any, value: Any) -> str:
    parts = members(kind)
    if isinstance(value, str):
        return _text_hint(parts, value) or _key_hint(parts, value) or did_you_mean(value, choices_of(kind))
    if str in parts and not isinstance(value, Mapping | list | tuple | NoneType):
        return "; put it in quotes"
    if int in parts and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    return ""


def _text_hint(parts: Sequence[Any], value: str) -> str:
    if bool in parts and value.lower() in YES:
        return f"; write {YES[value.lower()]}"
    if not any(part in (int, float) or 1 in get_args(part) for part in parts):
        return ""
    if _is_number(value):
        return "; write it without quotes"
    bare = re.sub(r"[,'_ ]", "", value)
    return f"; write {bare}" if _is_number(bare) else ""


def _key_hint(parts: Sequence[Any], value: str) -> str:
    """The mapping that a text was probably meant to be: with one key that must be there, a text too."""
    for part in parts if len(value) <= SHOWN else ():
        needed = [one for one in fields(part) if one.default is MISSING] if is_dataclass(part) else []
        if len(needed) == 1 and needed[0].default_factory is MISSING and below(part, needed[0].name) is str:
            return f"; write {{{needed[0].name}: {value}}}"
    return ""


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", text) is not None
