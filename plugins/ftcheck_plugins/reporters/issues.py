"""What `-o sarif` and `-o gitlab` list: findings, and what kept a run from deciding anything.

A file without an issue says that all is well. So a check that did not come to an end, a problem of the run
and a run that decided nothing are issues too.
"""

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath

from ftcheck.paths import near
from ftcheck.records import Check, Finding, Location, Outcome, Result, Severity, Stage
from ftcheck.report import verdict_lines, waiver_days, wording
from ftcheck.report.identity import Namer, named
from ftcheck.report.record import Report

RUN = Check("ftcheck", "ftcheck", "ftcheck-run", None, Stage.BEFORE)
"""Stands for the run itself, where something is wrong with no check."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing to look at. `at` is a file from the top of the repository, its line and column where known.

    `subject` is the policy's key that it is about. `waived` says why it does not count, `broken` that the run
    proves nothing here; `hidden` is how many findings of the check the report does not hold.
    """

    check: Check
    severity: Severity
    message: str
    fingerprint: str
    at: Location
    subject: str = ""
    waived: str = ""
    broken: bool = False
    hidden: int = 0


def issues(report: Report) -> tuple[Issue, ...]:
    """All issues of a report that was cleaned: of the run first, then by check."""
    results = sorted(report.results, key=lambda one: one.check.id)
    checks = [] if report.status == "started" else [_of_check(report, one) for one in results]
    return (*_of_run(report), *(issue for one in checks for issue in one))


def _of_run(report: Report) -> Iterator[Issue]:
    namer = Namer(RUN)
    for finding in _outside(report):
        broken = finding.severity is Severity.ERROR
        found = replace(finding, fingerprint=namer.name(finding))
        yield replace(_issue(report, RUN, found, found.severity), broken=broken)


def _outside(report: Report) -> Iterator[Finding]:
    """What is wrong with the run although it is wrong with no check."""
    if report.status == "started":
        yield Finding("the run did not finish: it was killed, or is still in progress")
        return
    for problem in report.problems:
        at = Location(problem.path, problem.line, problem.column, problem.yaml_path)
        yield Finding(problem.message or "unknown problem", at=at)
    nothing = verdict_lines.decided_nothing(report)
    if nothing:
        yield Finding(f"{nothing}: the report proves nothing ({verdict_lines.tally(report)})")
    told = report.problems or any(one.outcome in wording.UNFINISHED for one in report.results)
    if report.status == "incomplete" and not told:
        yield Finding("the run is incomplete: the report proves nothing")
    if report.status == "partial":
        yield Finding(verdict_lines.verdict(report), Severity.INFO)
    for use, words in waiver_days.told(report.waivers, report.expiring):
        yield Finding(words, Severity.INFO, at=Location(report.policy_path, use.line))


def _of_check(report: Report, result: Result) -> Iterable[Issue]:
    if result.outcome in (Outcome.FAILED, Outcome.WAIVED):
        return _findings(report, result)
    if result.outcome in wording.UNFINISHED:
        return (replace(_unproved(report, result, Severity.ERROR), broken=True),)
    return (_unproved(report, result, Severity.WARNING),) if wording.is_required(result) else ()


def _unproved(report: Report, result: Result, severity: Severity) -> Issue:
    """Of a check without an outcome that proves anything: `errored: the reason`."""
    finding = Finding(f"{wording.outcome_word(result)}: {wording.reason_of(result)}")
    [found] = named(result.check, [finding])
    return _issue(report, result.check, found, severity)


def _findings(report: Report, result: Result) -> Iterator[Issue]:
    bare = Finding(wording.telling(result) or "failed, without a finding", wording.worst(()))
    shown = named(result.check, wording.shown_findings(result) or (bare,))
    waived = verdict_lines.waived_because(result) if result.outcome is Outcome.WAIVED else ""
    for number, finding in enumerate(shown, start=1):
        severity = Severity.INFO if waived else wording.shown_severity(finding, result, report.fail_on)
        hidden = max(0, wording.unshown(result, number)) if number == len(shown) else 0
        yield replace(_issue(report, result.check, finding, severity), waived=waived, hidden=hidden)


def _issue(report: Report, check: Check, finding: Finding, severity: Severity) -> Issue:
    at = _place(report, check, finding.at)
    return Issue(
        check=check,
        severity=severity,
        message=_message(finding, at),
        fingerprint=finding.fingerprint or "",
        at=at,
        subject=(finding.at and finding.at.yaml_path) or "",
    )


def _place(report: Report, check: Check, at: Location | None) -> Location:
    """Where it is shown: its own place, that of its check in the policy, or the policy."""
    for one in (at, check.at and replace(check.at, column=None), Location(report.policy_path)):
        if one is not None and one.path is not None and one.in_file:
            path = from_top(one.path, report.folder)
            if path is not None:
                return Location(path, one.line, one.column)
    return Location(PurePath(report.policy_path).name or "ftcheck.yaml")


def from_top(path: str, folder: str) -> str | None:
    """A path from the top of the repository, for a run in `folder`; None where it lies outside."""
    stated = near(path)
    if PurePath(stated).is_absolute() or stated.startswith("~") or "://" in stated:
        return None
    joined = posixpath.normpath(posixpath.join(folder, PurePath(stated).as_posix()))
    return None if joined.split("/")[0] in ("..", "") else joined


def _message(finding: Finding, shown: Location) -> str:
    """The finding's text; its place before it where that is not the one that it is shown at."""
    own = finding.at
    text = wording.finding_text(replace(finding, at=None))
    if own is None or not text:
        return text
    if own.path is None or not own.in_file:
        where = own.yaml_path or wording.place(replace(own, path=None))
    else:
        name = PurePath(own.path).name
        where = "" if PurePath(shown.path or "").name == name else str(replace(own, path=name))
    return f"{where}: {text}" if where else text
