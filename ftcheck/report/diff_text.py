"""What differs between two reports, in words: short on the terminal, longer as Markdown."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ftcheck.digest import beginning
from ftcheck.plurals import counted
from ftcheck.records import Finding, Outcome
from ftcheck.report.clean import clean
from ftcheck.report.diff import (
    CheckChange,
    Difference,
    FindingsChange,
    InputChange,
    MeasurementChange,
    Side,
    ValueChange,
)
from ftcheck.report.escape import markdown_text
from ftcheck.report.record import InputDigest
from ftcheck.report.wording import WORDS, first_line, number, place

What = Literal["new", "fixed", "still"]
TITLES: dict[What, str] = {"new": "New", "fixed": "Fixed", "still": "Still there"}
ON_SCREEN = 10
"""Lines of a part that the terminal shows."""
IN_MARKDOWN = 200
ABSENT = "(none)"
FEWER = {ON_SCREEN: "-o markdown shows more, -o json all", IN_MARKDOWN: "-o json has all"}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the text; parts without lines are left out."""

    title: str
    lines: tuple[str, ...]


def terminal(difference: Difference) -> str:
    """The difference as plain text, ten lines a part."""
    difference = clean(difference)
    blocks = [_head(difference)]
    blocks += [f"{one.title}\n" + "\n".join(_cut(one.lines, ON_SCREEN, "  ")) for one in _parts(difference)]
    return "\n\n".join(blocks)


def markdown(difference: Difference) -> str:
    """The difference as Markdown."""
    difference = clean(difference)
    first, *others = _head(difference).split("\n")
    blocks = [f"## ftcheck {markdown_text(first)}", *map(markdown_text, others)]
    for one in _parts(difference):
        lines = _cut([markdown_text(line) for line in one.lines], IN_MARKDOWN, "- ")
        blocks.append(f"### {one.title}\n\n" + "\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _cut(lines: Iterable[str], most: int, begin: str) -> list[str]:
    lines = list(lines)
    more = len(lines) - most
    shown = [f"{begin}{line}" for line in lines[:most]]
    return [*shown, f"{begin}and {more:,} more ({FEWER[most]})"] if more > 0 else shown


def _head(difference: Difference) -> str:
    before, after = difference.before, difference.after
    names = after.policy if before.policy == after.policy else f"{before.policy} → {after.policy}"
    lines = [f"{names}: {_side(before)} → {_side(after)}"]
    if not difference.differs:
        return "\n".join((*lines, "nothing differs"))
    least = "" if difference.exact else "at least "
    totals = ", ".join(f"{least}{difference.total(what):,} {title.lower()}" for what, title in TITLES.items())
    return "\n".join((*lines, totals))


def _side(side: Side) -> str:
    verdict = side.verdict or "no verdict"
    return verdict if side.status == "complete" else f"{verdict} ({side.status})"


def _parts(difference: Difference) -> Iterator[Part]:
    for what, title in TITLES.items():
        yield from _part(title, (line for one in difference.findings for line in _findings(one, what)))
    unknown = (f"{one.check}: {one.unknown}" for one in difference.findings if one.unknown)
    yield from _part("Not known", unknown)
    yield from _part("Outcomes", map(_check, difference.checks))
    yield from _part("Measurements", map(_measurement, difference.measurements))
    yield from _part("Inputs", map(_input, difference.inputs))
    for title, values in (
        ("Gate", difference.gate),
        ("Jobs", difference.jobs),
        ("Policy", difference.policy),
        ("Waivers", difference.waivers),
        ("Versions", difference.versions),
        ("Run", difference.run),
    ):
        yield from _part(title, map(_value, values))


def _part(title: str, lines: Iterable[str]) -> Iterator[Part]:
    told = tuple(lines)
    if told:
        yield Part(title, told)


def _findings(change: FindingsChange, what: What) -> Iterator[str]:
    """Those of which the reports hold the text, then how many more there are."""
    found: tuple[Finding, ...] = getattr(change, what)
    total: int = getattr(change, f"{what}_total")
    for one in found:
        where = place(one.at)
        yield f"{change.check}  {f'{where}: ' if where else ''}{first_line(one.message)}"
    if total > len(found):
        least = "" if change.exact else "at least "
        words = counted(total - len(found), "more finding" if found else "finding")
        yield f"{change.check}  {least}{words} without text in the reports"


def _check(change: CheckChange) -> str:
    before = _outcome(change.before, blocks=change.blocked_before)
    return f"{change.check}  {before} → {_outcome(change.after, blocks=change.blocks_after)}"


def _outcome(outcome: Outcome | None, *, blocks: bool) -> str:
    if outcome is None:
        return "not planned"
    word = WORDS.get(outcome, outcome.value)
    return f"{word}, not blocking" if outcome is Outcome.FAILED and not blocks else word


def _measurement(change: MeasurementChange) -> str:
    values = dict.fromkeys((_measured(change.before), _measured(change.after)))
    told = f"{change.check}  {change.name}: {' → '.join(values)}"
    told += f" {change.unit}" if change.unit else ""
    if change.relative:
        told += f" ({change.relative:+.1%})"
    if change.limit_before != change.limit_after:
        told += f", limit {change.limit_before or ABSENT} → {change.limit_after or ABSENT}"
    return told


def _measured(value: Any) -> str:
    return ABSENT if value is None else number(value)


def _input(change: InputChange) -> str:
    before, after = change.before, change.after
    if before is None or after is None:
        return f"{change.name}  {_described(before)} → {_described(after)}"
    fields: tuple[tuple[str, Callable[[InputDigest], str | None]], ...] = (
        ("path", lambda one: one.path),
        ("rows", lambda one: None if one.rows is None else f"{one.rows:,}"),
        ("digest", lambda one: one.digest),
    )
    moved = [(name, read(before), read(after)) for name, read in fields if read(before) != read(after)]
    return f"{change.name}  " + ", ".join(f"{name} {_short(was)} → {_short(now)}" for name, was, now in moved)


def _described(one: InputDigest | None) -> str:
    return ABSENT if one is None else f"{one.path} {_short(one.digest)}"


def _value(change: ValueChange) -> str:
    return f"{change.name}  {_short(change.before)} → {_short(change.after)}"


def _short(value: str | None) -> str:
    if value is None:
        return ABSENT
    return beginning(value) if value.startswith("sha256") else value
