"""One `ftcheck run`, from the policy file to the exit code: a straight pipeline of small stages."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ftcheck.errors import ExitCode, FtcheckError
from ftcheck.extension.plugin_host import Host, make_host
from ftcheck.gate.input_digests import InputDigests, gather, is_whole
from ftcheck.ledger import Ledger, exit_code, worst_of
from ftcheck.records import Outcome, Result, Stage
from ftcheck.report.record import Report
from ftcheck.runner.assemble import assemble, now
from ftcheck.runner.checks import Facts, Limits, run_checks
from ftcheck.runner.load import Planned, load
from ftcheck.runner.outputs import (
    Output,
    parse_outputs,
    write_final,
    write_started,
)
from ftcheck.runner.select import (
    Selection,
    last_failed,
    narrow,
    remember,
)
from ftcheck.runner.worker_process import Worker
from ftcheck.runner.worker_setup import Setup
from ftcheck.settings import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    policy: str
    overrides: tuple[str, ...] = ()
    selection: Selection = field(default_factory=Selection)
    only_last_failed: bool = False
    max_blocking: int | None = None
    outputs: tuple[str, ...] = ()
    offline: bool = False
    workers: int | None = None
    rules_dirs: tuple[Path, ...] = ()
    show_content: bool = False
    exit_zero: bool = False
    cache: bool = True
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its report, its exit code, and what could not be written."""

    report: Report
    code: ExitCode
    error: FtcheckError | None = None
    written: tuple[str, ...] = ()


Watch = Callable[[Planned], Sequence[object]]


def plan(options: Options) -> Planned:
    """The policy and what this run takes of it."""
    stage = Stage(options.selection.stage) if options.selection.stage else None
    loaded = load(options.policy, options.overrides, options.rules_dirs, stage)
    selection = options.selection
    if stage == loaded.policy.stage:
        selection = replace(selection, stage=None)
    if options.only_last_failed:
        failed = last_failed(loaded.policy.path)
        selection = replace(selection, last_failed=failed or None)
    return Planned(loaded, narrow(loaded.checks, selection, tuple(loaded.policy.jobs)), selection)


def run(options: Options, watch: Watch) -> Ended:
    """Run a policy's checks and write the reports.

    Every report file says `started` before the first check, and is replaced at the end, also when the
    policy cannot be used or the run is interrupted. `watch(planned)` gives the objects that see the run.
    Raises `UsageError` for outputs that cannot be written, before anything ran.
    """
    standard = _standard(options)
    outputs = parse_outputs(options.outputs, standard.reporters)
    begun = now()
    opening = Report(
        status="started", policy_path=options.policy, policy_name=Path(options.policy).stem, started_at=begun
    )
    write_started(outputs, opening, standard.reporters)
    try:
        planned = plan(options)
    except FtcheckError as error:
        report = _failed_early(opening, error)
        return _written(outputs, report, standard, error.exit_code, error)
    for watcher in watch(planned):
        planned.loaded.host.watch(watcher)
    report, code = _run(options, planned, opening)
    return _written(outputs, report, planned.loaded.host, _hidden(code, options))


def _standard(options: Options) -> Host:
    """The host that writes sentinels, before the policy is bound: with plugins only if a format is theirs."""
    standard = make_host()
    if all(spec.partition("=")[0] in standard.reporters for spec in options.outputs):
        return standard
    from ftcheck.policy import draft

    try:
        return make_host(draft(options.policy).plugins, options.rules_dirs)
    except FtcheckError:
        return standard


def _hidden(code: ExitCode, options: Options) -> ExitCode:
    return ExitCode.OK if code is ExitCode.BLOCKED and options.exit_zero else code


def _failed_early(opening: Report, error: FtcheckError) -> Report:
    problems = tuple(
        replace(problem, message=problem.message) if problem.message else problem
        for problem in error.problems
    )
    return replace(opening, status="incomplete", problems=problems, finished_at=now())


