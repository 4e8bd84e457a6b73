"""What failed and what did not finish: place, why, and what to do about it, the blocking ones first."""

from collections.abc import Iterator

from markupsafe import Markup

from ftcheck.errors import Problem
from ftcheck.plurals import counted
from ftcheck.records import Outcome, Result
from ftcheck.report import wording
from ftcheck.report.html.elements import badge, code, facts, folded, joined, prose, section, tag
from ftcheck.report.html.findings import findings, reasons, remedies
from ftcheck.report.record import Report, RuleText


def problems(report: Report, told: str = "") -> Markup:
    """What kept the run from being complete; `told` says which run, where a page has several."""
    items = (tag("li", _place(one), tag("span", one.message, class_="text")) for one in report.problems)
    listed = tag("ul", joined(items), class_="findings")
    inside = tag("article", listed, class_="card fail") if report.problems else None
    return section(f"problems-{report.stage.value}", f"Problems of the run{told}", inside)


def _place(problem: Problem) -> Markup | None:
    where = ":".join(str(one) for one in (problem.path, problem.line, problem.column) if one is not None)
    said = ": ".join(one for one in (where, problem.yaml_path) if one)
    return tag("span", code(said), class_="place") if said else None


def failures(report: Report, told: str = "") -> Markup:
    """A card for each check that failed."""
    failed = [one for one in report.results if one.outcome is Outcome.FAILED]
    failed.sort(key=lambda one: not one.blocking)
    cards = joined(_card(report, one) for one in failed)
    return section(f"failures-{report.stage.value}", f"Failures{told} ({len(failed):,})", cards)


def _card(report: Report, result: Result) -> Markup:
    text = report.rules.get(result.check.rule, RuleText("", ""))
    why = reasons(wording.shown_findings(result), text.why)
    told = facts(
        (
            ("Why", joined(tag("p", prose(one), class_="text") for one in why if one)),
            ("Fix", remedies(report, result)),
        ),
        "advice",
    )
    kind = "fail" if result.blocking else "warn"
    summary = tag("p", result.summary, class_="summary text") if result.summary else None
    return tag("article", _heading(result), summary, findings(result), told, class_=f"card {kind}")


def _heading(result: Result) -> Markup:
    kind = "fail" if result.blocking else "warn"
    return tag("h3", name(result), " ", badge(wording.outcome_word(result), kind, "✗"))


def name(result: Result) -> Markup:
    """`analyst › truncation`, as the checks' list has it."""
    job = tag("span", result.check.job, " › ", class_="job") if result.check.job else None
    return tag("span", job, result.check.name, class_="name")


def unfinished(report: Report, told: str = "") -> Markup:
    """What has no result, each reason once with the checks that it stopped."""
    broken = [one for one in report.results if one.outcome in wording.UNFINISHED]
    cards = joined(_stopped(reason, together) for reason, together in wording.by_reason(broken))
    return section(f"unfinished-{report.stage.value}", f"Not finished{told} ({len(broken):,})", cards)


def _stopped(reason: str, together: list[Result]) -> Markup:
    first = together[0]
    word = badge(wording.outcome_word(first), "broken", wording.SYMBOLS[first.outcome])
    heading = tag("h3", counted(len(together), "check"), " ", word)
    names = tag("p", joined((name(one) for one in together), ", "), class_="note")
    traces = joined(_traces(together))
    return tag("article", heading, tag("p", reason, class_="text"), names, traces, class_="card broken")


def _traces(together: list[Result]) -> Iterator[Markup]:
    for detail in dict.fromkeys(one.detail for one in together if one.detail):
        yield folded("Details", tag("pre", detail, class_="quoted"))
