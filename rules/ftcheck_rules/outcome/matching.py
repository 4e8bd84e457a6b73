"""Whether an answer matches the expected one: as text, JSON or number, by fields or a pattern, as calls."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ftcheck import GoldSet, OutputSchema
from ftcheck.inputs import tool_parsers
from ftcheck.inputs.evaluation import GoldItem
from ftcheck.inputs.finished_run import Generation
from ftcheck.inputs.output_schema import parsed
from ftcheck.inputs.tool_parsers import FunctionCall, Unreadable, same

Kind = Literal["exact", "json", "numeric", "field", "regex"]
WHOLE = ""
NUMBER = re.compile(r"[-+]?(?:\d[\d,_]*)?\.?\d+(?:[eE][-+]?\d+)?%?")


@dataclass(frozen=True)
class Matching:
    """Parameters of rules that compare answers with expected ones."""

    match: Literal["auto", "exact", "json", "numeric", "field", "regex"] = "auto"
    """How answers are compared; `auto`: as JSON where the job has an output schema or JSON is expected,
    else by `pattern` where it is set, else as text without surrounding whitespace. Expected calls are
    always compared as calls."""
    pattern: str | None = None
    """A regular expression whose last match in an answer counts: its first group, or all of it."""
    fields: tuple[str, ...] = ()
    """Keys that `field` compares; default: those of the expected answer. Other keys may differ."""
    tolerance: float = 1e-9
    """Relative difference up to which `numeric` treats two numbers as equal."""
    ignore_case: bool = False
    """Whether `exact` and `regex` ignore upper and lower case."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for an invalid pattern, and for `regex` without one."""
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern is not a valid regular expression: {error}") from error
        elif self.match == "regex":
            raise ValueError("match: regex needs a pattern")


@dataclass(frozen=True, slots=True)
class Compared:
    """One answer compared with the expected one. `unread` says why it was not comparable, without quoting it.

    `fields` says for each key of an expected JSON object whether it is right. `confused` are pairs of values,
    the expected and the given one, by field (`WHOLE`: the whole answer); they may be user content.
    """

    right: bool
    unread: str | None = None
    fields: Mapping[str, bool] = field(default_factory=dict)
    confused: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


class Unusable(ValueError):
    """An expected answer that cannot be compared in this way."""


def kind_of(params: Matching, gold: GoldSet, schema: OutputSchema | None) -> Kind:
    """How the answers of this gold set are compared."""
    if params.match != "auto":
        return params.match
    values = [item.expected for item in gold.items if not item.calls]
    if schema is not None or (values and all(isinstance(one, dict | list) for one in values)):
        return "json"
    if params.pattern is not None:
        return "regex"
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
    return "numeric" if values and numbers else "exact"


def compared(kind: Kind, params: Matching, item: GoldItem, text: str) -> Compared:
    """One answer against what is expected. Raises `Unusable` for an expected answer of another kind."""
    if kind == "json":
        return _json(item, text)
    if kind == "field":
        return _by_field(params.fields, item, text)
    if kind == "numeric":
        return _numeric(params.tolerance, item, text)
    if kind == "regex":
        return _regex(params, item, text)
    return Compared(_folded(item.answer, params) == _folded(text, params))


def _folded(text: str, params: Matching) -> str:
    return text.strip().casefold() if params.ignore_case else text.strip()


def _json(item: GoldItem, text: str) -> Compared:
    wanted, found = _expected(item), _parsed(text)
    keys = list(wanted) if isinstance(wanted, dict) else []
    if found is _NOT_JSON:
        return Compared(False, "not valid JSON", dict.fromkeys(keys, False))
    right = _fields(keys, wanted, found)
    return Compared(same(wanted, found), None, right, _confused(right, wanted, found))


