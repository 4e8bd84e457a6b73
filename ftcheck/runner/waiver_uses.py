"""How a run used the policy's waivers, and what is wrong with each of them."""

from collections.abc import Iterator, Sequence

from ftcheck.plurals import counted
from ftcheck.policy.waivers import covered, covers_all
from ftcheck.records import Outcome, Result
from ftcheck.report.record import WaiverUse
from ftcheck.settings import Policy, Waiver

DECIDED = (Outcome.PASSED, Outcome.FAILED, Outcome.WAIVED)
"""Outcomes of checks that looked at everything they are about."""


def waiver_uses(policy: Policy, results: Sequence[Result], planned: frozenset[str]) -> tuple[WaiverUse, ...]:
    """Each waiver of a policy with what it waived and what is wrong with it; `planned` are all check ids."""
    by_id = {one.check.id: one for one in results}
    return tuple(
        _use(policy, number, waiver, by_id.get(waiver.check), waiver.check in planned)
        for number, waiver in enumerate(policy.waivers)
    )


def _use(policy: Policy, number: int, waiver: Waiver, result: Result | None, planned: bool) -> WaiverUse:
    count = covered(result, [waiver]) if result is not None and result.waived_total else 0
    return WaiverUse(
        check=waiver.check,
        reason=waiver.reason,
        owner=waiver.owner,
        expires=waiver.expires.isoformat(),
        used=count > 0,
        findings=count,
        line=policy.at(f"waivers.{number}").line,
        remarks=tuple(_remarks(waiver, result, planned=planned)),
        fingerprints=tuple(sorted(waiver.fingerprints)),
    )


def _remarks(waiver: Waiver, result: Result | None, *, planned: bool) -> Iterator[str]:
    if not planned:
        yield f"unused: no check '{waiver.check}' is planned"
    elif result is not None and result.outcome in DECIDED:
        yield from _against(waiver, result)
    if covers_all(waiver):
        name = "" if waiver.all else "; `ftcheck waive` names findings"
        yield f"too broad: covers whatever {waiver.check} finds, also what is new{name}"


def _against(waiver: Waiver, result: Result) -> Iterator[str]:
    """What a waiver is worth beside what its check found."""
    named = set(waiver.fingerprints)
    gone = len(named.difference(result.fingerprints))
    if not result.failing_total:
        yield "unused: the check did not fail"
    elif named and gone == len(named):
        yield "unused: the check finds others than it names"
    elif gone and len(result.fingerprints) == result.failing_total:
        yield f"{counted(gone, 'finding that it names is', 'findings that it names are')} gone"
