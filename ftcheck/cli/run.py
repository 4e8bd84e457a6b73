"""`ftcheck run`."""

from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import POLICY, RunFlags, all_rules_dirs, overrides, run_flags
from ftcheck.runner.workplace import Workplace

if TYPE_CHECKING:
    from ftcheck.policy.made import Made
    from ftcheck.runner.options import Options


@click.command(short_help="Check the jobs of a policy and write reports.")
@POLICY
@click.option("--job", "jobs", multiple=True, metavar="J", help="Only this job (and the host's checks).")
@click.option(
    "--stage", type=click.Choice(["before", "during", "after"]), help="Use this stage, not the policy's."
)
@overrides
@run_flags
def run(
    policy: str, jobs: tuple[str, ...], stage: str | None, overrides: tuple[str, ...], flags: RunFlags
) -> int:
    """Check the jobs of POLICY and write reports.

    Exits 0 only if every planned check has an outcome, none ended in an error, none blocks, and one passed.
    """
    return run_checks(policy, flags, overrides=overrides, jobs=jobs, stage=stage)


def run_checks(
    policy: "str | Made",
    flags: RunFlags,
    *,
    overrides: tuple[str, ...] = (),
    jobs: tuple[str, ...] = (),
    stage: str | None = None,
) -> int:
    """Run a policy's checks on the terminal; the exit code."""
    if flags.collect_only:
        return _collect(_options(policy, flags, overrides, jobs, stage))
    with Workplace(offline=flags.offline, workers=flags.workers) as place:
        # The worker loads its libraries while this process loads its own and reads the policy.
        from ftcheck.cli.pages.shown import Shown
        from ftcheck.runner import session

        options = _options(policy, flags, overrides, jobs, stage)
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
