"""The top of a report's page: what came of the run, for which jobs the gate is open, and how old this is."""

from collections.abc import Iterator

from markupsafe import Markup

from ftcheck.paths import near
from ftcheck.plurals import agreeing, counted
from ftcheck.records import Outcome
from ftcheck.report import sampled, verdict_lines
from ftcheck.report.html.elements import badge, facts, joined, kind_of, outcome_sign, tag
from ftcheck.report.record import Report
from ftcheck.report.wording import UNFINISHED, WORDS

ORDER = (
    Outcome.FAILED,
    Outcome.ERRORED,
    Outcome.TIMEOUT,
    Outcome.NOT_RUN,
    Outcome.PASSED,
    Outcome.WAIVED,
    Outcome.SKIPPED,
)


def state(report: Report) -> str:
    """`pass`, `fail`, or `broken` for a run that opens nothing: only a complete one can pass."""
    if report.status in ("started", "incomplete"):
        return "broken"
    if report.verdict == "failed":
        return "fail"
    whole = report.status == "complete" and report.verdict == "passed"
    return "pass" if whole and not verdict_lines.decided_nothing(report) and not _shut(report) else "broken"


def _shut(report: Report) -> bool:
    """Whether the gate is shut for a job, as by a check that it requires and that was skipped."""
    return any(said != "open" for said in report.gate.values())


def top(report: Report) -> Markup:
    """Verdict, why it is no pass where it is none, the gate, the tally."""
    kind = state(report)
    sign = {"pass": "✓", "fail": "✗"}.get(kind, "!")
    name = tag("span", report.policy_name, class_="policy")
    head = tag("h1", tag("span", sign, class_=f"sign {kind}", aria_hidden="true"), word(report), " ", name)
    lines = joined(tag("p", line, class_="lead") for line in sentences(report))
    inside = tag("div", head, lines, _gate(report))
    return tag(
        "section", inside, _tally(report), _facts(report), class_=f"verdict {kind}", aria_label="Verdict"
    )


def word(report: Report) -> str:
    """The verdict in a word or two."""
    if report.status == "complete" and verdict_lines.decided_nothing(report):
        return "Nothing was decided"
    said = (report.verdict or "no verdict").capitalize()
    others = {"started": "Did not finish", "incomplete": "Incomplete", "partial": f"{said}, in part"}
    if report.verdict == "passed" and report.status == "complete" and _shut(report):
        return "Passed, but the gate is shut"
    return others.get(report.status, said)


def sentences(report: Report) -> Iterator[str]:
    """What the verdict rests on."""
    if report.status == "started":
        yield "The run was started and wrote no result: it still goes on, or was stopped. Nothing is proved."
        return
    undecided = [one for one in report.results if one.outcome in UNFINISHED]
    if report.status == "incomplete":
        yield (
            f"{counted(len(undecided), 'check')} {agreeing(len(undecided), 'has', 'have')} no result"
            if undecided
            else "Not all of the run could be done"
        ) + ": this is not a pass, whatever the other checks say."
    if report.status == "partial":
        yield "Only part of the planned checks ran: the gate wants all of them."
    nothing = verdict_lines.decided_nothing(report)
    if nothing:
        yield f"{nothing.capitalize()}: a run like this is not a pass."
    yield from _failed(report)


def _failed(report: Report) -> Iterator[str]:
    failed = [one for one in report.results if one.outcome is Outcome.FAILED]
    blocking = sum(one.blocking for one in failed)
    if blocking:
        rest = len(failed) - blocking
        others = f"; {rest:,} more failed without blocking" if rest else ""
        keep = agreeing(blocking, "keeps", "keep")
        yield f"{counted(blocking, 'failed check')} {keep} the gate shut{others}."
    elif failed:
        yield f"{counted(len(failed), 'check')} failed, and {agreeing(len(failed), 'does', 'do')} not block."
    elif state(report) == "pass":
        counts = report.counts()
        passed, rest = counts["passed"], counts["skipped"] + counts["waived"]
        aside = f"; {rest:,} {agreeing(rest, 'was', 'were')} skipped or waived" if rest else ""
        yield f"{counted(passed, 'check')} passed{aside}."


def _gate(report: Report) -> Markup:
    """A line for each job: open, or shut with the reason."""
    items = (
        tag("li", tag("b", job), " ", _gate_badge(said), class_="gate") for job, said in report.gate.items()
    )
    return (
        tag("ul", joined(items), class_="gates", aria_label="The gate, by job") if report.gate else Markup("")
    )


def _gate_badge(said: str) -> Markup:
    if said == "open":
        return badge("gate open", "pass", "✓")
    return badge(f"gate shut: {said}", "fail", "✗")


def gate_badge(report: Report, job: str) -> Markup:
    """The gate of a job; nothing where the run did not come to it."""
    return _gate_badge(report.gate[job]) if job in report.gate else Markup("")


def _tally(report: Report) -> Markup:
    counts = report.counts()
    shown = [one for one in ORDER if counts[one.value]]
    total = max(1, len(report.results))
    x, drawn = 0.0, []
    for one in shown:
        width = 360 * counts[one.value] / total
        drawn.append(tag("rect", x=x, y=0, width=max(1.0, width - 1), height=10, class_=kind_of(one)))
        x += width
    said = ", ".join(f"{counts[one.value]:,} {_word(one)}" for one in shown)
    drawing = tag(
        "svg", *drawn, viewBox="0 0 360 10", preserveAspectRatio="none", role="img", aria_label=said
    )
    tiles = (_tile(one, counts[one.value]) for one in shown)
    return tag("div", drawing if shown else None, tag("ul", joined(tiles), class_="tiles"), class_="tally")


def _tile(outcome: Outcome, count: int) -> Markup:
    inside = (tag("b", f"{count:,}"), tag("span", outcome_sign(outcome), " ", _word(outcome)))
    return tag("li", tag("a", *inside, href="#checks", data_outcome=outcome.value))


def _word(outcome: Outcome) -> str:
    return WORDS.get(outcome, outcome.value)


def _facts(report: Report) -> Markup:
    seconds = verdict_lines.seconds_of(report)
    took = verdict_lines.duration(seconds) if seconds is not None else None
    ids = verdict_lines.ids_state(report).removeprefix("ids: ")
    drawn = sampled.state(report)
    return facts(
        (
            ("Policy", near(report.policy_path)),
            ("Stage", report.stage.value),
            ("Finished" if report.finished_at else "Started", when(report.finished_at or report.started_at)),
            ("Took", took),
            ("Sample", badge(drawn, "warn", "!") if drawn else None),
            ("Ids", badge(ids, "warn", "!") if "unverified" in ids else ids),
            ("Fail on", f"findings of severity {report.fail_on.value}"),
        )
    )


def when(text: str) -> Markup | None:
    """A moment of the report, with what a script needs to say how long ago that was."""
    moment = verdict_lines.moment(text)
    if moment is None:
        return None
    shown = moment.strftime("%Y-%m-%d %H:%M %Z").replace("UTC+00:00", "UTC")
    return tag("time", shown, datetime=moment.isoformat(timespec="seconds"), class_="age")
