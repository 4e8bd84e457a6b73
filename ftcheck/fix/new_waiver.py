"""One `ftcheck waive`: the findings of a check, named in a waiver that is written into the policy."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ftcheck.errors import UsageError
from ftcheck.fix import yaml_edits
from ftcheck.fix.run import PolicyFile, Watch, results_of
from ftcheck.gate.stored import read_report
from ftcheck.gate.ticket import Reason
from ftcheck.plurals import counted
from ftcheck.policy.limits import WHOLE_DAYS
from ftcheck.policy.waivers import covers_all, named_by, of_check
from ftcheck.records import Check, Outcome, Result
from ftcheck.runner.load import open_policy
from ftcheck.runner.options import Options
from ftcheck.runner.planned import Planned, plan
from ftcheck.settings import Policy


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of a waiver. `whole` covers whatever the check finds."""

    reason: str
    days: int
    owner: str | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """The waiver that was written; `findings` is how many it names."""

    check: str
    owner: str
    expires: date
    findings: int


def waive(options: Options, watch: Watch, asked: Asked, *, report: str | None = None) -> Written:
    """Write a waiver for what one check finds, in a stored report or in a run of that check.

    `options.selection.select` is the check. Raises `UsageError` for a check without such findings, a policy
    that cannot be edited, and an owner that is not known; `InputError` for a policy that changed meanwhile.
    """
    _possible(asked)
    planned = plan(open_policy(options.policy, options.overrides, options.rules_dirs), options)
    check, policy = _one(planned), planned.loaded.policy
    file = PolicyFile.opened(str(options.policy), write=True)
    _own_waivers(policy, file)
    owner = asked.owner or git_user(file.path.parent)
    result = _stored(report, check) if report is not None else results_of(options, planned, watch)[0]
    names = _names(result, policy, whole=asked.whole)
    expires = datetime.now(UTC).date() + timedelta(days=asked.days)
    item: dict[str, Any] = {"check": check.id, "reason": asked.reason.strip(), "owner": owner}
    item |= {"expires": expires.isoformat()}
    item |= {"all": True} if asked.whole else {"fingerprints": names}
    try:
        text = yaml_edits.with_item(file.text, "waivers", item)
    except yaml_edits.Refused as error:
        raise UsageError(f"{options.policy}: waivers: {error}") from error
    file.replace(text)
    return Written(check.id, owner, expires, len(names))


def _possible(asked: Asked) -> None:
    if not asked.reason.strip():
        raise UsageError("--reason is empty: say why the findings are accepted")
    if asked.whole and asked.days > WHOLE_DAYS:
        what = f"--all covers whatever the check finds, for at most {WHOLE_DAYS} days"
        raise UsageError(f"{what}: give --days {WHOLE_DAYS} or fewer, or leave out --all")


def _one(planned: Planned) -> Check:
    if len(planned.taken) != 1:
        ids = [one.id for one in planned.taken]
        listed = ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")
        raise UsageError(f"{counted(len(ids), 'check')} of that name: {listed}; name one of them")
    return planned.taken[0]


def _own_waivers(policy: Policy, file: PolicyFile) -> None:
    """Raises `UsageError` where the waivers stand in another file: a list here would replace them."""
    at = policy.at("waivers")
    if policy.waivers and at.path is not None and Path(at.path).resolve() != file.path:
        what = f"its waivers come from {at}, and a list of its own would replace them"
        raise UsageError(f"{file.policy}: {what}: run `ftcheck waive` on that policy, or copy them here")


def git_user(folder: Path) -> str:
    """Who git says the user is: their address, or their name. Raises `UsageError` where it says neither."""
    for key in ("user.email", "user.name"):
        try:
            said = subprocess.run(
                ["git", "-C", str(folder), "config", key], capture_output=True, text=True, check=False
            )
        except OSError:
            break
        if found := said.stdout.strip():
            return found
    raise UsageError("no owner: `git config user.email` says nothing; set it, or give --owner")


def _stored(path: str, check: Check) -> Result:
    report = read_report(path)
    if isinstance(report, Reason):
        raise UsageError(report.message)
    found = next((one for one in report.results if one.check.id == check.id), None)
    if found is None:
        raise UsageError(f"{path}: has no result of {check.id}: run the checks again, or leave out --report")
    return found


def _names(result: Result, policy: Policy, *, whole: bool) -> list[str]:
    """The fingerprints that are left to waive; none for the whole check. Raises `UsageError`."""
    one_id, waivers = result.check.id, of_check(policy, result.check.id)
    if result.outcome not in (Outcome.FAILED, Outcome.WAIVED):
        why = f" ({result.reason})" if result.reason else ""
        raise UsageError(f"{one_id}: {result.outcome.value}{why}; only findings of a failed check are waived")
    if any(map(covers_all, waivers)):
        raise UsageError(f"{one_id}: a waiver covers all that it finds; remove that one first")
    if whole:
        return []
    if len(result.fingerprints) < result.failing_total:
        many = counted(result.failing_total, "finding")
        what = f"{one_id} has {many}, of which a report names {len(result.fingerprints):,}"
        raise UsageError(f"{what}: correct some, or waive the check with --all (at most {WHOLE_DAYS} days)")
    names = sorted(set(result.fingerprints) - named_by(waivers))
    if not names:
        raise UsageError(f"{one_id}: all of its findings are waived already")
    return names
