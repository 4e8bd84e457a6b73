"""The gate on a report in a file, and on a run that is resumed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ftcheck.attest.attestation import Stored, beside, refusals
from ftcheck.attest.signers import signer
from ftcheck.gate.decide import World, changed_input, changed_value, code_of, decide, ticket_values
from ftcheck.gate.input_digests import InputDigests, gather
from ftcheck.gate.ticket import (
    SEAL,
    Reason,
    Refusal,
    Ticket,
)
from ftcheck.inputs import bounded
from ftcheck.records import Check
from ftcheck.report.record import (
    InputDigest,
    Report,
)
from ftcheck.report.shape import checked
from ftcheck.sampling.row_sample import RowSample
from ftcheck.settings import Policy

MAX_REPORT = 256 << 20
"""Bytes of a report; one with thousands of checks has a few million."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a report's signature beside the policy's `gate.require_signed`.

    `signer` is one whose signature must be there too: a file with a public key, or an identity. `attestation`
    is where the signature lies; None: beside the report.
    """

    signer: str | None = None
    attestation: str | Path | None = None


NOTHING = Asked()


def read_report(path: str | Path) -> Report | Reason:
    """A stored report, or why it is none."""
    found = read_stored(path)
    return found if isinstance(found, Reason) else found.report


def read_stored(path: str | Path) -> Stored | Reason:
    """A stored report with its bytes, or why it is none."""
    try:
        content = bounded.read(path, MAX_REPORT)
        data = bounded.loads(content)
    except OSError as error:
        return Reason("no-report", f"{path}: {bounded.told(error)}")
    except ValueError as error:
        return Reason("no-report", f"{path}: not a JSON report: {bounded.told(error)}")
    if isinstance(data, dict) and data.get("status") == "started":
        return Reason("started", f"{path}: the run has not finished, or was killed: run the checks again")
    try:
        report = checked(data)
    except ValueError as error:
        return Reason("no-report", f"{path}: not a report that this version of ftcheck can read ({error})")
    if report.counts() != data.get("counts"):
        return Reason("inconsistent", f"{path}: the counts do not match the results")
    return Stored(Path(path), content, report)


def check_stored(
    path: str | Path,
    policy: Policy,
    checks: Sequence[Check],
    job: str,
    now: datetime | None = None,
    *,
    during: Sequence[Check] = (),
    asked: Asked = NOTHING,
) -> Ticket | Refusal:
    """The gate for a stored report: reads it, digests the job's inputs as they are now, decides.

    Of a report that was not signed by those who must have signed it, nothing else is looked at.
    """
    stored = _signed(path, policy, asked)
    if not isinstance(stored, Stored):
        return Refusal(job, tuple(stored))
    evidence = gather(policy.jobs[job], checks, during, policy=policy.path)
    world = World(policy, tuple(checks), evidence, now or datetime.now(UTC), signed=True)
    return decide(stored.report, world, job)


def must_be_signed(policy: Policy, asked: Asked = NOTHING) -> bool:
    """Whether the gate opens for signed reports only."""
    return bool(policy.gate.require_signed or asked.signer is not None)


def _signed(path: str | Path, policy: Policy, asked: Asked) -> Stored | list[Reason]:
    """A stored report, signed by those who must have; or why it is none. Raises `UsageError`."""
    signers = policy.gate.require_signed
    groups = [[signer(one) for one in ((signers,) if isinstance(signers, str) else signers)]]
    if asked.signer is not None:
        groups.append([signer(asked.signer)])
    stored = read_stored(path)
    if isinstance(stored, Reason):
        return [stored]
    attestation = Path(asked.attestation) if asked.attestation is not None else beside(path)
    return [one for group in groups if group for one in refusals(stored, attestation, group)] or stored


CHANGED = "-changed"
"""How the refusal codes end that say that something is not as it was checked."""


def changed_since(
    path: str | Path,
    policy: Policy,
    checks: Sequence[Check],
    jobs: Sequence[str],
    *,
    during: Sequence[Check] = (),
) -> tuple[Report | None, list[Reason]]:
    """A stored report, and why its findings do not hold any more for these jobs; None if it is no report.

    Whether it opens the gate does not matter: only that it is whole, and that nothing changed since.
    """
    report = read_report(path)
    if isinstance(report, Reason):
        return None, [report]
    reasons = []
    if report.status != "complete":
        reasons.append(Reason(report.status, f"{path}: the report is {report.status}"))
    for job in jobs:
        digests = gather(policy.jobs[job], checks, during, policy=policy.path)
        decision = decide(report, World(policy, tuple(checks), digests, datetime.now(UTC)), job)
        if isinstance(decision, Refusal):
            changed = [one for one in decision.reasons if one.code.endswith(CHANGED)]
            broken = [one for one in decision.reasons if one.code in ("partial", "inconsistent")]
            reasons += changed or broken
    return report, reasons


TICKET = tuple(field.name for field in fields(Ticket) if field.compare)


def check_resumed(
    folder: Path,
    policy: Policy,
    checks: Sequence[Check],
    job: str,
    *,
    report: str | Path | None = None,
    asked: Asked = NOTHING,
) -> Ticket | Refusal:
    """The gate for a run that goes on: the ticket in its run.json, held against the files as they are now.

    Digests only: the ticket was good when the run began, and its age does not matter. Where reports must be
    signed, so must the `report` that the run began with: run.json alone is nobody's word.
    """
    file = folder / "run.json"
    try:
        ticket = bounded.read_json(file)["ticket"]
        held = dict(ticket["inputs"])
        kept = {key: ticket[key] for key in ("job_digest", "model", "template")}
        whole = {name: ticket[name] for name in TICKET if name != "sample"} | {"sample": _sample(ticket)}
    except (OSError, ValueError, LookupError, TypeError):
        return Refusal(job, (Reason("no-report", f"{file}: no run to resume, or not a readable run.json"),))
    reasons = _began_with(whole, file, policy, job, report, asked) if must_be_signed(policy, asked) else []
    if whole["job"] != job:
        reasons.append(Reason("policy-changed", f"{file}: a run of the job {whole['job']}"))
    evidence = gather(policy.jobs[job], checks, policy=policy.path)
    reasons += differing(kept, held, evidence, job)
    if reasons:
        return Refusal(job, tuple(reasons))
    return Ticket(**{**whole, "inputs": held, "policy": policy.path, "seal": SEAL})


def _sample(ticket: Mapping[str, Any]) -> RowSample | None:
    """What run.json says of a sample; nothing in those of earlier versions."""
    said = ticket.get("sample")
    return RowSample(**said) if said is not None else None


def differing(
    kept: Mapping[str, Any], held: Mapping[str, Any], evidence: InputDigests, job: str
) -> Iterator[Reason]:
    """What is another now than in a ticket: the job's section, model or template (`kept`), or an input
    (`held`)."""
    now = {"job_digest": evidence.job.digest, "model": evidence.job.model, "template": evidence.job.template}
    codes = {"job_digest": "policy-changed", "model": "model-changed", "template": "template-changed"}
    for key, code in codes.items():
        if kept[key] is None or kept[key] != now[key]:
            yield Reason(code, changed_value(WORDS[key].format(job=job), kept[key], now[key]))
    for name in sorted({*held, *evidence.inputs}):
        found = evidence.inputs.get(name)
        if found is None or found.digest is None or held.get(name) != found.digest:
            was = InputDigest(name, held.get(name)) if name in held else None
            yield Reason(code_of(name, job), changed_input(name, was, found))


WORDS = {
    "job_digest": "the section jobs.{job}",
    "model": "the model's configuration",
    "template": "the chat template as applied",
}
"""What the digests of a ticket are of."""


def _began_with(
    ticket: Mapping[str, Any], file: Path, policy: Policy, job: str, report: str | Path | None, asked: Asked
) -> list[Reason]:
    """Why a run did not begin with a signed report; empty where its ticket says what the report says."""
    if report is None:
        return [Reason("unsigned", f"{file}: name the signed report that the run began with (--report R)")]
    stored = _signed(report, policy, asked)
    if not isinstance(stored, Stored):
        return stored
    said = ticket_values(stored.report, job) if job in stored.report.jobs else {}
    wrong = [name for name, value in said.items() if ticket[name] != value]
    if said and not wrong:
        return []
    return [Reason("other-report", f"{file}: the run did not begin with {report}: {', '.join(wrong) or job}")]
