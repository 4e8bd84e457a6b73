"""`-o gitlab`: a code quality report, as a merge request of GitLab shows it.

GitLab keeps one issue of those that share a fingerprint and does not show the check's name: it stands before
the description. An empty list says that the run is complete and has nothing to tell.
"""

from typing import Any

from ftcheck.extension.reporters import Reporter
from ftcheck.records import Severity
from ftcheck.report.clean import clean
from ftcheck.report.record import Report
from ftcheck_plugins.reporters.issues import Issue, issues

SEVERITIES = {Severity.ERROR: "critical", Severity.WARNING: "minor", Severity.INFO: "info"}
BROKEN = "blocker"


def render(report: Report) -> str:
    """One object an issue, the most severe first."""
    import json

    found = sorted(issues(clean(report)), key=lambda one: (not one.broken, -one.severity.rank))
    return json.dumps([_entry(one) for one in found], indent=1, ensure_ascii=False) + "\n"


def _entry(issue: Issue) -> dict[str, Any]:
    return {
        "description": _description(issue),
        "check_name": issue.check.rule,
        "fingerprint": issue.fingerprint,
        "severity": BROKEN if issue.broken else SEVERITIES[issue.severity],
        "location": {"path": issue.at.path, "lines": {"begin": issue.at.line or 1}},
    }


def _description(issue: Issue) -> str:
    told = f"{issue.check.id}: {issue.message}"
    if issue.waived:
        told += f"\n  {issue.waived}"
    return f"{told}\n  and {issue.hidden:,} more" if issue.hidden else told


REPORTER = Reporter(name="gitlab", render=render, suffix=".json")
