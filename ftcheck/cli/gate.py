"""`ftcheck gate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import all_rules_dirs, overrides, rules_dirs, signature

if TYPE_CHECKING:
    from ftcheck.gate.ticket import Refusal


@click.command(short_help="Ask only the gate: is a stored report still valid?")
@click.argument("report", type=click.Path(path_type=str), metavar="REPORT")
@click.option(
    "--policy", required=True, type=click.Path(dir_okay=False, path_type=str), help="The policy file."
)
@click.option("--job", "jobs", multiple=True, metavar="J", help="Only this job; default: every job.")
@signature
@overrides
@rules_dirs
def gate(
    report: str,
    policy: str,
    jobs: tuple[str, ...],
    require_signed: str | None,
    attestation: str | None,
    overrides: tuple[str, ...],
    rules_dirs: tuple[Path, ...],
) -> int:
    """Decide from a stored REPORT (JSON) and the current files whether jobs may be trained, for pipelines.

    Exits 0 if the gate opens for every requested job, else 5. Data files are compared by digest, the rows are
    not prepared again: the trainer compares the digest over ids and labels before it starts.
    """
    from ftcheck.errors import UsageError
    from ftcheck.exit_codes import ExitCode
    from ftcheck.gate.stored import Asked, check_stored
    from ftcheck.gate.ticket import Refusal
    from ftcheck.report.sampled import sampled_words
    from ftcheck.runner.load import load

    loaded = load(policy, overrides, all_rules_dirs(rules_dirs))
    unknown = [job for job in jobs if job not in loaded.policy.jobs]
    if unknown:
        raise UsageError(f"{policy}: no job '{unknown[0]}'; its jobs are: {', '.join(loaded.policy.jobs)}")
    asked = Asked(require_signed, attestation)
    refused = False
    for job in jobs or tuple(loaded.policy.jobs):
        decision = check_stored(report, loaded.policy, loaded.checks, job, during=loaded.during, asked=asked)
        if isinstance(decision, Refusal):
            refused = True
            show_refusal(decision, policy)
        else:
            click.echo(f"gate: open for {job}" + (f" · {decision.remark}" if decision.remark else ""))
            if decision.sample is not None:
                click.echo(sampled_words(decision.sample))
    return ExitCode.REFUSED if refused else ExitCode.OK


def show_refusal(refusal: "Refusal", policy: str, *, again: bool = True) -> None:
    """Every reason, and the command for a new report where that would help (`again`)."""
    from ftcheck.attest.attestation import OF_SIGNATURES
    from ftcheck.report.redact import shown

    codes = ", ".join(dict.fromkeys(reason.code for reason in refusal.reasons))
    click.echo(f"gate: refused for {refusal.job} ({codes})", err=True)
    for reason in refusal.reasons:
        click.echo(f"  {reason.code:<18} {shown(reason.message)}", err=True)
    if not again or all(one.code in OF_SIGNATURES or one.code == "sampled" for one in refusal.reasons):
        return
    command = f"ftcheck run {policy} --job {refusal.job} -o json=report.json"
    click.echo(f"  run the checks again: {command}", err=True)
