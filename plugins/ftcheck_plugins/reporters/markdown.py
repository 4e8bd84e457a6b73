"""`-o markdown`: a page for a pull request or a step summary, small enough that GitHub takes it.

GitHub refuses a summary above 1 MiB as a whole, so sections that do not fit are left out whole, and counted.
What did not finish or failed comes first; what was waived or skipped follows, and is never left out.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ftcheck.extension.reporters import Reporter
from ftcheck.plurals import counted
from ftcheck.records import Finding, Outcome, Result
from ftcheck.report import sampled, verdict_lines, wording
from ftcheck.report.clean import clean
from ftcheck.report.escape import MAX_CELL
from ftcheck.report.escape import markdown_text as escaped
from ftcheck.report.record import Report

BUDGET = 900_000
MAX_TEXT = 4_000
_LINE_START = re.compile(r"\A([0-9]*)([-+.)])")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page that stays or goes as a whole; one that is `kept` stays in any case."""

    title: str
    text: str
    kept: bool = False

    @property
    def size(self) -> int:
        """Bytes, with the empty line before it."""
        return len(self.text.encode("utf-8", "backslashreplace")) + 2


def render(report: Report) -> str:
    """Verdict and tally, what broke and failed, what was waived or skipped, then a table for each job."""
    report = clean(report)
    head = _head(report)
    kept, dropped = _fitted(_sections(report), BUDGET - len(head.encode()) - 1000)
    parts = [head, *(section.text for section in kept)]
    if dropped:
        parts.append(_left_out(dropped))
    return "\n\n".join(parts) + "\n"


def _head(report: Report) -> str:
    verdict = escaped(verdict_lines.verdict(report))
    lines = [f"## {_title_symbol(report)} ftcheck {escaped(report.policy_name)}: {verdict}"]
    if report.status != "started":
        lines += ["", " · ".join(escaped(part) for part in _facts(report) if part)]
    return "\n".join(lines)


def _facts(report: Report) -> Iterator[str]:
    seconds = verdict_lines.seconds_of(report)
    yield verdict_lines.tally(report) + (
        f" in {verdict_lines.duration(seconds)}" if seconds is not None else ""
    )
    yield verdict_lines.decided_nothing(report)
    yield verdict_lines.gate_state(report.gate)
    yield sampled.state(report)
    yield verdict_lines.ids_state(report)


def _title_symbol(report: Report) -> str:
    if (
        report.status == "complete"
        and report.verdict == "passed"
        and not verdict_lines.decided_nothing(report)
    ):
        return wording.SYMBOLS[Outcome.PASSED]
    return wording.SYMBOLS[Outcome.FAILED if report.verdict == "failed" else Outcome.ERRORED]


