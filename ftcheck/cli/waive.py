"""`ftcheck waive`."""

from pathlib import Path

import click

from ftcheck.cli.options import POLICY, all_rules_dirs, rules_dirs


@click.command(short_help="Accept what a check finds now, for some days, with reason and owner.")
@click.argument("check", metavar="CHECK")
@POLICY
@click.option("--reason", required=True, metavar="TEXT", help="Why the findings are accepted.")
@click.option(
    "--days",
    required=True,
    type=click.IntRange(1, 365),
    metavar="N",
    help="Days from today (UTC); on the last day the waiver is still valid.",
)
@click.option("--owner", metavar="WHO", help="Who answers for it; default: `git config user.email`.")
@click.option(
    "--report",
    type=click.Path(path_type=str),
    metavar="R",
    help="Name the findings of a stored JSON report; default: run the check.",
)
@click.option(
    "--all", "whole", is_flag=True, help="Cover whatever the check finds, also later; at most 14 days."
)
@click.option(
    "--stage", type=click.Choice(["before", "after"]), help="The check's stage, if not the policy's."
)
@click.option("--offline", is_flag=True, help="Do not ask the hub; use the cache only.")
@rules_dirs
def waive(
    check: str,
    policy: str,
    reason: str,
    days: int,
    owner: str | None,
    report: str | None,
    whole: bool,
    stage: str | None,
    offline: bool,
    rules_dirs: tuple[Path, ...],
) -> int:
    """Write a waiver for what CHECK (an id such as mapper::truncation) finds into POLICY.

    The waiver names each finding by its fingerprint: another finding of the same check, now or later, still
    fails it. Comments and layout of the file are kept. Findings that are waived already are not named twice.

    Exits 0 if the waiver was written, 2 if there is nothing to waive or it cannot be written.
    """
    from ftcheck.cli.fix import watcher
    from ftcheck.exit_codes import ExitCode
    from ftcheck.fix import new_waiver
    from ftcheck.plurals import counted
    from ftcheck.report.redact import shown
    from ftcheck.runner.options import Options
    from ftcheck.runner.select import Selection

    options = Options(
        policy=policy,
        selection=Selection(select=(check,), stage=stage),
        offline=offline,
        rules_dirs=all_rules_dirs(rules_dirs),
    )
    asked = new_waiver.Asked(reason, days, owner, whole)
    written = new_waiver.waive(options, watcher, asked, report=report)
    what = "all that it finds" if whole else counted(written.findings, "finding")
    click.echo(shown(f"waived in {policy}: {what} of {written.check}, until {written.expires} (UTC)"))
    click.echo(shown(f"  {reason.strip()} ({written.owner})"))
    return ExitCode.OK
