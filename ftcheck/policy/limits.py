"""Holds values against the ranges and forms that the metadata of their fields asks for."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args, get_origin

from ftcheck.durations import is_time, seconds
from ftcheck.errors import Problem
from ftcheck.field_metadata import Form, Limit, Mark, having, marked
from ftcheck.inputs import urls
from ftcheck.policy.extra_keys import Stated, visit
from ftcheck.policy.messages import mismatch, shown
from ftcheck.policy.nodes import Node, plain, problem
from ftcheck.settings import PolicySettings

NAME = r"^[A-Za-z0-9_.-]+$"
FINGERPRINT = r"^[0-9a-f]{32}:[1-9][0-9]*$"
WHOLE_DAYS = 14
"""How long a waiver may cover whatever a check finds."""


def problems_of(tree: Node, *, today: date | None = None) -> Iterator[Problem]:
    """Every value of a policy that lies outside its range or has not its form."""
    today = today or datetime.now(UTC).date()
    yield from of_values(PolicySettings, tree, today)
    yield from _names(tree, "jobs")
    yield from _names(tree, "checks")
    yield from _waivers(tree, today)


def of_values(kind: Any, tree: Node, today: date) -> Iterator[Problem]:
    """The same of a section: `kind` is its settings class."""
    for stated in visit(kind, tree):
        message = _other_type(stated) or _out_of_range(stated) or _empty(stated) or _malformed(stated, today)
        if message:
            yield problem(message, stated.node.at)


def _other_type(stated: Stated) -> str | None:
    """For pydantic `true` and `1.0` are the literal 1."""
    choices = get_args(stated.kind) if get_origin(stated.kind) is Literal else ()
    value = stated.node.value
    odd = isinstance(value, bool | float) and value in choices
    return mismatch(stated.kind, value) if odd else None


def _out_of_range(stated: Stated) -> str | None:
    limit = having(stated.owner, Limit).get(stated.name)
    value = plain(stated.node)
    if limit is None:
        return None
    if isinstance(value, list):
        return _pair(limit, value)
    return f"must be {limit}, not {value}" if _is_number(value) and not limit.holds(value) else None


def _pair(limit: Limit, value: list[Any]) -> str | None:
    if len(value) != 2 or not all(_is_number(number) for number in value):
        return None
    outside = next((number for number in value if not limit.holds(number)), None)
    if outside is not None:
        return f"must be {limit}, not {outside}"
    low, high = value
    return f"the lower bound ({low}) is above the upper bound ({high})" if low > high else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _empty(stated: Stated) -> str | None:
    value = stated.node.value
    required = stated.name in marked(stated.owner, Mark.NOT_EMPTY)
    return "must not be empty" if required and isinstance(value, str) and not value.strip() else None


def _duration(text: str, _: date) -> str | None:
    return None if seconds(text) else f"must be a duration such as 90m, 24h or 7d, not {shown(text)}"


def _duration_or_time(text: str, _: date) -> str | None:
    good = seconds(text) or is_time(text)
    form = "a duration such as 8h, or a time such as 07:00 or 2026-11-23T07:00"
    return None if good else f"must be {form}, not {shown(text)}"


def _last_day(text: str, today: date) -> str | None:
    try:
        last = date.fromisoformat(text)
    except ValueError:
        return None
    if today <= last:
        return None
    return f"the waiver expired with {last} (UTC): fix the finding, or renew the waiver"


FORMS: Mapping[Form, Callable[[str, date], str | None]] = {
    Form.DURATION: _duration,
    Form.DURATION_OR_TIME: _duration_or_time,
    Form.LAST_DAY: _last_day,
    Form.URL: lambda text, _: urls.problem(text),
}


def _malformed(stated: Stated, today: date) -> str | None:
    form = having(stated.owner, Form).get(stated.name)
    value = stated.node.value
    return FORMS[form](value, today) if form is not None and isinstance(value, str) else None


def _names(tree: Node, section: str) -> Iterator[Problem]:
    for name, child in tree.items[section].items.items() if section in tree.items else ():
        if not re.fullmatch(NAME, name):
            quoted = shown(name).removeprefix("the text ")
            what = f"the name {quoted} may contain only letters, digits and . _ -"
            yield problem(what, child.key or child.at)


def _waivers(tree: Node, today: date) -> Iterator[Problem]:
    """Fingerprints that are none, and waivers of whole checks that last too long."""
    stated = tree.items["waivers"].value if "waivers" in tree.items else ()
    for waiver in stated if isinstance(stated, tuple) else ():
        named = waiver.items.get("fingerprints")
        for one in named.value if named is not None and isinstance(named.value, tuple) else ():
            if isinstance(one.value, str) and not re.fullmatch(FINGERPRINT, one.value):
                what = "must be a fingerprint of a report, 32 hex digits and a number such as …:1"
                yield problem(f"{what}, not {shown(one.value)}", one.at)
        yield from _too_long(waiver, today)


def _too_long(waiver: Node, today: date) -> Iterator[Problem]:
    whole, expires = waiver.items.get("all"), waiver.items.get("expires")
    if whole is None or whole.value is not True or expires is None:
        return
    try:
        last = date.fromisoformat(str(expires.value))
    except ValueError:
        return
    if last > today + timedelta(days=WHOLE_DAYS):
        latest = today + timedelta(days=WHOLE_DAYS)
        what = f"a waiver with all: true lasts at most {WHOLE_DAYS} days, until {latest}"
        yield problem(f"{what}: name the findings instead (`ftcheck waive`), or shorten it", expires.at)
