"""The codes with which the gate refuses."""

from docs.generator import markdown as md

CODES = {
    "no-report": "There is no report, it cannot be read, or it is not a report of ftcheck.",
    "started": "The report's run has not ended, or was killed.",
    "partial": "The report covers a selection of the checks, or the run was stopped before its end.",
    "incomplete": "A check errored or timed out, an input could not be read, or there is no digest over "
    "ids and labels.",
    "failed": "A check failed with a finding at or above `gate.fail_on`.",
    "required": "A check that `gate.require` names did not pass: skipped or waived is not enough.",
    "waiver-expired": "A waiver that the report used has expired, or is no longer in the policy.",
    "too-old": "The report is older than `gate.max_age`.",
    "policy-changed": "The job's section, the plan of its checks, `gate.fail_on`, `--set` values or the "
    "imported configuration differ from those that were checked.",
    "plugins-changed": "Other plugins, or other versions of their code, would run the checks now.",
    "data-changed": "A data file differs from the one that was checked, or is gone.",
    "tokenizer-changed": "A tokenizer differs from the one that was checked.",
    "template-changed": "A chat template differs from the one that was checked.",
    "model-changed": "The base model's configuration differs from the one that was checked.",
    "ids-changed": "The token ids or labels that would be trained differ from those that were checked.",
    "arguments-changed": "A script's trainer has other settings than the policy states (`ticket.verify`).",
    "unverified": "What a script's trainer feeds cannot be compared: rows that stream, a sampler that "
    "draws rows twice, padding in the loss (`ticket.verify`).",
    "sampled": "Only a sample of the rows was checked (`data.sample`), and `gate.accept_sample` does not "
    "name the job, or the trainer takes no sample.",
    "no-adapter": "The job was not trained: a report of stage `after` has no adapter to be about.",
    "adapter-changed": "The adapter's bytes differ from those that were checked.",
    "inconsistent": "The report contradicts itself, the plan or its signed statement: it was edited, or the "
    "clocks disagree.",
    "unsigned": "`gate.require_signed` or `--require-signed` asks for a signature, and there is none.",
    "attestation-invalid": "The statement beside the report cannot be read, or is no statement of a "
    "test result.",
    "signature-invalid": "The signature does not verify: the statement or the signature was changed.",
    "other-signer": "The statement is signed by another key or identity than the one asked for.",
    "other-report": "The signature is valid, and is on another report or on this one before an edit.",
}
"""Each code with what it means. A test holds the list against the sources."""


def page() -> str:
    """The page of the refusal codes."""
    rows = [(md.anchored(f"code-{code}", md.code(code)), md.line(meaning)) for code, meaning in CODES.items()]
    return md.page(
        "Refusals of the gate",
        "The gate opens for a job only if everything it asks for holds; otherwise it names every reason, "
        "one a line, as `gate: refused (CODE): what differs`, and the command ends with exit code 5. The "
        "JSON report has the codes under `gate`. [How the gate decides](../how/gate.md) says what it "
        "looks at.",
        md.table(("Code", "What it means"), rows),
    )
