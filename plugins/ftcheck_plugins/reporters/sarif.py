"""`-o sarif`: SARIF 2.1.0 for code scanning, one run for each job and one for what belongs to no job.

GitHub refuses a file with more than 20 runs, and in a run more than 25,000 results, 25,000 rules, 100
extensions or 20 tags a rule; what is left out is said in the run's notifications.

`primaryLocationLineHash`, by which GitHub knows an alert again, is the finding's own fingerprint. GitHub's
upload action would take a hash of a line's first 100 characters and count lines that begin alike: rows of
training data mostly do, so that each new row would close alerts and open others.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from urllib.parse import quote

from ftcheck.extension.reporters import Reporter
from ftcheck.plurals import counted
from ftcheck.records import Check, Location, Outcome, Severity
from ftcheck.report import verdict_lines, wording
from ftcheck.report.clean import clean
from ftcheck.report.escape import markdown_text
from ftcheck.report.record import Report, RuleText
from ftcheck_plugins.reporters.issues import RUN, Issue, issues

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"
MAX_RUNS = 20
MAX_RESULTS = 25_000
MAX_RULES = 25_000
MAX_EXTENSIONS = 100
MAX_TAGS = 20
MAX_DESCRIPTION = 1024
REST = "+more"
"""Names the last run where there are too many jobs; no job's name is written like this."""
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
PROBLEMS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "recommendation"}
OF_RUN = RuleText(
    "The run comes to an end and decides something.",
    "A run that was stopped, or that had nothing to look at, proves nothing: findings that are missing look"
    " like findings that were fixed.",
)


@dataclass(frozen=True, slots=True)
class Category:
    """One run of the file: its id, the jobs that it is about (None: of no job), and its issues."""

    id: str
    jobs: tuple[str | None, ...]
    issues: tuple[Issue, ...]

    @property
    def listed(self) -> tuple[Issue, ...]:
        """The most severe first, no more than GitHub takes."""
        return tuple(sorted(self.issues, key=lambda one: -one.severity.rank)[:MAX_RESULTS])


def render(report: Report) -> str:
    """The report as SARIF; equal reports give equal bytes."""
    import json

    report = clean(report)
    runs = [_run(report, one) for one in _categories(report)]
    text = json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": runs}, indent=1, ensure_ascii=False)
    return text + "\n"


def _categories(report: Report) -> Iterator[Category]:
    """What belongs to no job first, always: an earlier run's problem is closed by a file that has none."""
    found = issues(report)
    jobs = sorted({one.check.job for one in report.results if one.check.job is not None})
    groups: list[tuple[str | None, ...]] = [(None,), *((job,) for job in jobs)]
    if len(groups) > MAX_RUNS:
        groups = [*groups[: MAX_RUNS - 1], tuple(jobs[MAX_RUNS - 2 :])]
    for group in groups:
        mine = tuple(one for one in found if one.check.job in group)
        yield Category(_category_id(report, group), group, mine)


def _category_id(report: Report, jobs: Sequence[str | None]) -> str:
    """`ftcheck/POLICY/JOB/`; GitHub takes all before the last slash for the category."""
    job = None if len(jobs) > 1 else jobs[0]
    names = [report.policy_name or "policy", *([job] if job is not None else [])]
    parts = [quote(name, safe="") for name in names] + ([REST] if len(jobs) > 1 else [])
    return "/".join(("ftcheck", *parts, ""))


def _run(report: Report, category: Category) -> dict[str, Any]:
    rules = _rules(report, category)
    index = {rule["id"]: number for number, rule in enumerate(rules)}
    results = [one for one in report.results if one.check.job in category.jobs]
    outcomes = {outcome.value: sum(one.outcome is outcome for one in results) for outcome in Outcome}
    return {
        "tool": {"driver": _driver(report) | {"rules": rules}, **_extensions(report)},
        "automationDetails": {"id": category.id},
        "originalUriBaseIds": {ROOT: {"description": {"text": "The top of the repository."}}},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(report, category, index)],
        "results": [_result(one, index) for one in category.listed],
        "properties": {
            "status": report.status,
            "verdict": verdict_lines.verdict(report),
            "outcomes": outcomes,
            "gate": {
                job: report.gate[job] for job in category.jobs if job is not None and job in report.gate
            },
        },
    }


def _driver(report: Report) -> dict[str, Any]:
    versions = [
        one.version for one in report.plugins if one.distribution == verdict_lines.OWN and one.version
    ]
    return {"name": "ftcheck"} | ({"version": versions[0]} if versions else {})


def _extensions(report: Report) -> dict[str, Any]:
    others = [one for one in report.plugins if one.distribution != verdict_lines.OWN and one.name]
    listed = sorted(others, key=lambda one: (one.distribution, one.name))[:MAX_EXTENSIONS]
    told = [{"name": one.name} | ({"version": one.version} if one.version else {}) for one in listed]
    return {"extensions": told} if told else {}


def _rules(report: Report, category: Category) -> list[dict[str, Any]]:
    """All rules of the plan, whether they found something or not, and that of the run where it is needed."""
    checks: dict[str, list[Check]] = {}
    for check in [
        *(one.check for one in report.results if one.check.job in category.jobs),
        *(RUN for one in category.issues if one.check is RUN),
    ]:
        checks.setdefault(check.rule, []).append(check)
    texts = {**report.rules, RUN.rule: OF_RUN}
    return [_rule(name, checks[name], texts.get(name)) for name in sorted(checks)[:MAX_RULES]]


