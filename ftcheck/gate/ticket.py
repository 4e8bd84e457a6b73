"""What the gate hands out: a ticket, or a refusal with every reason."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

from ftcheck.errors import FtcheckError, Problem, UsageError
from ftcheck.exit_codes import ExitCode
from ftcheck.label_digest import is_old
from ftcheck.sampling.row_sample import RowSample

SEAL = object()
"""The gate's own mark on a ticket: nobody else makes one."""


class Verifier(Protocol):
    """Holds a trainer against what was checked. It knows the policy, and so can prepare the rows again."""

    def verify(self, ticket: "Ticket", trainer: object, eval_dataloader: object) -> None:
        """Raise `Refused` where something else would be trained than the ticket stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a trainer cannot be called without: for one job, the digests of all that was checked.

    Only the gate makes one. `ids` is the digest over ids and labels that the trainer must feed, `eval_ids`
    that of the evaluation rows (None: it does not evaluate), and `ids_from` says whose ids they are; `inputs`
    are the digests of the job's files by their name in the report. `verifier` is there where a script asked
    the gate: call `verify`. Where the policy accepts that a sample of the rows was checked, `sample` is that
    one, with the digest over its ids and labels, and `ids` is None: nobody checked the other rows.
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
    sample: RowSample | None = None
    seal: Any = field(default=None, repr=False, compare=False)
    verifier: Verifier | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse to exist without the gate's seal."""
        if self.seal is not SEAL:
            raise TypeError("tickets are handed out by the gate: ftcheck.require(report, policy=…, job=…)")

    def verify(self, trainer: object, eval_dataloader: object = None) -> None:
        """Compare what a trainer is about to train with what was checked, row by row.

        `trainer` is any Hugging Face Trainer (`transformers.Trainer`, TRL's SFTTrainer, a subclass), or, in a
        loop of your own, the torch `DataLoader` of the training rows, with `eval_dataloader` beside it.
        Call it before the first step. Raises `ftcheck.Refused`: `ids-changed` names the first row that
        differs, its file and line, and the token, with both texts; `arguments-changed` the settings;
        `unverified` what cannot be compared, such as rows that stream.
        """
        if self.verifier is None:
            raise UsageError(
                "this ticket does not know its policy: verify the one that ftcheck.require returns"
            )
        self.verifier.verify(self, trainer, eval_dataloader)

    @property
    def remark(self) -> str | None:
        """What is to be said where the gate opens: of a digest in the form before this one."""
        if not any(map(is_old, (self.ids, self.eval_ids))):
            return None
        return "the report has its ids in the older form (one stream over all rows)"

    def said(self) -> dict[str, Any]:
        """What it stands for, as run.json keeps it: all but the gate's mark and who verifies."""
        names = [one.name for one in fields(self) if one.compare]
        sample = asdict(self.sample) if self.sample is not None else None
        plain = {"inputs": dict(self.inputs), "sample": sample}
        return {name: getattr(self, name) for name in names} | plain


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
