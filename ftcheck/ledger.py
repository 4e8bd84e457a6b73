"""The ledger: every planned check ends in exactly one outcome; verdict and exit code follow from it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ftcheck.errors import Problem
from ftcheck.exit_codes import ExitCode, worst_of
from ftcheck.records import Check, Finding, Outcome, Result, Severity
from ftcheck.report.record import Status, Verdict

BROKEN = (Outcome.ERRORED, Outcome.TIMEOUT)


@dataclass
class Ledger:
    """The plan, fixed before the first check runs, and what became of each entry."""

    checks: tuple[Check, ...]
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The ids of the planned checks, to look them up."""
        self._planned = frozenset(check.id for check in self.checks)

    def enter(self, result: Result) -> None:
        """Write one outcome. A check that was not planned, or has its outcome, is a bug of ours."""
        if result.check.id not in self._planned:
            raise RuntimeError(f"'{result.check.id}' was not planned")
        if result.check.id in self.results:
            raise RuntimeError(f"'{result.check.id}' has its outcome already")
        self.results[result.check.id] = result

    def close(self, reason: str) -> tuple[Result, ...]:
        """All results in planned order; what has no outcome yet is `not-run`, with the reason."""
        for check in self.checks:
            if check.id not in self.results:
                self.enter(Result(check, Outcome.NOT_RUN, reason=reason))
        return tuple(self.results[check.id] for check in self.checks)


def judge(result: Result, fail_on: Severity) -> Result:
    """The result with capped severities, its outcome by its findings, and whether it blocks."""
    if result.outcome not in (Outcome.PASSED, Outcome.FAILED):
        return result
    capped = tuple(replace(f, severity=f.severity.capped(result.check.severity)) for f in result.findings)
    worst = max((finding.severity.rank for finding in capped), default=-1)
    failed = worst >= Severity.WARNING.rank
    return replace(
        result,
        findings=worst_first(capped),
        outcome=Outcome.FAILED if failed else Outcome.PASSED,
        blocking=failed and worst >= fail_on.rank,
        failing_total=result.failing_total if failed else 0,
        waived_total=result.waived_total if failed else 0,
        fingerprints=result.fingerprints if failed else (),
    )


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings by severity, the order of equal ones kept."""
    return tuple(sorted(findings, key=lambda finding: -finding.severity.rank))


def status_of(results: Sequence[Result], problems: Sequence[Problem], *, selected: bool) -> Status:
    """`incomplete` if anything broke, `partial` if the plan was narrowed or stopped, else `complete`."""
    if problems or any(result.outcome in BROKEN for result in results):
        return "incomplete"
    if selected or any(result.outcome is Outcome.NOT_RUN for result in results):
        return "partial"
    return "complete"


def narrowed(selection: Mapping[str, Any] | None) -> bool:
    """Whether a selection leaves out checks of a job. Leaving out whole jobs does not."""
    return bool(selection) and set(selection or ()) != {"jobs"}


def verdict_of(results: Sequence[Result], status: Status) -> Verdict | None:
    """`passed` or `failed` for what ran; None if the run broke or nothing passed or failed."""
    if status in ("started", "incomplete"):
        return None
    if any(result.blocking for result in results):
        return "failed"
    decided = any(result.outcome in (Outcome.PASSED, Outcome.FAILED) for result in results)
    return "passed" if decided else None


def exit_code(results: Sequence[Result], problems: Sequence[Problem]) -> ExitCode:
    """The exit code that the ledger gives (design, section 8). 0 only if every entry has an outcome."""
    reasons = {ExitCode.OK}
    if problems or any(result.outcome in BROKEN for result in results):
        reasons.add(ExitCode.INCOMPLETE)
    if any(result.blocking for result in results):
        reasons.add(ExitCode.BLOCKED)
    if not any(result.outcome in (Outcome.PASSED, Outcome.FAILED) for result in results):
        reasons.add(ExitCode.NOTHING)
    return worst_of(reasons)