def _by_field(names: Sequence[str], item: GoldItem, text: str) -> Compared:
    wanted, found = _expected(item), _parsed(text)
    if not isinstance(wanted, dict):
        raise Unusable("is not a JSON object, so it has no fields")
    missing = [name for name in names if name not in wanted]
    if missing:
        raise Unusable(f"has no field '{missing[0]}'")
    keys = list(names or wanted)
    if not isinstance(found, dict):
        why = "not valid JSON" if found is _NOT_JSON else "not a JSON object"
        return Compared(False, why, dict.fromkeys(keys, False))
    right = _fields(keys, wanted, found)
    return Compared(all(right.values()), None, right, _confused(right, wanted, found))


def _fields(keys: Sequence[str], wanted: Any, found: Any) -> dict[str, bool]:
    return {key: isinstance(found, dict) and key in found and same(wanted[key], found[key]) for key in keys}


def _confused(right: Mapping[str, bool], wanted: Any, found: Any) -> dict[str, tuple[Any, Any]]:
    given = found if isinstance(found, dict) else {}
    return {key: (wanted[key], given[key]) for key, good in right.items() if not good and key in given}


_NOT_JSON = object()


def _parsed(text: str) -> Any:
    try:
        return parsed(text.strip())
    except (ValueError, RecursionError):
        return _NOT_JSON


def _expected(item: GoldItem) -> Any:
    """The expected JSON value; a text is read as JSON."""
    if not isinstance(item.expected, str):
        return item.expected
    value = _parsed(item.expected)
    if value is _NOT_JSON:
        raise Unusable("is not valid JSON")
    return value


def calls_compared(form: str | None, item: GoldItem, answer: Generation) -> Compared:
    """An answer against expected calls: the same functions with the same arguments.

    The order of keys does not matter, nor that of parallel calls, which are run side by side. Raises
    `Unusable` where the format of the model's calls is unknown.
    """
    try:
        given = calls_in(form, item, answer)
    except Unreadable as error:
        return Compared(False, str(error), {"function": False, "arguments": False})
    if not given:
        return Compared(False, "no tool is called", {"function": False, "arguments": False})
    right = tool_parsers.same_calls(item.calls, given)
    names = [sorted(one.name for one in some) for some in (item.calls, given)]
    return Compared(right, None, {"function": names[0] == names[1], "arguments": right})


def calls_in(form: str | None, item: GoldItem, answer: Generation) -> tuple[FunctionCall, ...]:
    """The calls of an answer: those that the server parsed, else those that its text holds.

    Raises `Unreadable` for a call that is broken, `Unusable` where the format is unknown.
    """
    if answer.calls is not None:
        return answer.calls
    known = tool_parsers.formats().get(form or "")
    if known is None:
        raise Unusable("is a call, and the format in which the model writes calls is unknown")
    text = answer.text if known.special == "skipped" or answer.marked is None else answer.marked
    return tool_parsers.read(known, text, item.tools)


def _numeric(tolerance: float, item: GoldItem, text: str) -> Compared:
    wanted, found = last_number(item.answer), last_number(text)
    if wanted is None:
        raise Unusable("contains no number")
    if found is None:
        return Compared(False, "contains no number")
    return Compared(math.isclose(wanted, found, rel_tol=tolerance, abs_tol=tolerance))


def last_number(text: str) -> float | None:
    """The last number in a text; commas and underscores between digits do not count."""
    numbers = NUMBER.findall(text)
    if not numbers:
        return None
    last = numbers[-1].replace(",", "").replace("_", "")
    return float(last[:-1]) / 100 if last.endswith("%") else float(last)


def _regex(params: Matching, item: GoldItem, text: str) -> Compared:
    wanted, found = captured(params.pattern or "", item.answer), captured(params.pattern or "", text)
    if wanted is None:
        raise Unusable("does not match the pattern")
    if found is None:
        return Compared(False, "does not match the pattern")
    if _folded(wanted, params) == _folded(found, params):
        return Compared(True)
    return Compared(False, confused={WHOLE: (wanted, found)})


def captured(pattern: str, text: str) -> str | None:
    """What a pattern captures in a text the last time it matches: its first group, or all of it."""
    found = list(re.finditer(pattern, text))
    if not found:
        return None
    return found[-1].group(1 if found[-1].re.groups else 0)
