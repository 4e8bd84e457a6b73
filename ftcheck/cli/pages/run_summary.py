"""What the terminal shows at the end of a run: findings with place, reason and fix, then the tally."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

from ftcheck.cli.pages.screen import Screen, tied
from ftcheck.paths import near
from ftcheck.plurals import counted
from ftcheck.records import Change, Finding, Location, Outcome, Result, Severity
from ftcheck.report import sampled, verdict_lines, wording
from ftcheck.report.record import Report

WIDEST_PLACE = 60
NARROW = 40
MAX_REMEDIES = 5
MAX_WAIVED = 3


@dataclass(frozen=True, slots=True)
class Telling:
    """How much is shown, and what the report alone does not know."""

    verbose: bool = False
    durations: int | None = None
    why: Mapping[str, str] = field(default_factory=dict)
    place_of: Callable[[str], Location] | None = None
    max_age: timedelta | None = None


def print_aftermath(screen: Screen, report: Report, telling: Telling) -> None:
    """Blocks from the least to the most urgent, so that the worst stands next to the tally."""
    for result in _with(report, Outcome.WAIVED):
        _waived(screen, report, result, telling)
    failed = sorted(_with(report, Outcome.FAILED), key=lambda result: result.blocking)
    for result in failed:
        _failed(screen, report, result, telling)
    broken = (one for one in report.results if one.outcome in (Outcome.ERRORED, Outcome.TIMEOUT))
    for reason, together in wording.by_reason(broken):
        _broken(screen, reason, together, telling)
    _problems(screen, report)
    _durations(screen, report, telling.durations)
    _notes(screen, report, telling)
    screen.blank()
    _tally(screen, report, telling)


def _with(report: Report, outcome: Outcome) -> list[Result]:
    return [result for result in report.results if result.outcome is outcome]


def _failed(screen: Screen, report: Report, result: Result, telling: Telling) -> None:
    style = "bold red" if result.blocking else "bold yellow"
    required = wording.is_required(result)
    remark = "" if result.blocking else wording.REQUIRED if required else wording.NOT_BLOCKING
    screen.blank()
    screen.put([("FAILED ", style), (result.check.id, "bold")], f"  {remark}" if remark else "")
    shown = wording.shown_findings(result)
    _findings(screen, shown)
    _more(screen, report, result, len(shown))
    _reasons(screen, shown, telling.why.get(result.check.rule, ""))
    _remedies(screen, report, result, shown, telling)


def _reasons(screen: Screen, findings: Sequence[Finding], general: str) -> None:
    """What goes wrong, each reason once: the finding's own where it has one, else the rule's."""
    serious = [one for one in findings if one.severity is not Severity.INFO] or findings
    label = "  why   "
    for why in list(dict.fromkeys(one.why or general for one in serious) or [general])[:MAX_REMEDIES]:
        if why:
            screen.put([(label, "bold")], wording.one_line(why), hang=8)
            label = " " * 8


def _findings(screen: Screen, findings: Sequence[Finding]) -> None:
    """Places in one column, messages in another; the message of a place that is too wide stands below it."""
    places = [wording.place(finding.at) for finding in findings]
    limit = WIDEST_PLACE if screen.width is None else screen.width * 55 // 100
    column = max((len(place) for place in places if len(place) <= limit), default=0)
    for place, finding in zip(places, findings, strict=True):
        if len(place) > column:
            screen.put([("  ", ""), (place, "cyan")])
            screen.put([("        ", "")], finding.message, hang=8)
        else:
            prefix = [("  ", ""), (place.ljust(column), "cyan"), ("    ", "")] if column else [("  ", "")]
            narrow = screen.width is not None and screen.width - column - 6 < NARROW and column
            screen.put(prefix, finding.message, hang=8 if narrow or "\n" in finding.message else None)


def _more(screen: Screen, report: Report, result: Result, shown: int) -> None:
    more = wording.unshown(result, shown)
    if more > 0:
        gold = report.inputs.get(f"{result.check.job}.gold")
        places = [one.at for one in result.findings if one.at is not None and one.at.row is not None]
        row = next((at.row for at in places if gold is None or near(at.path or "") != gold.path), None)
        last = tied(f"--job {result.check.job} --row {row})")
        given = _given(report, result)
        command = f"{tied(f'(ftcheck show {near(report.policy_path)}')} {given}{last}"
        command = command if given else tied(command)
        screen.put([("  ", "")], f"and {more:,} more {command if row and result.check.job else ''}", hang=8)


def _remedies(
    screen: Screen, report: Report, result: Result, findings: Sequence[Finding], telling: Telling
) -> None:
    """Each fix once, however many findings share it."""
    remedies = dict.fromkeys(
        (one.fix, _change_line(one, telling)) for one in findings if one.fix or one.change
    )
    label = "  fix   "
    for fix, change in list(remedies)[:MAX_REMEDIES]:
        place, text = change or ("", "")
        lead = [(label, "bold"), *([(f"{place}  ", "cyan")] if place else [])]
        screen.put(lead, _remedy(text, fix or ""), hang=8)
        label = " " * 8
    if len(remedies) > MAX_REMEDIES:
        screen.put([(label, "")], f"and {len(remedies) - MAX_REMEDIES:,} more", hang=8)
    _command(screen, report, result, findings, telling)


def _command(
    screen: Screen, report: Report, result: Result, findings: Sequence[Finding], telling: Telling
) -> None:
    """The command that shows the changes as a diff; none changes what was set on the command line."""
    changes = [
        one.change
        for one in findings
        if one.change and wording.mends(one) and _in_file(one.change, one, telling)
    ]
    if changes and _is_file(telling):
        switch = "" if all(one.safe for one in changes) else "--unsafe "
        given, last = _given(report, result), tied(f"{switch}--diff")
        command = f"{tied(f'ftcheck fix {near(report.policy_path)}')} {given}{last}"
        screen.put([(" " * 8, "")], command if given else tied(command), hang=8)


def _is_file(telling: Telling) -> bool:
    """Whether the policy is a file that can be written to, not made of data or of a configuration."""
    return telling.place_of is None or telling.place_of("ftcheck").path is not None


def _given(report: Report, result: Result) -> str:
    """What the user gave to the command with `--set`, as far as it is about the check's job."""
    job = result.check.job
    about = [one for one in report.overrides if job is None or one.startswith(f"jobs.{job}.")]
    return "".join(tied(f"--set {shlex.quote(one)}") + " " for one in about)


