"""One `ftcheck run`, from the policy file to the exit code: a pipeline whose stages are each entered once.

    open policy -> open outputs -> plan the ledger -> digest the inputs -> run -> assemble -> decide -> write

What two stages need is worked out once and handed on.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache as cached
from functools import partial
from pathlib import Path

from ftcheck.errors import FtcheckError, InternalError, Problem
from ftcheck.exit_codes import ExitCode, worst_of
from ftcheck.extension.plugin_host import Host
from ftcheck.gate.decide import World, decide, report_digest
from ftcheck.gate.input_digests import FileDigests, InputDigests, gather, is_whole
from ftcheck.gate.ticket import Refusal, Ticket
from ftcheck.ledger import exit_code
from ftcheck.paths import in_repository
from ftcheck.policy.plan import matching
from ftcheck.records import Outcome
from ftcheck.report.record import Report
from ftcheck.report.redact import redact, visible
from ftcheck.runner.assemble import assemble, now, with_problems
from ftcheck.runner.changed_inputs import changed
from ftcheck.runner.crash_log import internal_error
from ftcheck.runner.execute import execute
from ftcheck.runner.load import Opened, open_policy
from ftcheck.runner.options import Options
from ftcheck.runner.outputs import Output, parse_outputs, write_final, write_started
from ftcheck.runner.planned import Planned, plan
from ftcheck.runner.rule_texts import rule_texts
from ftcheck.runner.select import remember
from ftcheck.runner.workplace import Workplace
from ftcheck.settings import Policy

Watch = Callable[[Planned], Sequence[object]]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its report, its exit code, the gate's word on each job, and what went wrong.

    `decisions` are empty where the run did not get to its checks; `written` are the report files.
    """

    report: Report
    code: ExitCode
    decisions: Mapping[str, Ticket | Refusal] = field(default_factory=dict)
    error: FtcheckError | None = None
    written: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Begun:
    """A run before its first check: its report files say `started`. `failure` is why it has no plan."""

    options: Options
    opened: Opened
    outputs: tuple[Output, ...]
    opening: Report
    planned: Planned | None = None
    failure: FtcheckError | None = None


def run(options: Options, watch: Watch, place: Workplace | None = None) -> Ended:
    """Run a policy's checks and write the reports.

    Every report file says `started` before the first check, and is replaced at the end, also when the
    policy cannot be used, the run is interrupted, or a bug ends it. `watch(planned)` gives the objects that
    see the run; `place` is one that was opened already. Raises `UsageError` for outputs that cannot be
    written, before anything ran.
    """
    if place is not None:
        return finish(begin(options), place, watch)
    with Workplace(offline=options.offline, workers=options.workers) as opened:
        # The worker loads its libraries while the policy is read and the inputs are digested here.
        return finish(begin(options), opened, watch)


def begin(options: Options) -> Begun:
    """Open the policy and the report files, and plan the ledger."""
    opened = open_policy(options.policy, options.overrides, options.rules_dirs)
    reporters = opened.host.reporters
    outputs = parse_outputs(options.outputs, reporters)
    opening = Report(
        status="started",
        policy_path=str(options.policy),
        policy_name=Path(str(options.policy)).stem,
        started_at=now(),
        folder=in_repository(),
    )
    write_started(outputs, opening, reporters)
    begun = Begun(options, opened, outputs, opening)
    try:
        return replace(begun, planned=plan(opened, options))
    except FtcheckError as error:
        return replace(begun, failure=error)
    except Exception as error:
        return replace(begun, failure=internal_error(error, "planning the checks"))


def finish(begun: Begun, place: Workplace, watch: Watch, digests: FileDigests | None = None) -> Ended:
    """Run the checks and write the report files. `digests` are those of files that are known already."""
    return _written(begun, _guarded(place, begun, watch, digests or FileDigests()))


def give_up(begun: Begun, why: str, code: ExitCode) -> Ended:
    """Write the report files of a run that ends before its first check."""
    failure = FtcheckError(why)
    return _written(begun, replace(_failed(begun, failure), code=code))


def _written(begun: Begun, ended: Ended) -> Ended:
    """The end of a run, its report files written."""
    try:
        return replace(ended, written=write_final(begun.outputs, ended.report, begun.opened.host.reporters))
    except FtcheckError as failure:
        code = worst_of((ended.code, failure.exit_code))
        return replace(ended, code=code, error=ended.error or failure)


def _guarded(place: Workplace, begun: Begun, watch: Watch, files: FileDigests) -> Ended:
    """The run; whatever ends it early is in its report. Ctrl-C before the first check goes through."""
    if begun.planned is None:
        return _failed(begun, begun.failure or InternalError("the run has no plan"))
    try:
        return _run(place, begun, begun.planned, watch, files)
    except FtcheckError as error:
        failure = error
    except Exception as error:
        failure = internal_error(error, "running the checks")
    return _failed(begun, failure)


