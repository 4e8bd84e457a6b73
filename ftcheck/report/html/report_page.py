"""The page of a report: verdict and gate, failures, jobs, all checks, waivers, what ran where."""

from markupsafe import Markup

from ftcheck.report.clean import clean
from ftcheck.report.html import check_list, failed_checks, jobs, ran, verdict, waivers
from ftcheck.report.html.elements import joined
from ftcheck.report.html.shell import Document, document
from ftcheck.report.record import Report


def page(report: Report) -> str:
    """The report as one HTML file. No text of rows stands in it but what the report holds itself."""
    report = clean(report)
    parts = sections(report)
    links = [(name, word) for name, word, part in parts if part]
    title = f"{verdict.word(report)}: {report.policy_name} · ftcheck report"
    return document(
        Document("report", title, links, joined((verdict.top(report), *(p for _, _, p in parts))))
    )


def sections(report: Report) -> list[tuple[str, str, Markup]]:
    """The sections below the verdict: id, word in the navigation, content (empty where there is none)."""
    stage = report.stage.value
    return [
        (f"problems-{stage}", "Problems", failed_checks.problems(report)),
        (f"failures-{stage}", "Failures", failed_checks.failures(report)),
        (f"unfinished-{stage}", "Not finished", failed_checks.unfinished(report)),
        ("jobs", "Jobs", jobs.jobs(report)),
        ("checks", "Checks", check_list.checks([report])),
        (f"waivers-{stage}", "Waivers", waivers.waivers(report)),
        (f"notes-{stage}", "Notes", ran.notes(report)),
        (f"ran-{stage}", "What ran", ran.ran(report)),
    ]
