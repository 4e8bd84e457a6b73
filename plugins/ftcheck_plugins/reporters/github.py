"""`-o github`: workflow commands that GitHub turns into annotations beside the changed lines.

GitHub shows ten annotations of a level per step and silently drops the others, so at most nine are written,
the first finding of every check before the second of any, then a line that counts the rest.
The step summary (GITHUB_STEP_SUMMARY) is written by `-o markdown=$GITHUB_STEP_SUMMARY`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from ftcheck.errors import Problem
from ftcheck.extension.reporters import Reporter
from ftcheck.paths import near
from ftcheck.plurals import counted
from ftcheck.records import Finding, Location, Outcome, Result, Severity
from ftcheck.report import sampled, verdict_lines, waiver_days, wording
from ftcheck.report.clean import clean
from ftcheck.report.record import Report

Level = Literal["error", "warning", "notice"]
SHOWN: dict[Level, int] = {"error": 9, "warning": 9, "notice": 8}
LEVELS: dict[Severity, Level] = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.INFO: "notice",
}


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation, before it is escaped. `hidden` counts findings without an annotation of their own."""

    level: Level
    title: str
    message: str
    at: Location | None = None
    hidden: int = 0

    def __str__(self) -> str:
        """The workflow command, on one line."""
        at = self.at or Location()
        path = at.path if at.in_file else None
        told = {"file": path and near(path), "line": at.line, "col": at.column}
        known = {key: value for key, value in told.items() if value is not None} if path else {}
        listed = ",".join(
            f"{key}={_property(str(value))}" for key, value in (known | {"title": self.title}).items()
        )
        return f"::{self.level} {listed}::{_data(self.message)}"


def render(report: Report) -> str:
    """Errors first, then warnings, then notices; the tally last."""
    report = clean(report)
    annotations = list(_annotations(report))
    lines = [str(one) for level in SHOWN for one in _limited(level, annotations)]
    title = f"ftcheck {report.policy_name}: {verdict_lines.verdict(report)}"
    parts = verdict_lines.tally(report), verdict_lines.gate_state(report.gate), sampled.state(report)
    tally = Annotation("notice", title, " · ".join(filter(None, parts)))
    return "\n".join([*lines, str(tally)]) + "\n"


def _annotations(report: Report) -> Iterator[Annotation]:
    if report.status == "started":
        yield Annotation("error", "ftcheck", "the run did not finish")
        return
    yield from (_problem(problem) for problem in report.problems)
    nothing = verdict_lines.decided_nothing(report)
    if nothing:
        yield Annotation("error", "ftcheck", nothing)
    for reason, together in wording.by_reason(
        one for one in report.results if one.outcome in wording.UNFINISHED
    ):
        yield _broken(reason, together)
    yield from _findings(report)
    for result in report.results:
        if result.outcome is Outcome.WAIVED:
            yield Annotation("notice", result.check.id, verdict_lines.waived_because(result))
    for use, words in waiver_days.told(report.waivers, report.expiring):
        yield Annotation("notice", use.check, words, Location(report.policy_path, use.line))


def _problem(problem: Problem) -> Annotation:
    at = Location(problem.path, problem.line, problem.column) if problem.path else None
    message = ": ".join(part for part in (problem.yaml_path, problem.message) if part)
    return Annotation("error", "ftcheck", message, at)


def _broken(reason: str, together: list[Result]) -> Annotation:
    first = together[0]
    ids = ", ".join(result.check.id for result in together)
    title = first.check.id if len(together) == 1 else counted(len(together), "check")
    message = reason if len(together) == 1 else f"{reason}\n{ids}"
    return Annotation("error", f"{title} {wording.outcome_word(first)}", message)


def _findings(report: Report) -> Iterator[Annotation]:
    """The first finding of every check, then the second of every check, and so on."""
    failed = [result for result in report.results if result.outcome is Outcome.FAILED]
    for row in zip_longest(*(_of_check(result, report.fail_on) for result in failed)):
        yield from (annotation for annotation in row if annotation is not None)


def _of_check(result: Result, fail_on: Severity) -> Iterator[Annotation]:
    shown = wording.shown_findings(result)
    if not shown:
        level: Level = "error" if result.blocking else "warning"
        yield Annotation(level, result.check.id, wording.telling(result) or "failed, without a finding")
    for finding in shown:
        hidden = wording.unshown(result, len(shown)) if finding is shown[-1] else 0
        level = LEVELS[wording.shown_severity(finding, result, fail_on)]
        yield Annotation(level, result.check.id, _message(finding), finding.at, hidden)


def _message(finding: Finding) -> str:
    at = finding.at
    place = wording.place(at) if at is not None and at.path is None else ""
    lines = [f"{place}: {finding.message}" if place else finding.message]
    if finding.why:
        lines.append(f"why: {finding.why}")
    if finding.fix:
        lines.append(f"fix: {finding.fix}")
    if finding.change:
        lines.append(f"change: {wording.change_text(finding.change)}")
    return "\n".join(lines)


def _limited(level: Level, annotations: Iterable[Annotation]) -> list[Annotation]:
    mine = [one for one in annotations if one.level == level]
    shown, rest = mine[: SHOWN[level]], mine[SHOWN[level] :]
    hidden = len(rest) + sum(one.hidden for one in mine)
    if not hidden:
        return shown
    message = f"{hidden:,} more: see the other reports of this run"
    return [*shown, Annotation(level, "ftcheck", message)]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


REPORTER = Reporter(name="github", render=render, suffix=".txt")
