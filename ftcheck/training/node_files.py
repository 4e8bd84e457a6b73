"""The nodes of one training: each holds its own files against the ticket before anything of them is loaded.

The gate decides once, on the first process, by the files of its machine. Other machines have copies of their
own, and a copy may be old.
"""

from typing import TYPE_CHECKING

from ftcheck import ranks
from ftcheck.gate.input_digests import gather
from ftcheck.gate.stored import differing
from ftcheck.gate.ticket import Reason, Refusal, Ticket

if TYPE_CHECKING:
    from ftcheck.runner.load import Loaded


def refusal(ticket: Ticket, loaded: "Loaded") -> Refusal | None:
    """Why this training must not start on all of its nodes; None where their files are those of the ticket.

    All processes ask, and all get the same. The first on each machine but the gate's digests data, tokenizer,
    template, the model's configuration, and the other files of the job, as they lie there.
    """
    asked = ranks.leads_node() and not ranks.is_main()
    found = ranks.gathered(_of_this_node(ticket, loaded) if asked else ())
    reasons = tuple(one for of_node in found for one in of_node)
    return Refusal(ticket.job, reasons) if reasons else None


def _of_this_node(ticket: Ticket, loaded: "Loaded") -> tuple[Reason, ...]:
    policy = loaded.policy
    evidence = gather(policy.jobs[ticket.job], loaded.checks, policy=policy.path)
    kept = {"job_digest": ticket.job_digest, "model": ticket.model, "template": ticket.template}
    found = differing(kept, ticket.inputs, evidence, ticket.job)
    remedy = "copy there what was checked"
    return tuple(Reason(one.code, f"{ranks.node()}: {one.message}; {remedy}") for one in found)
