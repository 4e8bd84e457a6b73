"""All checks, each in a line that opens, with filters by outcome, job, rule and text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftcheck.records import Measurement, Outcome, Result
from ftcheck.report import sampled, verdict_lines, wording
from ftcheck.report.html.data_table import Column, table
from ftcheck.report.html.elements import facts, joined, outcome_sign, prose, section, tag
from ftcheck.report.html.findings import findings, remedies
from ftcheck.report.html.jobs import HISTOGRAM
from ftcheck.report.html.verdict import ORDER
from ftcheck.report.record import Report

COLUMNS = (
    Column("measurement", names=True),
    Column("value", number=True),
    Column("unit"),
    Column("limit"),
)


def checks(reports: Sequence[Report]) -> Markup:
    """Every check of the reports, of each those of the host first."""
    groups = joined(
        _group(report, _title(title, report, reports), results)
        for report in reports
        for title, results in verdict_lines.by_job(report)
    )
    results = [one for report in reports for one in report.results]
    bar = _filters(results) if results else None
    none = tag("p", "No check matches these filters.", id="none", hidden=True) if results else None
    return section("checks", f"All checks ({len(results):,})", bar, groups, none)


def _title(title: str, report: Report, reports: Sequence[Report]) -> str:
    return title if len(reports) == 1 else f"{title} · {report.stage.value} training"


def _filters(results: Sequence[Result]) -> Markup:
    jobs = dict.fromkeys(one.check.job or "host" for one in results)
    rules = sorted({one.check.rule for one in results})
    search = tag("input", id="q", type="search", placeholder="Search checks and findings", autocomplete="off")
    return tag(
        "form",
        tag("div", tag("label", "Search", for_="q", class_="sr"), search, class_="search"),
        tag("div", joined(_pills(results)), class_="pills", role="group", aria_label="Outcomes"),
        _select("job", "Job", "all jobs", jobs),
        _select("rule", "Rule", "all rules", rules),
        tag("button", "Clear", type="reset", class_="button"),
        tag("button", "Open all", type="button", class_="button", id="open"),
        tag("p", id="shown", class_="note", role="status"),
        class_="filters js",
        id="filters",
        role="search",
        aria_label="Filter the checks",
    )


def _pills(results: Sequence[Result]) -> Iterator[Markup]:
    """A switch for each outcome that there is."""
    counts = Counter(one.outcome for one in results)
    for outcome in ORDER:
        if counts[outcome]:
            yield tag(
                "button",
                outcome_sign(outcome),
                f" {wording.WORDS.get(outcome, outcome.value)} ",
                tag("span", f"{counts[outcome]:,}", class_="count"),
                type="button",
                class_="button",
                data_outcome=outcome.value,
                aria_pressed="false",
            )


def _select(identifier: str, word: str, every: str, names: Iterable[str]) -> Markup:
    options = (tag("option", one, value=one) for one in names)
    inside = tag("select", tag("option", every, value=""), joined(options), id=identifier)
    return tag("label", tag("span", word, class_="sr"), inside)


def _group(report: Report, title: str, results: Iterable[Result]) -> Markup:
    lines = joined(_check(report, one) for one in results)
    return tag("div", tag("h3", title), lines, class_="group")


def _check(report: Report, result: Result) -> Markup:
    """One check: its outcome, its name and its most telling number; what it measured opens below."""
    explained = result.outcome not in (Outcome.PASSED, Outcome.FAILED)
    said = wording.reason_of(result) if explained else wording.telling(result)
    remarks = len(result.findings) if result.outcome is Outcome.PASSED else 0
    summary = tag(
        "summary",
        outcome_sign(result.outcome),
        tag("span", f"{wording.outcome_word(result)}: ", class_="sr"),
        tag("span", result.check.name, class_="name"),
        tag("span", wording.one_line(said), class_="said text"),
        tag("span", f"{remarks} remark{'s' * (remarks > 1)}", class_="remarks") if remarks else None,
    )
    return tag(
        "details",
        summary,
        tag("div", _inside(report, result), class_="inside"),
        class_="check",
        data_outcome=result.outcome.value,
        data_job=result.check.job or "host",
        data_rule=result.check.rule,
    )


def _inside(report: Report, result: Result) -> Markup:
    check, text = result.check, report.rules.get(result.check.rule)
    shown = result.outcome in (Outcome.PASSED, Outcome.WAIVED)
    return joined(
        (
            tag("p", prose(text.holds), class_="holds") if text is not None else None,
            measurements(result.measurements),
            findings(result) if shown else _where(report, result),
            remedies(report, result) if shown else None,
            facts(
                (
                    ("Outcome", wording.outcome_word(result)),
                    ("Reason", result.reason),
                    ("Id", tag("code", check.id)),
                    ("Rule", check.rule if check.rule != check.name else None),
                    ("Plugin", check.plugin),
                    ("Severity at most", check.severity.value if check.severity else None),
                    ("Parameters", parameters(check.params)),
                    ("Tags", ", ".join(check.tags)),
                    ("Took", verdict_lines.duration(result.seconds) if result.seconds else None),
                    ("Reads", "the text of rows" if result.reads_content else None),
                ),
                "facts small",
            ),
        )
    )


def _where(report: Report, result: Result) -> Markup | None:
    """A failed check's findings stand above: they are not said twice."""
    if result.outcome is not Outcome.FAILED:
        return None
    return tag("p", tag("a", "Its findings stand under Failures.", href=f"#failures-{report.stage.value}"))


def measurements(measured: Iterable[Measurement]) -> Markup:
    """All measurements as a table; a histogram is drawn with its job."""
    rows = (
        (one.name, sampled.valued(one) if one.value is not None else "not known", one.unit, one.limit)
        for one in measured
        if one.name != HISTOGRAM
    )
    return table("Measurements", COLUMNS, rows)


def parameters(params: Mapping[str, Any]) -> Markup | None:
    """The parameters of a check, as the policy would write them."""
    return tag("code", ", ".join(_stated(params))) if params else None


def _stated(params: Mapping[str, Any]) -> Iterator[str]:
    for key, value in params.items():
        yield f"{key}: {wording.setting(value)}"