def _remedy(change: str, fix: str) -> str:
    """The change, and the rule's own text about it unless that says the same: a change is said once."""
    if not change or not fix:
        return fix or tied(change)
    if change in fix:
        return fix
    path, _, values = change.partition(": ")
    key, new = path.rpartition(".")[2], values.rpartition(" -> ")[2]
    if fix in (f"{key}: {values}", f"{key}: {new}", f"set {key}: {new}"):
        return tied(change)
    return f"{tied(change)}   ({fix})"


def _change_line(finding: Finding, telling: Telling) -> tuple[str, str] | None:
    """`policy.yaml:58:19` and `max_length: 1024 -> 1536`; the whole YAML path where no place is known."""
    change = finding.change
    if change is None:
        return None
    at = _place_of(change, finding, telling)
    text = wording.change_text(change)
    return (at, text[len(change.path) - len(_key(change)) :]) if at else ("", text)


def _place_of(change: Change, finding: Finding, telling: Telling) -> str:
    return wording.place(_location_of(change, finding, telling))


def _location_of(change: Change, finding: Finding, telling: Telling) -> Location | None:
    at = finding.at
    if at is not None and at.yaml_path == change.path and at.path is not None:
        return at
    return telling.place_of(change.path) if telling.place_of else None


def _in_file(change: Change, finding: Finding, telling: Telling) -> bool:
    """Whether a change can be made in a file: what the command line states cannot."""
    at = _location_of(change, finding, telling)
    return at is None or at.in_file


def _key(change: Change) -> str:
    return change.path.rpartition(".")[2]


def _waived(screen: Screen, report: Report, result: Result, telling: Telling) -> None:
    screen.blank()
    because = verdict_lines.waived_because(result).removeprefix("waived").removeprefix(":").strip()
    screen.put([("WAIVED ", "bold yellow"), (f"{result.check.id}  ", "bold")], because, hang=8)
    shown = wording.shown_findings(result)[: None if telling.verbose else MAX_WAIVED]
    _findings(screen, shown)
    _more(screen, report, result, len(shown))


