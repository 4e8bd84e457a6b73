"""Which findings a policy's waivers cover: those that they name, or all of a check."""

from collections.abc import Iterable
from dataclasses import replace

from ftcheck.plurals import counted
from ftcheck.records import Outcome, Result
from ftcheck.settings import Policy, Waiver


def of_check(policy: Policy, check: str) -> tuple[Waiver, ...]:
    """The waivers of a check."""
    return tuple(waiver for waiver in policy.waivers if waiver.check == check)


def covers_all(waiver: Waiver) -> bool:
    """Whether a waiver covers whatever its check finds."""
    return waiver.all or not waiver.fingerprints


def named_by(waivers: Iterable[Waiver]) -> frozenset[str]:
    """The fingerprints that a check's waivers name; none where one of them covers all."""
    waivers = tuple(waivers)
    if any(map(covers_all, waivers)):
        return frozenset()
    return frozenset(one for waiver in waivers for one in waiver.fingerprints)


def covered(result: Result, waivers: Iterable[Waiver]) -> int:
    """How many of the findings that fail a check its waivers cover."""
    waivers = tuple(waivers)
    if any(map(covers_all, waivers)):
        return result.failing_total
    return len(named_by(waivers).intersection(result.fingerprints))


def waived(result: Result, policy: Policy) -> Result:
    """A failed check with what the policy waives of it: `waived` where that is every finding that fails it.

    Where some are left the check is still failed, and its reason says how many are waived.
    """
    waivers = of_check(policy, result.check.id)
    if result.outcome is not Outcome.FAILED or not waivers:
        return result
    count, until = covered(result, waivers), "; ".join(map(_words, waivers))
    if count == result.failing_total:
        reason = f"waived {until}"
        return replace(result, outcome=Outcome.WAIVED, blocking=False, reason=reason, waived_total=count)
    if count:
        reason = f"{counted(count, 'other finding is', 'other findings are')} waived {until}"
        return replace(result, reason=reason, waived_total=count)
    return result


def _words(waiver: Waiver) -> str:
    return f"until {waiver.expires}: {waiver.reason} ({waiver.owner})"
