"""What became of each job of a run, in one line: for tables of many jobs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ftcheck.errors import Problem
from ftcheck.plurals import counted
from ftcheck.records import Outcome, Result
from ftcheck.report.record import Report
from ftcheck.report.wording import UNFINISHED


class Verdict(StrEnum):
    """What became of a job; the worst first."""

    UNREADABLE = "unreadable"
    NOT_RUN = "not run"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    SHUT = "gate shut"
    NOTHING = "nothing checked"
    WARNED = "warnings"
    PASSED = "passed"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Verdict).index(self)

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against training the job."""
        return self in (Verdict.WARNED, Verdict.PASSED)


@dataclass(frozen=True, slots=True)
class JobVerdict:
    """A job's verdict: `why` names the checks that speak against it, or what went wrong. `SHUT` is a job of
    which no check that ran speaks against it, but which may not be trained.

    `job` is None for the host's checks, and where the policy did not come to its jobs. `gate` is `open`, the
    refusal codes, or empty.
    """

    policy: str
    job: str | None
    verdict: Verdict
    why: str = ""
    gate: str = ""

    @property
    def shown(self) -> str:
        """`policy · job`."""
        return " · ".join(part for part in (self.policy, self.job) if part)


@dataclass(frozen=True, slots=True)
class Alike:
    """Jobs of one policy with the same verdict for the same reason."""

    verdicts: tuple[JobVerdict, ...]

    @property
    def first(self) -> JobVerdict:
        """The first of them."""
        return self.verdicts[0]

    @property
    def shown(self) -> str:
        """`policy · job`, or `policy · 10 jobs (first … last)`."""
        if len(self.verdicts) == 1:
            return self.first.shown
        ends = f"{self.first.job} … {self.verdicts[-1].job}"
        return f"{self.first.policy} · {counted(len(self.verdicts), 'job')} ({ends})"


def verdicts(
    policy: str, report: Report, problems: Sequence[Problem] = (), *, interrupted: bool = False
) -> tuple[JobVerdict, ...]:
    """The verdict of each job of a report, host first where its checks found something; never none.

    `problems` are why the run ended before its checks, or could not be written; `interrupted`, that it was
    Ctrl-C.
    """
    if not report.results and interrupted:
        return (JobVerdict(policy, None, Verdict.NOT_RUN, "interrupted before its first check"),)
    if not report.results:
        said = [*problems, *report.problems]
        if said:
            more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
            return (JobVerdict(policy, None, Verdict.UNREADABLE, f"{said[0]}{more}"),)
        return (
            JobVerdict(
                policy, None, Verdict.NOTHING, "no checks ran: it states no jobs, or none was selected"
            ),
        )
    found = [_of_job(policy, report, job) for job in report.jobs]
    host = _of_results(policy, None, [one for one in report.results if one.check.job is None], "")
    if not report.jobs or host.verdict not in (Verdict.PASSED, Verdict.NOTHING):
        found.insert(0, host)
    return tuple(found)


def _of_job(policy: str, report: Report, job: str) -> JobVerdict:
    gate = report.gate.get(job, "")
    return _of_results(policy, job, [one for one in report.results if one.check.job == job], gate)


def _of_results(policy: str, job: str | None, results: Sequence[Result], gate: str) -> JobVerdict:
    verdict = _verdict(results, gate)
    against = list(_against(results, verdict))
    why = _reason(against) or _listed([one.check.name for one in against])
    return JobVerdict(policy, job, verdict, why or _shut(gate), gate)


def _reason(against: Sequence[Result]) -> str:
    """Why checks could not be done, where that is one and the same for all of them."""
    reasons = {one.reason for one in against if one.outcome in UNFINISHED}
    unfinished = all(one.outcome in UNFINISHED for one in against)
    return (reasons.pop() or "") if unfinished and len(reasons) == 1 else ""


def _codes(gate: str) -> list[str]:
    """The codes that say more than that a part of the checks ran."""
    return [code for code in gate.split(", ") if code not in ("", "open", "partial")]


def _shut(gate: str) -> str:
    """Why a job may not be trained against which no check of its own speaks."""
    codes = _codes(gate)
    return "a check of the host fails" if codes == ["failed"] else ", ".join(codes)


def _verdict(results: Sequence[Result], gate: str) -> Verdict:
    if any(one.outcome in UNFINISHED for one in results) or "incomplete" in _codes(gate):
        return Verdict.INCOMPLETE
    if any(one.blocking for one in results):
        return Verdict.FAILED
    if _codes(gate):
        return Verdict.SHUT
    if not any(one.outcome in (Outcome.PASSED, Outcome.FAILED) for one in results):
        return Verdict.NOTHING
    return Verdict.WARNED if any(one.outcome is Outcome.FAILED for one in results) else Verdict.PASSED


def _against(results: Iterable[Result], verdict: Verdict) -> Iterator[Result]:
    for one in results:
        counts = one.blocking or one.check.required or verdict is Verdict.WARNED
        if one.outcome in UNFINISHED or (one.outcome is Outcome.FAILED and counts):
            yield one


SHOWN = 4


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def grouped(found: Iterable[JobVerdict]) -> list[Alike]:
    """Jobs that are alike together, the worst first."""
    groups: dict[tuple[str, Verdict, str], list[JobVerdict]] = {}
    for one in found:
        groups.setdefault((one.policy, one.verdict, one.why), []).append(one)
    alike = [Alike(tuple(those)) for those in groups.values()]
    return sorted(alike, key=lambda one: one.first.verdict.rank)
