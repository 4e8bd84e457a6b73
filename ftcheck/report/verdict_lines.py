"""The lines that sum up a run: the tally, the verdict, the waivers, the gate."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime

from ftcheck.plurals import agreeing, counted
from ftcheck.records import Outcome, Result
from ftcheck.report import wording
from ftcheck.report.record import Report
from ftcheck.report.wording import WORDS, is_warning

OWN = "ftcheck"
"""The distribution of the built-in plugins."""
_TALLY = (
    Outcome.FAILED,
    Outcome.ERRORED,
    Outcome.TIMEOUT,
    Outcome.NOT_RUN,
    Outcome.PASSED,
    Outcome.SKIPPED,
    Outcome.WAIVED,
)
_ALWAYS = (Outcome.PASSED, Outcome.SKIPPED, Outcome.WAIVED)


def by_job(report: Report) -> list[tuple[str, list[Result]]]:
    """Results with their heading: those of the host first, then the jobs in the report's order."""
    jobs = [None, *report.jobs, *(result.check.job for result in report.results)]
    groups: dict[str | None, list[Result]] = {job: [] for job in jobs}
    for result in report.results:
        groups[result.check.job].append(result)
    return [("host" if job is None else job, results) for job, results in groups.items() if results]


def tally(report: Report) -> str:
    """`2 failed, 31 passed, 1 skipped, 1 waived (expires in 6 days)`; passed, skipped, waived always."""
    counts = report.counts()
    parts = []
    for outcome in _TALLY:
        count = counts[outcome.value]
        if count or outcome in _ALWAYS:
            parts.append(f"{count:,} {WORDS.get(outcome, outcome.value)}{_remark(report, outcome, count)}")
    return ", ".join(parts)


def _remark(report: Report, outcome: Outcome, count: int) -> str:
    if outcome is Outcome.FAILED:
        required = sum(is_warning(result) and result.check.required for result in report.results)
        warnings = sum(is_warning(result) for result in report.results) - required
        told = [(warnings, wording.NOT_BLOCKING), (required, wording.REQUIRED)]
        said = [what if how_many == count else f"{how_many:,} {what}" for how_many, what in told if how_many]
        return f" ({', '.join(said)})" if said else ""
    if outcome is Outcome.WAIVED and count:
        return _expiry(report)
    return ""


def _expiry(report: Report) -> str:
    ends = sorted(end for waiver in report.waivers if waiver.used and (end := _day(waiver.expires)))
    now = moment(report.finished_at) or moment(report.started_at)
    if not ends or now is None:
        return ""
    days = (ends[0] - now.astimezone(UTC).date()).days
    when = "today" if days == 0 else f"in {counted(days, 'day')}" if days > 0 else f"on {ends[0]}"
    return f" ({'first ' if len(ends) > 1 else ''}expires {when})"


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def waived_because(result: Result) -> str:
    """`waived until 2026-12-31: synthetic paraphrases, reviewed (data-team)`."""
    reason = wording.reason_of(result)
    return reason if reason.startswith("waived") else f"waived: {reason}"


def moment(text: str | None) -> datetime | None:
    """A time of the report; a time without zone is UTC."""
    try:
        read = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def seconds_of(report: Report) -> float | None:
    """How long the run took."""
    started, finished = moment(report.started_at), moment(report.finished_at)
    return (finished - started).total_seconds() if started and finished else None


def duration(seconds: float) -> str:
    """`4.4 s`, `2 min 5 s`, `1 h 2 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def gate_state(gate: Mapping[str, str], until: str = "") -> str:
    """`gate shut for analyst (failed), open for mapper`, with `until` behind it; empty without jobs."""
    shut = [f"{job} ({codes})" for job, codes in gate.items() if codes != "open"]
    is_open = [job for job, codes in gate.items() if codes == "open"]
    parts = [f"shut for {', '.join(shut)}"] if shut else []
    if is_open:
        parts.append(f"open for {', '.join(is_open)}{f' {until}' if until else ''}")
    return f"gate {', '.join(parts)}" if parts else ""


def ids_state(report: Report) -> str:
    """`ids: as TRL 1.16 prepares them`, by job where they differ; empty where no rows were prepared."""
    said = {job: str(one.ids_from) for job, one in report.jobs.items() if one.ids_from is not None}
    if len(set(said.values())) < 2:
        return "".join(f"ids: {one}" for one in dict.fromkeys(said.values()))
    return "ids: " + "; ".join(f"{job} {one}" for job, one in said.items())


def content_read(report: Report) -> Iterator[str]:
    """Which checks of other plugins looked at the rows' texts; for ftcheck's own only the JSON says it."""
    own = {one.name for one in report.plugins if one.distribution == OWN}
    names = [
        one.check.id
        for one in report.results
        if one.reads_content and one.check.plugin.partition(" ")[0] not in own
    ]
    if names:
        yield f"{', '.join(names)} {agreeing(len(names), 'reads', 'read')} the text of rows"


def verdict(report: Report) -> str:
    """`passed`, `failed`, `passed (partial: …)`, `did not finish` ..."""
    if report.status == "started":
        return "did not finish"
    if report.status == "incomplete":
        return "incomplete"
    word = report.verdict or "no verdict"
    return f"{word} (partial: not all planned checks ran)" if report.status == "partial" else word


def decided_nothing(report: Report) -> str:
    """Why a finished run proves nothing, if it does: no check at all, or none that passed or failed."""
    if not report.results:
        return "no checks ran"
    idle = {Outcome.SKIPPED, Outcome.WAIVED}
    return "nothing passed or failed" if all(one.outcome in idle for one in report.results) else ""
