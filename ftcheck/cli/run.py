"""`ftcheck run`."""

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import POLICIES, RunFlags, all_rules_dirs, at_once, overrides, run_flags
from ftcheck.exit_codes import ExitCode, worst_of
from ftcheck.runner.workplace import HELPERS, Workplace

if TYPE_CHECKING:
    from ftcheck.policy.made import Made
    from ftcheck.runner.options import Options


@click.command(short_help="Check the jobs of a policy, or of many, and write reports.")
@POLICIES
@click.option("--job", "jobs", multiple=True, metavar="J", help="Only this job (and the host's checks).")
@click.option(
    "--stage", type=click.Choice(["before", "during", "after"]), help="Use this stage, not the policy's."
)
@click.option(
    "-n",
    "--numprocesses",
    callback=at_once,
    metavar="N|auto",
    help="Check N jobs at a time. [default: 1; of several policies auto, as cores and free memory allow]",
)
@overrides
@run_flags
def run(
    policies: tuple[str, ...],
    jobs: tuple[str, ...],
    stage: str | None,
    numprocesses: int | None,
    overrides: tuple[str, ...],
    flags: RunFlags,
) -> int:
    """Check the jobs of POLICY and write reports.

    POLICY may be a folder or a glob (in quotes), and there may be several: then one table shows the verdict
    of each job, and -o takes a folder (html=reports/), or a path with {policy} in it.

    Exits 0 only if every planned check has an outcome, none ended in an error, none blocks, and one passed;
    of several policies with the worst of their codes.
    """
    from ftcheck.runner.policy_files import is_several, policy_files

    if not is_several(policies):
        count = min(numprocesses or 1, HELPERS)
        return run_checks(policies[0], flags, overrides=overrides, jobs=jobs, stage=stage, count=count)
    files = policy_files(policies)

    def options_of(file: str, outputs: tuple[str, ...]) -> "Options":
        return _options(file, replace(flags, outputs=outputs), overrides, jobs, stage)

    if flags.collect_only:
        return worst_of([_collected(options_of(file, ()), file) for file in files])
    from ftcheck.cli.run_many import run_many

    return run_many(files, flags, numprocesses, options_of)


def run_checks(
    policy: "str | Made",
    flags: RunFlags,
    *,
    overrides: tuple[str, ...] = (),
    jobs: tuple[str, ...] = (),
    stage: str | None = None,
    count: int = 1,
) -> int:
    """Run a policy's checks on the terminal, those of `count` jobs at a time; the exit code."""
    if flags.collect_only:
        return _collect(_options(policy, flags, overrides, jobs, stage))
    with ExitStack() as stack:
        # The worker loads its libraries while this process loads its own and reads the policy.
        opened = [Workplace(offline=flags.offline, workers=flags.workers) for _ in range(count)]
        place, *helpers = [stack.enter_context(one) for one in opened]
        place.helpers = tuple(helpers)
        from ftcheck.cli.pages.shown import Shown
        from ftcheck.runner import session

        options = _options(policy, flags, overrides, jobs, stage)
        if helpers:
            from ftcheck.runner.many import limits

            options = replace(options, limits=limits(count))
        show = Shown(flags.outputs, quiet=flags.quiet, verbose=flags.verbose, durations=flags.durations)
        with show:
            ended = session.run(options, show.watch, place)
    show.end(ended)
    return ended.code


def _options(
    policy: "str | Made",
    flags: RunFlags,
    overrides: tuple[str, ...],
    jobs: tuple[str, ...],
    stage: str | None,
) -> "Options":
    from ftcheck.runner.options import Options
    from ftcheck.runner.select import Selection

    return Options(
        policy=policy,
        overrides=overrides,
        selection=Selection(
            jobs=tuple(dict.fromkeys(jobs)),
            select=flags.select,
            ignore=flags.ignore,
            keyword=flags.keyword,
            tags=flags.tags,
            stage=stage,
        ),
        only_last_failed=flags.last_failed,
        max_blocking=1 if flags.exitfirst else flags.maxfail,
        outputs=flags.outputs,
        offline=flags.offline,
        workers=flags.workers,
        rules_dirs=all_rules_dirs(flags.rules_dirs),
        show_content=flags.show_content,
        exit_zero=flags.exit_zero,
        cache=not flags.no_cache,
        engine=flags.engine,
        ray_address=flags.ray_address,
    )


def _collected(options: "Options", file: str) -> ExitCode:
    """List the checks of one policy of several; one that cannot be used does not hide the others."""
    from ftcheck.errors import FtcheckError, UsageError
    from ftcheck.runner.session import say

    try:
        return _collect(options, f"{file}: ")
    except FtcheckError as error:
        say(UsageError(f"{file}: {error}") if isinstance(error, UsageError) else error)
        return error.exit_code


def _collect(options: "Options", lead: str = "") -> ExitCode:
    """List the checks that would run, `lead` before each."""
    from ftcheck.runner.load import open_policy
    from ftcheck.runner.planned import plan

    opened = open_policy(options.policy, options.overrides, options.rules_dirs)
    checks = plan(opened, options).taken
    for check in checks:
        click.echo(f"{lead}{check.id}")
    click.echo(f"{lead}{len(checks)} checks planned", err=True)
    return ExitCode.OK if checks else ExitCode.NOTHING