def _written(
    outputs: Sequence[Output],
    report: Report,
    host: Host,
    code: ExitCode,
    error: FtcheckError | None = None,
) -> Ended:
    try:
        written = write_final(outputs, report, host.reporters)
    except FtcheckError as failure:
        return Ended(report, worst_of((code, failure.exit_code)), error or failure)
    return Ended(report, code, error, written)


def _run(options: Options, planned: Planned, opening: Report) -> tuple[Report, ExitCode]:
    """Run the ledger in a folder of its own, and make the report of it."""
    loaded, ledger, interrupted, facts = planned.loaded, Ledger(planned.taken), False, Facts()

    def seen(name: str) -> InputDigests:
        return gather(loaded.policy.jobs[name], loaded.checks, loaded.during)

    with (
        tempfile.TemporaryDirectory(prefix="ftcheck-", ignore_cleanup_errors=True) as folder,
        Worker(Path(folder), offline=options.offline, workers=options.workers) as worker,
    ):
        # The worker loads its libraries while the inputs are digested here.
        evidence = {name: seen(name) for name in planned.jobs}
        loaded.host.run_started(planned.taken)
        try:
            facts = run_checks(
                _setup(options, planned, Path(folder), evidence),
                loaded.host,
                ledger,
                fail_on=loaded.policy.gate.fail_on,
                limits=options.limits,
                finish=waiving(loaded.policy),
                stop=_stopping(options.max_blocking),
                worker=worker,
            )
        except KeyboardInterrupt:
            interrupted = True
    evidence = {name: found if is_whole(found) else seen(name) for name, found in evidence.items()}
    results = ledger.close("interrupted" if interrupted else "the run was stopped after a failure (-x)")
    report = assemble(planned, opening, results, facts, evidence, interrupted=interrupted)
    loaded.host.run_finished(report)
    remember(loaded.policy.path, results)
    codes = [exit_code(results, report.problems)] + [ExitCode.INTERRUPTED] * interrupted
    return report, worst_of(codes)


def _setup(options: Options, planned: Planned, folder: Path, evidence: Mapping[str, InputDigests]) -> Setup:
    policy = planned.loaded.policy
    return Setup(
        checks=planned.taken,
        jobs=tuple(policy.jobs[name] for name in planned.jobs),
        folder=folder,
        plugins=policy.plugins,
        rules_dirs=options.rules_dirs,
        offline=options.offline,
        workers=options.workers,
        show_content=options.show_content,
        policy=policy.path,
        cache=options.cache,
        digests=tuple(_digests(evidence)) if options.cache else (),
    )


def _digests(evidence: Mapping[str, InputDigests]) -> Iterator[tuple[str, str]]:
    """What was digested of the jobs' data, so that the worker does not do it again."""
    for found in evidence.values():
        for name, one in found.inputs.items():
            if one.digest is not None:
                yield name, one.digest


def waiving(policy: Policy) -> Callable[[Result], Result]:
    """What turns a failed check into a waived one, where the policy waives it."""
    waivers = {waiver.check: waiver for waiver in policy.waivers}

    def finish(result: Result) -> Result:
        waiver = waivers.get(result.check.id)
        if waiver is None or result.outcome is not Outcome.FAILED:
            return result
        reason = f"waived until {waiver.expires}: {waiver.reason} ({waiver.owner})"
        return replace(result, outcome=Outcome.WAIVED, blocking=False, reason=reason)

    return finish


def _stopping(limit: int | None) -> Callable[[Result], bool]:
    broken = 0

    def stop(result: Result) -> bool:
        nonlocal broken
        broken += result.blocking or result.outcome in (Outcome.ERRORED, Outcome.TIMEOUT)
        return limit is not None and broken >= limit

    return stop


def say(error: FtcheckError) -> None:
    """Print a user's mistake: one line each, on stderr."""
    from ftcheck.report.redact import redact, visible

    for line in str(error).splitlines():
        print(visible(redact(line)), file=sys.stderr)
