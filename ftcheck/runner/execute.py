"""Runs planned checks in a work folder of their own, and closes the ledger."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ftcheck.ledger import BROKEN, Ledger
from ftcheck.policy.waivers import named_by, of_check, waived
from ftcheck.records import Check, Result
from ftcheck.runner.checks import Facts, Part, run_checks
from ftcheck.runner.load import Loaded
from ftcheck.runner.options import Options
from ftcheck.runner.parts import parted, side_by_side
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
        shares=not rows and (options.shares or len(jobs) > 1),
    )
    over, lock = threading.Event(), threading.Lock()
    stop = _stopping(options.max_blocking)

    def run(where: Workplace, numbers: Sequence[int], interrupted: Callable[[], bool]) -> None:
        where.worker = run_checks(
            replace(setup, folder=where.folder),
            loaded.host,
            ledger,
            facts,
            fail_on=policy.gate.fail_on,
            limits=options.limits,
            finish=waiving(policy),
            stop=stop,
            worker=where.worker,
            interrupted=interrupted,
            part=Part(numbers, lock, over),
        )

    parts = parted(checks, policy, 1 + len(place.helpers))
    try:
        if len(parts) < 2:
            run(place, range(len(checks)), place.interrupted)
        else:
            side_by_side(run, (place, *place.helpers), parts)
    except KeyboardInterrupt:
        place.worker, interrupted = None, True
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