def _failed(begun: Begun, failure: FtcheckError) -> Ended:
    report = replace(begun.opening, status="incomplete", problems=failure.problems, finished_at=now())
    return Ended(report, failure.exit_code, error=failure)


def _run(place: Workplace, begun: Begun, planned: Planned, watch: Watch, files: FileDigests) -> Ended:
    options, loaded, policy = begun.options, planned.loaded, planned.loaded.policy
    for watcher in watch(planned):
        loaded.host.watch(watcher)
    digests = {name: _digested(planned, name, files) for name in planned.jobs}
    opening = replace(begun.opening, rules=rule_texts(loaded.host, planned.taken))
    loaded.host.run_started(planned.taken)
    known = dict(_data_digests(digests))
    executed = execute(place, options, loaded, planned.taken, planned.jobs, digests=known)
    after = {name: _digested(planned, name, files) for name in digests}
    moved = [one for name in digests for one in changed(policy.jobs[name], digests[name], after[name])]
    digests = {name: one if is_whole(one) else after[name] for name, one in digests.items()}
    report = assemble(planned, opening, executed, digests, moved)
    sealed = cached(partial(report_digest, report))
    decisions = {
        name: decide(report, World(policy, loaded.checks, one, datetime.now(UTC), sealed=sealed), name)
        for name, one in after.items()
    }
    report = replace(report, gate={name: gate_words(one) for name, one in decisions.items()})
    loaded.host.run_finished(report)
    remember(policy.path, executed.results)
    failure = _hook_failure(loaded.host)
    if failure is not None:
        report, decisions = with_problems(report, failure.problems), {}
    code = _hidden(_code(policy, report, decisions), options)
    if executed.interrupted:
        code = ExitCode.INTERRUPTED
    return Ended(report, code, decisions, failure)


def _code(policy: Policy, report: Report, decisions: Mapping[str, Ticket | Refusal]) -> ExitCode:
    """One verdict: what the ledger says, and what the gate asks of the same results.

    A required check that ran and did not pass blocks, whatever its findings' severity; not in a job of which
    nothing was looked at (one that was not trained yet, in the morning). A job that the gate calls incomplete
    makes the run incomplete where it would end in 1.
    """
    looked_at = {one.check.job for one in report.results if one.outcome in (Outcome.PASSED, Outcome.FAILED)}
    short = [
        one.check.id
        for one in report.results
        if one.check.job in looked_at and one.outcome not in (Outcome.PASSED, Outcome.NOT_RUN)
    ]
    missed = {one for pattern in policy.gate.require for one in matching(pattern, short)}
    blocked = [ExitCode.BLOCKED] if missed else []
    code = worst_of([exit_code(report.results, report.problems), *blocked])
    refused = {
        reason.code for one in decisions.values() if isinstance(one, Refusal) for reason in one.reasons
    }
    return ExitCode.INCOMPLETE if code is ExitCode.BLOCKED and "incomplete" in refused else code


def _digested(planned: Planned, job: str, files: FileDigests) -> InputDigests:
    """What a job stands on, as it is now."""
    loaded = planned.loaded
    return gather(
        loaded.policy.jobs[job], loaded.checks, loaded.during, policy=loaded.policy.path, files=files
    )


def _data_digests(digests: Mapping[str, InputDigests]) -> Iterator[tuple[str, str]]:
    """What was digested of the jobs' data, so that the worker does not do it again."""
    for found in digests.values():
        for name, one in found.inputs.items():
            if one.digest is not None:
                yield name, one.digest


def gate_words(decision: Ticket | Refusal) -> str:
    """`open`, or the refusal codes."""
    if isinstance(decision, Ticket):
        return "open"
    return ", ".join(dict.fromkeys(reason.code for reason in decision.reasons))


def _hook_failure(host: Host) -> InternalError | None:
    """Plugins whose event hooks raised: the run is not complete, and their tracebacks are in a log."""
    if not host.failures:
        return None
    failures = list(host.failures.values())
    errors = [one.error for one in failures]
    logged = internal_error(
        errors[0], f"plugin '{failures[0].plugin}', {failures[0].hook}", others=errors[1:]
    )
    more = [Problem(visible(redact(str(one)))) for one in failures[1:]]
    return InternalError(str(logged), [*logged.problems, *more])


def _hidden(code: ExitCode, options: Options) -> ExitCode:
    return ExitCode.OK if code is ExitCode.BLOCKED and options.exit_zero else code


def say(error: FtcheckError) -> None:
    """Print a user's mistake: one line each, on stderr."""
    for problem in error.problems:
        print(visible(redact(str(problem))), file=sys.stderr)
