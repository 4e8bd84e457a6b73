"""The plan: which rules run on which jobs, with which parameters, in which order. A pure function."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ftcheck import digest
from ftcheck.extension.plugin_host import Host
from ftcheck.extension.rules import Rule
from ftcheck.inputs.container import needs_job
from ftcheck.records import Check, Location, Stage
from ftcheck.settings import CheckSettings, Policy


def plan(policy: Policy, host: Host, stage: Stage | None = None) -> tuple[Check, ...]:
    """All checks of a stage (None: of every stage): host checks first, then job by job.

    Inside, the order is the policy's. Raises `KeyError` for a rule that the host does not offer and
    `PolicyError` for parameters that the rule does not take; `ftcheck.policy.bind` has found both.
    """
    named = [(name, found, host.rules[found.rule or name]) for name, found in policy.checks.items()]
    chosen = [one for one in named if stage in (None, one[2].stage)]
    alone = [one for one in chosen if not looks_at_job(one[2], host)]
    about = [one for one in chosen if looks_at_job(one[2], host)]
    checks = [_check(policy, host, one, None) for one in alone]
    for job in policy.jobs:
        checks.extend(_check(policy, host, one, job) for one in about if _planned(one, policy, job))
    return tuple(checks)


def _planned(one: tuple[str, CheckSettings, Rule], policy: Policy, job: str) -> bool:
    """Whether a check is about a job: named for it, required by the gate, or concerning it."""
    name, found, rule = one
    if found.jobs is not None:
        return job in found.jobs
    required = is_required(policy, f"{job}::{name}")
    return required or rule.only is None or rule.only.concerns(policy.jobs[job])


def looks_at_job(rule: Rule, host: Host) -> bool:
    """Whether a rule is about a job: one of its inputs is."""
    return any(needs_job(host.loaders, name) for name in rule.inputs)


def jobs_of(check: CheckSettings, policy: Policy) -> Sequence[str]:
    """The jobs a check looks at."""
    return tuple(policy.jobs) if check.jobs is None else check.jobs


def _check(policy: Policy, host: Host, one: tuple[str, CheckSettings, Rule], job: str | None) -> Check:
    from ftcheck.policy.params import full_params

    name, found, rule = one
    info = host.owner[f"rule:{rule.id}"]
    check_id = f"{job}::{name}" if job is not None else name
    return Check(
        id=check_id,
        name=name,
        rule=rule.id,
        job=job,
        stage=rule.stage,
        severity=found.severity,
        params=full_params(rule, found.params),
        timeout=found.timeout,
        tags=found.tags,
        needs=rule.inputs,
        plugin=str(info),
        at=_place(policy, name),
        required=is_required(policy, check_id),
    )


def is_required(policy: Policy, check_id: str) -> bool:
    """Whether `gate.require` names a check."""
    return any(matching(pattern, [check_id]) for pattern in policy.gate.require)


def _place(policy: Policy, name: str) -> Location:
    path = f"checks.{name}"
    return replace(policy.places.get(path, Location(path=policy.path, line=1, column=1)), yaml_path=path)


def of_job(checks: Sequence[Check], job: str) -> tuple[Check, ...]:
    """The checks that decide about a job: its own and the host's."""
    return tuple(check for check in checks if check.job in (job, None))


def matching(pattern: str, ids: Sequence[str]) -> tuple[str, ...]:
    """The check ids that a pattern of `gate.require` means (`*` stands for anything)."""
    return tuple(one for one in ids if fnmatchcase(one, pattern))


def plan_digest(checks: Sequence[Check]) -> str:
    """Digest of what is checked and how strictly; timeouts, tags and places do not matter."""
    return digest.of_json(sorted((_essence(check) for check in checks), key=lambda one: str(one["id"])))


def _essence(check: Check) -> Mapping[str, object]:
    return {
        "id": check.id,
        "rule": check.rule,
        "params": dict(check.params),
        "severity": check.severity.value if check.severity else None,
        "plugin": check.plugin,
    }
