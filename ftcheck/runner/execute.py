"""Runs planned checks in a work folder of their own, and closes the ledger."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ftcheck.ledger import BROKEN, Ledger
from ftcheck.policy.waivers import named_by, of_check, waived
from ftcheck.records import Check, Result
from ftcheck.runner.checks import Facts, run_checks
from ftcheck.runner.load import Loaded
from ftcheck.runner.options import Options
from ftcheck.runner.worker_setup import Setup
from ftcheck.runner.workplace import Workplace
from ftcheck.settings import Policy


@dataclass(frozen=True, slots=True)
class Executed:
    """A closed ledger: a result for each check in planned order, and what the run found out beside them."""

    results: tuple[Result, ...]
    facts: Facts = field(default_factory=Facts)
    interrupted: bool = False


def execute(
    place: Workplace,
    options: Options,
    loaded: Loaded,
    checks: tuple[Check, ...],
    jobs: tuple[str, ...],
    *,
    digests: Mapping[str, str] | None = None,
    rows: bool = False,
) -> Executed:
    """Run these checks on these jobs of a policy, and close the ledger; findings are waived as it says.

    `digests` are those of the jobs' data files that are known already, by their names in the report. With
    `rows`, results name the rows that training could do without. Ctrl-C closes the ledger too.
    """
    policy, ledger = loaded.policy, Ledger(checks)
    facts, interrupted = Facts(), False
    setup = Setup(
        checks=checks,
        jobs=tuple(policy.jobs[name] for name in jobs),
        folder=place.folder,
        plugins=policy.plugins,
        rules_dirs=options.rules_dirs,
        offline=options.offline,
        workers=options.workers,
        show_content=options.show_content,
        policy=policy.path,
        cache=options.cache,
        engine=options.engine,
        ray_address=options.ray_address,
        digests=tuple((digests or {}).items()),
        rows=rows,
        waived=tuple((check.id, named_by(of_check(policy, check.id))) for check in checks),
    )
    try:
        run_checks(
            setup,
            loaded.host,
            ledger,
            facts,
            fail_on=policy.gate.fail_on,
            limits=options.limits,
            finish=waiving(policy),
            stop=_stopping(options.max_blocking),
            worker=place.worker,
        )
    except KeyboardInterrupt:
        interrupted = True
    why = "interrupted" if interrupted else "the run was stopped after a failure (-x)"
    return Executed(ledger.close(why), facts, interrupted)


def waiving(policy: Policy) -> Callable[[Result], Result]:
    """What turns a failed check into a waived one, where the policy waives all that fails it."""
    return lambda result: waived(result, policy)


def _stopping(limit: int | None) -> Callable[[Result], bool]:
    broken = 0

    def stop(result: Result) -> bool:
        nonlocal broken
        broken += result.blocking or result.outcome in BROKEN
        return limit is not None and broken >= limit

    return stop
