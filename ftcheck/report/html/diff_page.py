"""The page of what differs between two reports (`ftcheck.diff/1`): new, fixed, still there, and changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftcheck.records import Location, Outcome
from ftcheck.report.clean import clean
from ftcheck.report.html.data_table import Column, table
from ftcheck.report.html.elements import badge, code, facts, folded, joined, kind_of, section, tag
from ftcheck.report.html.jobs import short
from ftcheck.report.html.shell import Document, document
from ftcheck.report.html.verdict import when
from ftcheck.report.wording import SYMBOLS, WORDS, number, place

Difference = Mapping[str, Any]
KINDS = {"new": ("New", "fail", "✗"), "fixed": ("Fixed", "pass", "✓"), "still": ("Still there", "skip", "-")}
VALUES = (Column("name", names=True), Column("before"), Column("after"))
CHECKS = (Column("check", names=True), Column("before"), Column("after"))
MEASUREMENTS = (
    Column("check", names=True),
    Column("measurement"),
    Column("before", number=True),
    Column("after", number=True),
    Column("unit"),
    Column("change", number=True),
    Column("limit"),
)
INPUTS = (Column("input", names=True), Column("before"), Column("after"))
OTHERS = (
    ("gate", "Gate"),
    ("jobs", "Jobs"),
    ("policy", "Policy"),
    ("waivers", "Waivers"),
    ("versions", "Versions"),
    ("run", "Run"),
)
"""Values by name, each with its heading."""


def page(difference: Difference) -> str:
    """The difference as one HTML file."""
    told: dict[str, Any] = clean(dict(difference))
    parts = [
        *((what, KINDS[what][0], _findings(told, what)) for what in KINDS),
        (
            "checks",
            "Outcomes",
            section("checks", "Outcomes", table("Outcomes", CHECKS, map(_check, told["checks"]))),
        ),
        ("measurements", "Measurements", _measurements(told["measurements"])),
        (
            "inputs",
            "Inputs",
            section("inputs", "Inputs", table("Inputs", INPUTS, map(_input, told["inputs"]))),
        ),
        *(
            (name, word, section(name, word, table(word, VALUES, map(_value, told[name]))))
            for name, word in OTHERS
        ),
    ]
    links = [(name, word) for name, word, part in parts if part]
    body = joined((_top(told), *(part for _, _, part in parts)))
    title = f"{told['before']['policy']} → {told['after']['policy']}"
    return document(Document("diff", f"{title} · ftcheck report diff", links, body))


def _top(told: Difference) -> Markup:
    totals, exact = told["totals"], told["totals"]["exact"]
    tiles = (_tile(what, totals[what], exact=exact) for what in KINDS)
    said = "The reports differ." if told["differs"] else "Nothing differs."
    bounds = (
        None if exact else "A report keeps no more than some findings of a check: these are lower bounds."
    )
    return tag(
        "section",
        tag("h1", "What changed ", tag("span", told["after"]["policy"], class_="policy")),
        tag("p", said, class_="lead"),
        tag("ul", joined(tiles), class_="tiles"),
        tag("p", bounds, class_="note") if bounds else None,
        facts((("Before", _side(told["before"])), ("After", _side(told["after"])))),
        class_="verdict plan",
        aria_label="Summary",
    )


def _tile(what: str, count: int, *, exact: bool) -> Markup:
    word, kind, sign = KINDS[what]
    shown = tag("span", sign, class_=f"sign {kind}", aria_hidden="true")
    least = "" if exact else "at least "
    return tag("li", tag("b", f"{least}{count:,}"), " ", tag("span", shown, " ", word.lower()))


def _side(side: Mapping[str, Any]) -> Markup:
    verdict = side["verdict"] or "no verdict"
    said = verdict if side["status"] == "complete" else f"{verdict}, {side['status']} run"
    kind = {"passed": ("pass", "✓")}.get(said, ("fail", "✗"))
    failed = f" {side['failed']:,} failed" if side["failed"] else ""
    at = side.get("finished_at")
    return joined(
        (side["policy"], " ", badge(said, *kind), failed, " " if at else "", when(at) if at else None)
    )


# --- findings -----------------------------------------------------------------------------------------


def _findings(told: Difference, what: str) -> Markup:
    """The findings of each check that are new, fixed or still there; those that were not kept are counted."""
    word = KINDS[what][0]
    shown = [one for one in told["findings"] if one[f"{what}_total"] or (what == "new" and one["unknown"])]
    cards = joined(_card(one, what) for one in shown)
    inside = folded(f"{told['totals'][what]:,} findings", cards) if what == "still" and shown else cards
    return section(what, f"{word} findings", inside)


def _card(change: Mapping[str, Any], what: str) -> Markup:
    _, kind, sign = KINDS[what]
    if change["unknown"]:
        head = tag("h3", change["check"], " ", badge("not known", "broken", "!"))
        return tag("article", head, tag("p", change["unknown"], class_="text"), class_="card broken")
    listed, total = change[what], change[f"{what}_total"]
    least = "" if change["exact"] else "at least "
    head = tag("h3", change["check"], " ", badge(f"{least}{total:,} {KINDS[what][0].lower()}", kind, sign))
    more = total - len(listed)
    rest = tag("p", f"{more:,} more, of which the report keeps no text", class_="note") if more > 0 else None
    return tag(
        "article",
        head,
        tag("ul", joined(map(_finding, listed)), class_="findings"),
        rest,
        class_=f"card {kind}",
    )


def _finding(one: Mapping[str, Any]) -> Markup:
    at = Location(*(one.get(name) for name in ("path", "line", "column", "yaml_path", "row", "record")))
    where = place(at)
    first = str(one["message"]).split("\n")[0]
    return tag(
        "li", tag("span", code(where), class_="place") if where else None, tag("span", first, class_="text")
    )


# --- tables -------------------------------------------------------------------------------------------


def _check(one: Mapping[str, Any]) -> tuple[str | None, ...]:
    return (
        one["check"],
        _outcome(one["before"], one["blocked_before"]),
        _outcome(one["after"], one["blocks_after"]),
    )


def _outcome(name: str | None, blocks: bool) -> Markup:
    if name is None:
        return badge("not planned", "skip", "-")
    outcome = Outcome(name)
    said = WORDS.get(outcome, outcome.value) + (", blocks" if blocks else "")
    return badge(said, kind_of(outcome), SYMBOLS[outcome])


def _measurements(changes: Sequence[Mapping[str, Any]]) -> Markup:
    rows = (_measurement(one) for one in changes if one["name"] != "histogram")
    return section("measurements", "Measurements", table("Measurements", MEASUREMENTS, rows, stacked=True))


def _measurement(one: Mapping[str, Any]) -> tuple[str | None, ...]:
    relative = f"{100 * one['relative']:+.1f} %" if one["relative"] else ""
    limits = dict.fromkeys(one[key] for key in ("limit_before", "limit_after") if one[key])
    gone = {"new": ("not measured", None), "removed": (None, "not measured")}.get(
        one["presence"], (None, None)
    )
    before, after = (
        absent or _number(one[key]) for absent, key in zip(gone, ("before", "after"), strict=True)
    )
    return (one["check"], one["name"], before, after, one["unit"], relative, " → ".join(limits))


def _number(value: Any) -> str:
    return "not known" if value is None else number(value)


def _input(one: Mapping[str, Any]) -> tuple[str | None, ...]:
    return (one["name"], _digest(one["before"]), _digest(one["after"]))


def _digest(found: Mapping[str, Any] | None) -> Markup:
    if found is None:
        return badge("not there", "skip", "-")
    rows = f"{found['rows']:,} rows" if found["rows"] is not None else None
    return joined((code(found["path"]), rows, short(found["digest"]) or "not readable"), " ")


def _value(one: Mapping[str, Any]) -> tuple[str, ...]:
    stated = (one[key] if one[key] is not None else "not stated" for key in ("before", "after"))
    return (one["name"], *stated)
