"""`-o html`: the report as one page that needs no network, for the lead who decides in the morning."""

from ftcheck.extension.reporters import Reporter
from ftcheck.report.record import Report


def render(report: Report) -> str:
    """Verdict and gate, failures, jobs as figures, all checks with filters, what ran where."""
    from ftcheck.report.html.report_page import page

    return page(report)


REPORTER = Reporter(name="html", render=render, suffix=".html")
