"""`ftcheck run`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import POLICY, all_rules_dirs, no_cache, overrides, rules_dirs

if TYPE_CHECKING:
    from ftcheck.runner.options import Options


@click.command(short_help="Check the jobs of a policy and write reports.")
@POLICY
@click.option("--job", "jobs", multiple=True, metavar="J", help="Only this job (and the host's checks).")
@click.option(
    "--stage", type=click.Choice(["before", "during", "after"]), help="Use this stage, not the policy's."
)
@click.option("--select", multiple=True, metavar="CHECK", help="Only these checks: ids or names, * allowed.")
@click.option("--ignore", multiple=True, metavar="CHECK", help="Not these checks.")
@click.option("-k", "keyword", metavar="EXPR", help="Only ids that match, such as 'length and not analyst'.")
@click.option("-t", "--tag", "tags", multiple=True, metavar="TAG", help="Only checks with this tag.")
@overrides
@click.option(
    "-x", "--exitfirst", is_flag=True, help="Stop at the first check that blocks or ends in an error."
)
@click.option("--maxfail", type=click.IntRange(min=1), metavar="N", help="Stop after N such checks.")
@click.option(
    "--lf", "last_failed", is_flag=True, help="Only the checks that failed last time (all, if none did)."
)
@click.option("-q", "--quiet", is_flag=True, help="Hide checks that pass.")
@click.option("-v", "--verbose", is_flag=True, help="Show every measurement.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FORMAT[=PATH]",
    help="Write a report as json, junit, github or markdown; repeatable; without a path, to stdout.",
)
@click.option(
    "--durations", type=click.IntRange(min=0), metavar="N", help="Show the N slowest checks (0: all)."
)
@click.option("--collect-only", is_flag=True, help="List the planned checks and stop.")
@no_cache
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of processes that prepare rows. [default: one per core]",
)
@click.option("--offline", is_flag=True, help="Do not ask the hub; use the cache only.")
@rules_dirs
@click.option("--show-content", is_flag=True, help="Allow reports to show the text of rows (off by default).")
@click.option("--exit-zero", is_flag=True, help="Exit 0 instead of 1; other codes stay as they are.")
def run(
    policy: str,
    jobs: tuple[str, ...],
    stage: str | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    keyword: str | None,
    tags: tuple[str, ...],
    overrides: tuple[str, ...],
    exitfirst: bool,
    maxfail: int | None,
    last_failed: bool,
    quiet: bool,
    verbose: bool,
    outputs: tuple[str, ...],
    durations: int | None,
    collect_only: bool,
    no_cache: bool,
    workers: int | None,
    offline: bool,
    rules_dirs: tuple[Path, ...],
    show_content: bool,
    exit_zero: bool,
) -> int:
    """Check the jobs of POLICY and write reports.

    Exits 0 only if every planned check has an outcome, none ended in an error, none blocks, and one passed.
    """
    from ftcheck.cli.pages.shown import Shown
    from ftcheck.runner import session
    from ftcheck.runner.options import Options
    from ftcheck.runner.select import Selection

    options = Options(
        policy=policy,
        overrides=overrides,
        selection=Selection(
            jobs=tuple(dict.fromkeys(jobs)),
            select=select,
            ignore=ignore,
            keyword=keyword,
            tags=tags,
            stage=stage,
        ),
        only_last_failed=last_failed,
        max_blocking=1 if exitfirst else maxfail,
        outputs=outputs,
        offline=offline,
        workers=workers,
        rules_dirs=all_rules_dirs(rules_dirs),
        show_content=show_content,
        exit_zero=exit_zero,
        cache=not no_cache,
    )
    if collect_only:
        return _collect(options)
    show = Shown(outputs, quiet=quiet, verbose=verbose, durations=durations)
    with show:
        ended = session.run(options, show.watch)
    show.end(ended)
    return ended.code


def _collect(options: "Options") -> int:
    """List the checks that would run."""
    from ftcheck.exit_codes import ExitCode
    from ftcheck.runner.load import open_policy
    from ftcheck.runner.planned import plan

    opened = open_policy(options.policy, options.overrides, options.rules_dirs)
    checks = plan(opened, options).taken
    for check in checks:
        click.echo(check.id)
    click.echo(f"{len(checks)} checks planned", err=True)
    return ExitCode.OK if checks else ExitCode.NOTHING
