"""How a notebook shows a report: the verdict, what failed with its remedy, and a line a check."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from html import escape

from ftcheck.records import Finding, Outcome, Result
from ftcheck.report import sampled, verdict_lines, wording
from ftcheck.report.clean import clean
from ftcheck.report.record import Report

STYLE = (
    "<style>.ftcheck td{text-align:left;vertical-align:top}.ftcheck .bad{color:#b3261e}"
    ".ftcheck small{opacity:.7}</style>"
)


@dataclass(frozen=True, slots=True)
class NotebookReport(Report):
    """A report that notebooks show by itself."""

    @classmethod
    def of(cls, report: Report) -> "NotebookReport":
        """The same report."""
        return cls(**{one.name: getattr(report, one.name) for one in fields(report)})

    def _repr_html_(self) -> str:
        return html(self)


def html(report: Report) -> str:
    """The report as one piece of HTML; it holds no text of rows, as no report does."""
    report = clean(report)
    head = f"<b>ftcheck {escape(report.policy_name)}: {escape(verdict_lines.verdict(report))}</b>"
    facts = (
        verdict_lines.tally(report),
        verdict_lines.gate_state(report.gate),
        sampled.state(report),
        verdict_lines.ids_state(report),
    )
    told = " · ".join(escape(one) for one in facts if one)
    problems = "".join(f"<p class=bad>{escape(str(one))}</p>" for one in report.problems)
    rows = "".join(_row(one) for _, results in verdict_lines.by_job(report) for one in results)
    return f"<div class=ftcheck>{STYLE}<p>{head}<br>{told}</p>{problems}<table>{rows}</table></div>"


def _row(result: Result) -> str:
    bad = result.outcome in (Outcome.FAILED, Outcome.ERRORED, Outcome.TIMEOUT)
    explained = result.outcome not in (Outcome.PASSED, Outcome.FAILED)
    said = wording.reason_of(result) if explained else wording.telling(result)
    cells = (
        wording.SYMBOLS[result.outcome],
        escape(result.check.id),
        "<br>".join((escape(said), *_findings(result))),
    )
    return f"<tr{' class=bad' if bad else ''}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _findings(result: Result) -> Iterator[str]:
    shown = wording.shown_findings(result) if result.outcome is not Outcome.PASSED else ()
    for finding in shown:
        yield _finding(finding)
    more = wording.unshown(result, len(shown)) if shown else 0
    if more > 0:
        yield f"<small>and {more:,} more</small>"


def _finding(finding: Finding) -> str:
    place = wording.place(finding.at)
    where = f"<code>{escape(place)}</code> " if place else ""
    remedy = f"<br><small>fix: {escape(finding.fix)}</small>" if finding.fix else ""
    return f"{where}{escape(finding.message)}{remedy}"
