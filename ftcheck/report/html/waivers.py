"""Waivers: what is accepted for now, why, by whom, and how long still."""

from collections.abc import Iterator
from datetime import date

from markupsafe import Markup

from ftcheck.plurals import counted
from ftcheck.records import Outcome
from ftcheck.report import verdict_lines
from ftcheck.report.html.data_table import Column, table
from ftcheck.report.html.elements import badge, joined, section, tag
from ftcheck.report.html.findings import findings
from ftcheck.report.record import Report, WaiverUse

SOON = 7
"""Days before its end from which a waiver is marked."""
COLUMNS = (
    Column("check", names=True),
    Column("reason"),
    Column("owner"),
    Column("expires"),
    Column("left"),
    Column("used"),
)


def waivers(report: Report, told: str = "") -> Markup:
    """A row for each waiver of the policy, then what the waived checks found."""
    rows = table("Waivers", COLUMNS, (_row(report, one) for one in report.waivers), stacked=True)
    heading = f"Waivers{told} ({len(report.waivers):,})"
    return section(f"waivers-{report.stage.value}", heading, rows, joined(_waived(report)))


def _row(report: Report, waiver: WaiverUse) -> tuple[str, ...]:
    used = "yes" if waiver.used else badge("unused", "warn", "!")
    return (waiver.check, waiver.reason, waiver.owner, waiver.expires, _left(report, waiver), used)


def _left(report: Report, waiver: WaiverUse) -> str:
    """The days from the run to the end, both days counted in UTC."""
    days = days_left(report, waiver)
    if days is None:
        return ""
    if days < 0:
        return badge(f"expired {counted(-days, 'day')} ago", "fail", "✗")
    said = "last day" if days == 0 else counted(days, "day")
    return badge(said, "warn", "!") if days <= SOON else said


def days_left(report: Report, waiver: WaiverUse) -> int | None:
    """Days that a waiver still holds, from the run on; 0 on its last day."""
    moment = verdict_lines.moment(report.finished_at) or verdict_lines.moment(report.started_at)
    try:
        end = date.fromisoformat(waiver.expires)
    except ValueError:
        return None
    return (end - moment.date()).days if moment is not None else None


def _waived(report: Report) -> Iterator[Markup]:
    for result in report.results:
        if result.outcome is Outcome.WAIVED and result.findings:
            yield tag("article", tag("h3", result.check.id), findings(result), class_="card warn")
