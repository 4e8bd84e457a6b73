"""What a report says of waived findings, held against itself and against the policy as it is now."""

from collections.abc import Iterator
from datetime import date

from ftcheck.gate.ticket import Reason
from ftcheck.plurals import counted
from ftcheck.policy.waivers import covered, named_by, of_check
from ftcheck.records import MAX_FINDINGS, Finding, Outcome, Result, Severity
from ftcheck.report.identity import MAX_FINGERPRINTS, belongs
from ftcheck.report.record import Report
from ftcheck.settings import Policy


def no_longer_waived(report: Report, result: Result, policy: Policy, today: date) -> Iterator[Reason]:
    """Why waived findings are not waived on this day: the waiver is gone, over, or names others."""
    if result.outcome is not Outcome.WAIVED and not result.waived_total:
        return
    one_id, waivers = result.check.id, of_check(policy, result.check.id)
    valid = tuple(one for one in waivers if one.expires >= today)
    then = {name for use in report.waivers if use.check == one_id for name in use.fingerprints}
    then &= set(result.fingerprints)
    count = covered(result, valid)
    if not waivers:
        yield Reason("waiver-expired", f"{one_id} was waived, but the policy no longer waives it")
    elif not valid:
        last = max(one.expires for one in waivers)
        yield Reason("waiver-expired", f"the waiver of {one_id} expired with {last} (UTC)")
    elif count < result.waived_total or (count < result.failing_total and not then <= named_by(valid)):
        what = f"the policy now waives {count:,} of the {counted(result.waived_total, 'finding')} of {one_id}"
        yield Reason("waiver-expired", f"{what} that were waived, or others")


def contradictions(result: Result) -> Iterator[str]:
    """What a check's findings say against their counts and names, and its outcome against what is waived."""
    failing = [one for one in result.findings if one.severity is not Severity.INFO]
    aside = result.waived_total if result.outcome is Outcome.FAILED else 0
    shown = min(result.failing_total - aside, MAX_FINDINGS)
    if len(failing) != shown or result.failing_total - aside > result.findings_total:
        yield f"lists {len(failing)} failing findings and counts {result.failing_total}, {aside} waived"
    if len(set(result.fingerprints)) != min(result.failing_total, MAX_FINGERPRINTS):
        yield f"names {len(set(result.fingerprints))} of {result.failing_total} failing findings"
    if (result.outcome is Outcome.WAIVED) != (0 < result.waived_total == result.failing_total):
        waived = f"{result.waived_total} of {result.failing_total} findings waived"
        yield f"says {result.outcome.value}, with {waived}"
    if len({one.fingerprint for one in result.findings}) != len(result.findings):
        yield "has two findings of one fingerprint"
    for one in result.findings:
        if not belongs(result.check, one) or not _listed(result, one):
            yield f"has a finding whose fingerprint is not its own: {one.fingerprint}"


def _listed(result: Result, finding: Finding) -> bool:
    """Whether a finding's fingerprint stands among its check's, where all of these are kept."""
    whole = result.failing_total <= MAX_FINGERPRINTS and finding.severity is not Severity.INFO
    return not whole or finding.fingerprint in result.fingerprints