def _sections(report: Report) -> Iterator[Section]:
    if report.problems:
        yield Section("problems", _bullets("Problems of the run", (str(one) for one in report.problems)))
    broken = [one for one in report.results if one.outcome in wording.UNFINISHED]
    if broken:
        yield Section("not finished", _bullets("Not finished", _broken(broken)))
    failed = [one for one in report.results if one.outcome is Outcome.FAILED]
    for result in sorted(failed, key=lambda one: not one.blocking):
        yield Section(result.check.id, _details(result))
    aside = [_aside(one) for one in report.results if one.outcome in wording.SET_ASIDE]
    if aside:
        limit = min(MAX_CELL, BUDGET // 8 // len(aside))
        yield Section("waived and skipped", _bullets("Waived and skipped", aside, limit), kept=True)
    for result in report.results:
        if result.outcome is Outcome.WAIVED and result.findings:
            yield Section(result.check.id, _details(result))
    for title, results in verdict_lines.by_job(report):
        yield Section(f"table of {title}", _table(title, results))
    told = [*_told(report)]
    if told:
        yield Section("notes", _bullets("Notes", told))


def _told(report: Report) -> Iterator[str]:
    yield from report.notes
    if report.overrides:
        yield f"set on the command line: {', '.join(report.overrides)}"
    yield from verdict_lines.content_read(report)


def _aside(result: Result) -> str:
    if result.outcome is Outcome.WAIVED:
        return f"{result.check.id} {verdict_lines.waived_because(result)}"
    return f"{result.check.id} {wording.outcome_word(result)}: {wording.reason_of(result)}"


def _broken(results: Iterable[Result]) -> Iterator[str]:
    for reason, together in wording.by_reason(results):
        ids = ", ".join(result.check.id for result in together)
        yield f"{wording.outcome_word(together[0])}: {reason} ({ids})"


def _bullets(title: str, items: Iterable[str], limit: int = MAX_CELL) -> str:
    return "\n".join((f"### {escaped(title)}", "", *(f"- {_item_text(item, limit)}" for item in items)))


def _item_text(text: str, limit: int) -> str:
    """Text that begins a list item: it must not begin another list in it."""
    return _LINE_START.sub(r"\1\\\2", escaped(text, limit))


def _table(title: str, results: Iterable[Result]) -> str:
    head = [f"### {escaped(title)}", "", "| outcome | check | measured | reason |", "|---|---|---|---|"]
    return "\n".join((*head, *(_row(result) for result in results)))


def _row(result: Result) -> str:
    explained = result.outcome not in (Outcome.PASSED, Outcome.FAILED)
    cells = (
        f"{wording.SYMBOLS[result.outcome]} {wording.outcome_word(result)}",
        result.check.name,
        wording.telling(result),
        wording.reason_of(result) if explained else "",
    )
    return f"| {' | '.join(escaped(cell, MAX_CELL) for cell in cells)} |"


def _details(result: Result) -> str:
    shown = wording.shown_findings(result)
    count = counted(wording.unshown(result, 0), "finding")
    heading = f"<b>{escaped(result.check.id)}</b> {escaped(wording.outcome_word(result))}, {count}"
    state = " open" if result.blocking else ""
    lines = [f"<details{state}><summary>{heading}</summary>", "", *(_item(finding) for finding in shown)]
    more = wording.unshown(result, len(shown))
    if more > 0:
        lines.append(f"- and {more:,} more")
    return "\n".join((*lines, "", "</details>"))


def _item(finding: Finding) -> str:
    where = wording.place(finding.at)
    place = f" <code>{escaped(where, MAX_CELL)}</code>" if where else ""
    parts = [f"- <b>{finding.severity.value}</b>{place} {escaped(finding.message, MAX_TEXT)}"]
    if finding.why:
        parts.append(f"<b>why</b> {escaped(finding.why, MAX_TEXT)}")
    if finding.fix:
        parts.append(f"<b>fix</b> {escaped(finding.fix, MAX_TEXT)}")
    if finding.change:
        parts.append(f"<b>change</b> <code>{escaped(wording.change_text(finding.change), MAX_CELL)}</code>")
    return "<br>".join(parts)


def _fitted(sections: Iterable[Section], budget: int) -> tuple[list[Section], list[Section]]:
    kept: list[Section] = []
    dropped: list[Section] = []
    sections = list(sections)
    budget -= sum(section.size for section in sections if section.kept)
    for section in sections:
        fits = section.kept or section.size <= budget
        (kept if fits else dropped).append(section)
        budget -= section.size if fits and not section.kept else 0
    return kept, dropped


def _left_out(dropped: list[Section]) -> str:
    named = ", ".join(escaped(section.title, 60) for section in dropped[:10])
    more = f" and {len(dropped) - 10:,} more" if len(dropped) > 10 else ""
    size = counted(len(dropped), "section")
    return f"{size} left out to stay under {BUDGET // 1000} kB: {named}{more}. The JSON report has all of it."


REPORTER = Reporter(name="markdown", render=render, suffix=".md")