def _rule(name: str, checks: Sequence[Check], text: RuleText | None) -> dict[str, Any]:
    severity = max((one.severity or Severity.ERROR for one in checks), key=lambda one: one.rank)
    tags = sorted({tag for one in checks for tag in one.tags if tag})[:MAX_TAGS]
    said = text or RuleText(f"The rule {name} holds.", "")
    return {
        "id": name,
        "shortDescription": {"text": _cut(said.holds or name)},
        "fullDescription": {"text": _cut(said.why or said.holds or name)},
        "help": {"text": _help(name, said), "markdown": _help_markdown(name, said)},
        "defaultConfiguration": {"level": LEVELS[severity]},
        "properties": {"problem.severity": PROBLEMS[severity]} | ({"tags": tags} if tags else {}),
    }


def _cut(text: str) -> str:
    return text if len(text) <= MAX_DESCRIPTION else f"{text[: MAX_DESCRIPTION - 1]}…"


def _help(name: str, text: RuleText) -> str:
    params = [f"{one.name} ({one.kind}, default {one.default}): {one.help}" for one in text.params]
    return "\n\n".join(part for part in (text.holds, text.why, text.how, *params, _more(name)) if part)


def _more(name: str) -> str:
    return f"More: ftcheck explain {name}" if name != RUN.rule else "More: ftcheck run --help"


def _help_markdown(name: str, text: RuleText) -> str:
    parts = [f"**{text.holds}**", text.why, text.how]
    if text.params:
        rows = ["| parameter | type | default | |", "|---|---|---|---|"]
        for one in text.params:
            cells = (one.name, one.kind, str(one.default), one.help)
            rows.append(f"| {' | '.join(markdown_text(cell) for cell in cells)} |")
        parts.append("\n".join(rows))
    if text.thread:
        parts.append(f"A failure that it catches: <{text.thread}>")
    command = _more(name).removeprefix("More: ")
    return "\n\n".join(part for part in (*parts, f"More: `{command}`") if part)


def _invocation(report: Report, category: Category, index: Mapping[str, int]) -> dict[str, Any]:
    broken = any(one.broken for one in category.issues)
    started, finished = _utc(report.started_at), _utc(report.finished_at)
    return {
        "executionSuccessful": not broken and report.status not in ("started", "incomplete"),
        **({"startTimeUtc": started} if started else {}),
        **({"endTimeUtc": finished} if finished else {}),
        "toolExecutionNotifications": list(_notifications(report, category, index)),
    }


def _utc(text: str | None) -> str:
    """`2026-11-22T22:10:04.400Z`; empty where the time is not known."""
    moment = verdict_lines.moment(text)
    if moment is None:
        return ""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _notifications(report: Report, category: Category, index: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for one in category.issues:
        if one.broken or (one.check is RUN and one.severity is Severity.INFO):
            told = _notification(LEVELS[one.severity], f"{one.check.id}: {_plain(one.message)}")
            yield told | {"associatedRule": _descriptor(one.check.rule, index)}
    if report.status == "incomplete" and not any(one.broken for one in category.issues):
        yield _notification("error", "The run is incomplete: see the other runs of this file.")
    yield from (_notification(*one) for one in _left_out(category))
    if None in category.jobs:
        listed = {one.message for one in category.issues}
        yield from (_notification("note", note) for note in report.notes if note and note not in listed)


def _left_out(category: Category) -> Iterator[tuple[str, str]]:
    """What GitHub would not take, and what the report does not hold: its level, and the words."""
    if len(category.issues) > MAX_RESULTS:
        total = counted(len(category.issues), "result")
        yield "warning", f"{MAX_RESULTS:,} of {total} are listed, the most severe first."
    if len(category.jobs) > 1:
        jobs = counted(len(category.jobs), "job")
        yield "note", f"A file has no more than {MAX_RUNS} runs: this one is about {jobs}."
    for one in category.issues:
        if one.hidden:
            yield "note", f"{one.check.id}: {counted(one.hidden, 'more finding')} that no report lists."


def _notification(level: str, text: str) -> dict[str, Any]:
    return {"level": level, "message": {"text": text}}


def _descriptor(rule: str, index: Mapping[str, int]) -> dict[str, Any]:
    return {"id": rule} | ({"index": index[rule]} if rule in index else {})


def _result(issue: Issue, index: Mapping[str, int]) -> dict[str, Any]:
    rule = issue.check.rule
    return {
        "ruleId": rule,
        **({"ruleIndex": index[rule]} if rule in index else {}),
        "level": LEVELS[issue.severity],
        "message": {"text": _plain(issue.message)},
        "locations": [_location(issue)],
        "partialFingerprints": {
            "ftcheck/v2": issue.fingerprint,
            "primaryLocationLineHash": issue.fingerprint,
        },
        **({"suppressions": [_suppression(issue)]} if issue.waived else {}),
        "properties": {"check": issue.check.id},
    }


def _plain(text: str) -> str:
    """A message without links: `[text](target)` would be one."""
    return text.replace("](", "] (") or "(no message)"


def _location(issue: Issue) -> dict[str, Any]:
    physical = {"artifactLocation": {"uri": _uri(issue.at), "uriBaseId": ROOT}, **_region(issue.at)}
    subject = [{"fullyQualifiedName": issue.subject}] if issue.subject else []
    return {"physicalLocation": physical} | ({"logicalLocations": subject} if subject else {})


def _uri(at: Location) -> str:
    return quote(posixpath.normpath(at.path or ""), safe="/", errors="backslashreplace")


def _region(at: Location) -> dict[str, Any]:
    known = {"startLine": at.line, "startColumn": at.column if at.line else None}
    region = {key: value for key, value in known.items() if value}
    return {"region": region} if region else {}


def _suppression(issue: Issue) -> dict[str, Any]:
    return {"kind": "external", "status": "accepted", "justification": wording.one_line(issue.waived)}


REPORTER = Reporter(name="sarif", render=render, suffix=".sarif")
