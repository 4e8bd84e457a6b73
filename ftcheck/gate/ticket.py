"""What the gate hands out: a ticket, or a refusal with every reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftcheck.errors import FtcheckError, Problem
from ftcheck.exit_codes import ExitCode

SEAL = object()
"""The gate's own mark on a ticket: nobody else makes one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a trainer cannot be called without: for one job, the digests of all that was checked.

    Only the gate makes one. `ids` is the digest over ids and labels that the trainer must feed, `eval_ids`
    that of the evaluation rows (None: it does not evaluate), and `ids_from` says whose ids they are; `inputs`
    are the digests of the job's files by their name in the report.
    """

    job: str
    policy: str
    report: str
    job_digest: str
    plan: str
    model: str | None
    template: str | None
    ids: str | None
    eval_ids: str | None = None
    ids_from: str = "unverified"
    inputs: Mapping[str, str] = field(default_factory=dict)
    issued_at: str = ""
    seal: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse to exist without the gate's seal."""
        if self.seal is not SEAL:
            raise TypeError("tickets are handed out by the gate: ftcheck.require(report, policy=…, job=…)")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the gate stays shut: a code of the design (section 8), and words that name the thing."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The gate stays shut for one job; every reason there is."""

    job: str
    reasons: tuple[Reason, ...]


class Refused(FtcheckError):
    """Raised by `require` where the gate refuses; `refusal` holds the reasons."""

    exit_code = ExitCode.REFUSED
    code = "refused"

    def __init__(self, refusal: Refusal) -> None:
        """One line a reason."""
        self.refusal = refusal
        said = [Problem(f"gate: refused ({r.code}): {r.message}") for r in refusal.reasons]
        super().__init__(said[0].message, said)
