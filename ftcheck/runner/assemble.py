"""Puts the report of a run together: results, digests, versions, waivers, notes, the gate's word."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata

from ftcheck.errors import Problem
from ftcheck.gate.decide import World, decide
from ftcheck.gate.input_digests import InputDigests, gather
from ftcheck.gate.ticket import Refusal, Ticket
from ftcheck.ledger import narrowed, status_of, verdict_of
from ftcheck.records import Outcome, Result
from ftcheck.report.record import InputDigest, Report, WaiverUse
from ftcheck.runner.checks import Facts
from ftcheck.runner.load import Planned
from ftcheck.settings import Policy

PACKAGES = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "jinja2",
    "numpy",
    "peft",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)


def now() -> str:
    """The time as reports write it: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def assemble(
    planned: Planned,
    opening: Report,
    results: tuple[Result, ...],
    facts: Facts,
    evidence: Mapping[str, InputDigests],
    *,
    interrupted: bool,
) -> Report:
    """The report of a run whose ledger is closed; `opening` is the one that said `started`."""
    policy, selection = planned.loaded.policy, planned.selection.as_dict()
    problems = (*_unread(planned, results, facts), *([Problem("interrupted")] if interrupted else []))
    status = status_of(results, problems, selected=narrowed(selection))
    report = replace(
        opening,
        status=status,
        verdict=verdict_of(results, status),
        policy_path=policy.path,
        policy_name=policy.name,
        stage=policy.stage,
        overrides=policy.overrides,
        selection=selection,
        removed=policy.removed,
        fail_on=policy.gate.fail_on,
        jobs={name: replace(one.job, ids=_ids(facts, name)) for name, one in evidence.items()},
        inputs=_with_rows(evidence, facts),
        plugins=planned.loaded.host.plugins,
        packages=_packages(),
        waivers=tuple(_uses(policy, results)),
        results=results,
        problems=problems,
        notes=(*_notes(planned, results), *facts.notes),
        finished_at=now(),
        machine={"system": platform.platform(), "python": platform.python_version()},
        cached=tuple(facts.cached),
    )
    return replace(report, gate=_gate(planned, report, evidence))


def _ids(facts: Facts, job: str) -> str | None:
    return facts.prepared[job].ids if job in facts.prepared else None


def _unread(planned: Planned, results: Sequence[Result], facts: Facts) -> list[Problem]:
    """Rows that could not be prepared and that no check speaks of: the run is not complete then."""
    spoken = {r.check.job for r in results if r.outcome not in (Outcome.PASSED, Outcome.SKIPPED)}
    problems = []
    for job, found in sorted(facts.prepared.items()):
        if found.row_errors and found.first and job not in spoken:
            place, why = found.first
            message = (
                f"{found.row_errors} of {found.rows} rows could not be prepared, the first: {place}: {why}"
            )
            problems.append(Problem(message, yaml_path=f"jobs.{job}.data.train"))
    return problems


def _with_rows(evidence: Mapping[str, InputDigests], facts: Facts) -> dict[str, InputDigest]:
    inputs = {name: one for found in evidence.values() for name, one in found.inputs.items()}
    for job, found in facts.prepared.items():
        if f"{job}.train" in inputs:
            inputs[f"{job}.train"] = replace(inputs[f"{job}.train"], rows=found.rows)
    return inputs


def _packages() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _uses(policy: Policy, results: Sequence[Result]) -> list[WaiverUse]:
    waived = {result.check.id for result in results if result.outcome is Outcome.WAIVED}
    return [
        WaiverUse(w.check, w.reason, w.owner, w.expires.isoformat(), w.check in waived)
        for w in policy.waivers
    ]


def _notes(planned: Planned, results: Sequence[Result]) -> list[str]:
    """What a reader should know beside the results: unused waivers, checks that were taken out."""
    notes = [f"check removed by the policy: {name}" for name in planned.loaded.policy.removed]
    ran = {result.check.id for result in results if result.outcome is not Outcome.NOT_RUN}
    known = {check.id for check in (*planned.loaded.checks, *planned.loaded.during)}
    for use in _uses(planned.loaded.policy, results):
        if use.check not in known:
            notes.append(f"unused waiver: no check '{use.check}' is planned")
        elif not use.used and use.check in ran:
            notes.append(f"unused waiver: {use.check} did not fail")
    return notes


def ask(planned: Planned, report: Report, job: str, evidence: InputDigests | None = None) -> Ticket | Refusal:
    """The gate's word on a report that was just made."""
    policy, checks = planned.loaded.policy, planned.loaded.checks
    found = evidence or gather(policy.jobs[job], checks, planned.loaded.during)
    return decide(report, World(policy, checks, found, datetime.now(UTC)), job)


def _gate(planned: Planned, report: Report, evidence: Mapping[str, InputDigests]) -> dict[str, str]:
    """What the gate would say now, for each job."""
    said = {}
    for name, found in evidence.items():
        decision = ask(planned, report, name, found)
        codes = dict.fromkeys(r.code for r in decision.reasons) if isinstance(decision, Refusal) else ()
        said[name] = ", ".join(codes) or "open"
    return said