def _broken(screen: Screen, reason: str, together: list[Result], telling: Telling) -> None:
    """The same reason is given once, with the checks that it stopped."""
    first = together[0]
    word = wording.outcome_word(first).upper()
    others = f" and {counted(len(together) - 1, 'other check')}" if len(together) > 1 else ""
    screen.blank()
    screen.put([(f"{word} ", "bold red"), (first.check.id, "bold"), (others, "")])
    screen.put([("  ", "")], reason, hang=2)
    if others:
        ids = ", ".join(result.check.id for result in together)
        screen.put([("  checks  ", "bold")], ids, hang=10)
    if telling.verbose and first.detail:
        screen.put([("  ", "")], first.detail, "dim", hang=2)


def _problems(screen: Screen, report: Report) -> None:
    if report.problems:
        screen.blank()
        screen.put([("PROBLEMS", "bold red"), (" of the run", "")])
        found = [
            Finding(
                ": ".join(part for part in (one.yaml_path, one.message) if part),
                at=_at(one.path, one.line, one.column),
            )
            for one in report.problems
        ]
        _findings(screen, found)


def _at(path: str | None, line: int | None, column: int | None) -> Location | None:
    return Location(path, line, column) if path else None


def _durations(screen: Screen, report: Report, wanted: int | None) -> None:
    """The slowest checks; 0 means all."""
    if wanted is None or not report.results:
        return
    slowest = sorted(report.results, key=lambda result: (-result.seconds, result.check.id))
    screen.blank()
    screen.put([("slowest checks", "bold")])
    for result in slowest[: wanted or None]:
        screen.put([(f"  {verdict_lines.duration(result.seconds):>12}  ", ""), (result.check.id, "")])


def _notes(screen: Screen, report: Report, telling: Telling) -> None:
    notes = list(_told(report, telling))
    if notes:
        screen.blank()
    for note in notes:
        screen.put([("note  ", "bold")], note, hang=6)


def _told(report: Report, telling: Telling) -> Iterator[str]:
    yield from report.notes
    if report.overrides:
        yield f"set on the command line: {', '.join(report.overrides)}"
    yield from verdict_lines.content_read(report)
    if not telling.verbose:
        yield from _hidden(report.results)
    elif report.cached:
        names = ", ".join(sorted(report.cached))
        on_kept = f"; kept facts in {', '.join(report.cached_checks)}" if report.cached_checks else ""
        yield f"from the cache: {names} (every check ran; --no-cache makes them again){on_kept}"


def _hidden(results: Iterable[Result]) -> Iterator[str]:
    results = list(results)
    remarks = sum(len(one.findings) for one in results if one.outcome is Outcome.PASSED)
    if remarks:
        them = "it" if remarks == 1 else "them"
        yield f"{counted(remarks, 'remark')} on passed checks; -v shows {them}"
    if any(one.detail for one in results if one.outcome is Outcome.ERRORED):
        yield "-v shows the tracebacks"


def _tally(screen: Screen, report: Report, telling: Telling) -> None:
    seconds = verdict_lines.seconds_of(report)
    bad = (
        report.verdict != "passed"
        or report.status != "complete"
        or bool(verdict_lines.decided_nothing(report))
    )
    took = f" in {verdict_lines.duration(seconds)}" if seconds is not None else ""
    parts = [
        ", ".join(tied(part) for part in (verdict_lines.tally(report) + took).split(", ")),
        tied(f"{report.status} run") if report.status != "complete" else "",
        tied(verdict_lines.decided_nothing(report)),
        verdict_lines.gate_state(report.gate, tied(_until(report, telling))),
    ]
    screen.put([], tied(" · ").join(part for part in parts if part), "bold red" if bad else "bold green")
    drawn = sampled.state(report)
    if drawn:
        screen.put([], drawn, "bold yellow")
    ids = verdict_lines.ids_state(report)
    if ids:
        screen.put([], ids, "bold yellow" if "unverified" in ids else "dim")


def _until(report: Report, telling: Telling) -> str:
    """When the gate shuts by itself: the report is too old, or the first waiver ends."""
    finished = verdict_lines.moment(report.finished_at)
    if finished is None or telling.max_age is None:
        return ""
    ends = [finished + telling.max_age, *_waiver_ends(report)]
    return min(ends).astimezone().strftime("until %Y-%m-%d %H:%M")


def _waiver_ends(report: Report) -> Iterator[datetime]:
    for waiver in report.waivers:
        end = verdict_lines.moment(waiver.expires) if waiver.used else None
        if end is not None:
            yield datetime.combine(end.date() + timedelta(days=1), time(), UTC)
