"""One `ftcheck run`, from the policy file to the exit code: a straight pipeline of small stages."""

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck.errors import ExitCode, FtcheckError, PluginError, PolicyError, Problem, UsageError
from ftcheck.evidence import Evidence, gather
from ftcheck.gate import Refusal, Ticket, World, decide
from ftcheck.host import Host, make_host
from ftcheck.ledger import Ledger, exit_code, narrowed, status_of, verdict_of, worst_of
from ftcheck.output import Output, parse_outputs, write_final, write_started
from ftcheck.records import Check, Outcome, Result, Stage
from ftcheck.report import InputDigest, Report, WaiverUse
from ftcheck.runner import Facts, Limits, run_checks
from ftcheck.selection import Selection, last_failed, narrow, remember
from ftcheck.settings import Policy
from ftcheck.setup import Setup

if TYPE_CHECKING:
    from ftcheck.policy import Draft

PACKAGES = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "jinja2",
    "numpy",
    "peft",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)


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
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy with the host that its plugins make, and its whole plan."""

    policy: Policy
    checks: tuple[Check, ...]
    host: Host


@dataclass(frozen=True, slots=True)
class Planned:
    """A policy with what this run takes of its plan."""

    loaded: Loaded
    taken: tuple[Check, ...]
    selection: Selection

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs this run looks at."""
        return self.selection.jobs or tuple(self.loaded.policy.jobs)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its report, its exit code, and what could not be written."""

    report: Report
    code: ExitCode
    error: FtcheckError | None = None
    written: tuple[str, ...] = ()


Watch = Callable[[Planned], Sequence[object]]


def load(
    policy: str | Path,
    overrides: Sequence[str] = (),
    rules_dirs: Sequence[Path] = (),
    stage: Stage | None = None,
) -> Loaded:
    """Read and bind a policy. Raises `PolicyError` (all problems) or `PluginError`."""
    from ftcheck.policy import bind, draft

    read = draft(policy, overrides)
    host = _host(read, rules_dirs)
    bound, checks = bind(read, host, stage)
    return Loaded(bound, checks, host)


def _host(read: "Draft", rules_dirs: Sequence[Path]) -> Host:
    """The host; a policy that cannot be read takes precedence over a plugin that does not load."""
    try:
        return make_host(read.plugins, rules_dirs)
    except PluginError:
        if read.problems:
            raise PolicyError("the policy cannot be used", read.problems) from None
        raise


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
    standard = make_host()
    outputs = parse_outputs(options.outputs, standard.reporters)
    begun = _now()
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


def _hidden(code: ExitCode, options: Options) -> ExitCode:
    return ExitCode.OK if code is ExitCode.BLOCKED and options.exit_zero else code


def _failed_early(opening: Report, error: FtcheckError) -> Report:
    problems = tuple(
        replace(problem, message=problem.message) if problem.message else problem
        for problem in error.problems
    )
    return replace(opening, status="incomplete", problems=problems, finished_at=_now())


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
    loaded, folder = planned.loaded, Path(tempfile.mkdtemp(prefix="ftcheck-"))
    evidence = {name: gather(loaded.policy.jobs[name], loaded.checks) for name in planned.jobs}
    setup = Setup(
        checks=planned.taken,
        jobs=tuple(loaded.policy.jobs[name] for name in planned.jobs),
        folder=folder,
        plugins=loaded.policy.plugins,
        rules_dirs=options.rules_dirs,
        offline=options.offline,
        workers=options.workers,
        show_content=options.show_content,
    )
    ledger, interrupted, facts = Ledger(planned.taken), False, Facts()
    loaded.host.run_started(planned.taken)
    try:
        facts = run_checks(
            setup,
            loaded.host,
            ledger,
            fail_on=loaded.policy.gate.fail_on,
            limits=options.limits,
            finish=_waiving(loaded.policy),
            stop=_stopping(options.max_blocking),
        )
    except KeyboardInterrupt:
        interrupted = True
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results = ledger.close("interrupted" if interrupted else "the run was stopped after a failure (-x)")
    report = _report(planned, opening, results, facts, evidence, interrupted=interrupted)
    loaded.host.run_finished(report)
    remember(loaded.policy.path, results)
    codes = [exit_code(results, report.problems)] + [ExitCode.INTERRUPTED] * interrupted
    return report, worst_of(codes)


def _waiving(policy: Policy) -> Callable[[Result], Result]:
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


def _report(
    planned: Planned,
    opening: Report,
    results: tuple[Result, ...],
    facts: Facts,
    evidence: Mapping[str, Evidence],
    *,
    interrupted: bool,
) -> Report:
    policy, selection = planned.loaded.policy, planned.selection.as_dict()
    problems = (*_unread(planned, results, facts), *([Problem("interrupted")] if interrupted else []))
    status = status_of(results, problems, selected=narrowed(selection))
    report = replace(
        opening,
        status=status,
        verdict=verdict_of(results, status),
        policy_path=policy.path,
        policy_name=policy.name,
        stage=policy.stage,
        overrides=policy.overrides,
        selection=selection,
        removed=policy.removed,
        fail_on=policy.gate.fail_on,
        jobs={name: replace(one.job, ids=_ids(facts, name)) for name, one in evidence.items()},
        inputs=_with_rows(evidence, facts),
        plugins=planned.loaded.host.plugins,
        packages=_packages(),
        waivers=tuple(_uses(policy, results)),
        results=results,
        problems=problems,
        notes=tuple(_notes(planned, results)),
        finished_at=_now(),
        machine={"system": platform.platform(), "python": platform.python_version()},
    )
    return replace(report, gate=_gate(planned, report, evidence))


def _ids(facts: Facts, job: str) -> str | None:
    return facts.prepared[job].ids if job in facts.prepared else None


def _unread(planned: Planned, results: Sequence[Result], facts: Facts) -> list[Problem]:
    """Rows that could not be prepared and that no check speaks of: the run is not complete then."""
    spoken = {r.check.job for r in results if r.outcome not in (Outcome.PASSED, Outcome.SKIPPED)}
    problems = []
    for job, found in sorted(facts.prepared.items()):
        if found.troubles and found.first and job not in spoken:
            place, why = found.first
            message = (
                f"{found.troubles} of {found.rows} rows could not be prepared, the first: {place}: {why}"
            )
            problems.append(Problem(message, yaml_path=f"jobs.{job}.data.train"))
    return problems


def _with_rows(evidence: Mapping[str, Evidence], facts: Facts) -> dict[str, InputDigest]:
    inputs = {name: one for found in evidence.values() for name, one in found.inputs.items()}
    for job, found in facts.prepared.items():
        if f"{job}.train" in inputs:
            inputs[f"{job}.train"] = replace(inputs[f"{job}.train"], rows=found.rows)
    return inputs


def _packages() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _uses(policy: Policy, results: Sequence[Result]) -> list[WaiverUse]:
    waived = {result.check.id for result in results if result.outcome is Outcome.WAIVED}
    return [
        WaiverUse(w.check, w.reason, w.owner, w.expires.isoformat(), w.check in waived)
        for w in policy.waivers
    ]


def _notes(planned: Planned, results: Sequence[Result]) -> list[str]:
    """What a reader should know beside the results: unused waivers, checks that were taken out."""
    notes = [f"check taken out by the policy: {name}" for name in planned.loaded.policy.removed]
    ran = {result.check.id for result in results if result.outcome is not Outcome.NOT_RUN}
    known = {check.id for check in planned.loaded.checks}
    for use in _uses(planned.loaded.policy, results):
        if use.check not in known:
            notes.append(f"unused waiver: no check '{use.check}' is planned")
        elif not use.used and use.check in ran:
            notes.append(f"unused waiver: {use.check} did not fail")
    return notes


def ask(planned: Planned, report: Report, job: str, evidence: Evidence | None = None) -> Ticket | Refusal:
    """The gate's word on a report that was just made."""
    policy, checks = planned.loaded.policy, planned.loaded.checks
    found = evidence or gather(policy.jobs[job], checks)
    return decide(report, World(policy, checks, found, datetime.now(UTC)), job)


def run_folder(loaded: Loaded, job: str) -> Path:
    """Where a job's run lies: `run`, or `training.output_dir`."""
    found = loaded.policy.jobs[job]
    folder = found.run or found.training.output_dir
    if folder is None:
        raise UsageError(f"jobs.{job}.training.output_dir is not set")
    return Path(folder)


def host_checks(loaded: Loaded, options: Options, job: str) -> tuple[Result, ...]:
    """The host's checks, run on this machine for one job; without report."""
    checks = tuple(check for check in loaded.checks if check.job is None)
    ledger, folder = Ledger(checks), Path(tempfile.mkdtemp(prefix="ftcheck-"))
    setup = Setup(
        checks=checks,
        jobs=(loaded.policy.jobs[job],),
        folder=folder,
        plugins=loaded.policy.plugins,
        rules_dirs=options.rules_dirs,
        offline=options.offline,
    )
    try:
        fail_on, finish = loaded.policy.gate.fail_on, _waiving(loaded.policy)
        run_checks(setup, loaded.host, ledger, fail_on=fail_on, limits=options.limits, finish=finish)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ledger.close("not run")


def _gate(planned: Planned, report: Report, evidence: Mapping[str, Evidence]) -> dict[str, str]:
    """What the gate would say now, for each job."""
    said = {}
    for name, found in evidence.items():
        decision = ask(planned, report, name, found)
        codes = dict.fromkeys(r.code for r in decision.reasons) if isinstance(decision, Refusal) else ()
        said[name] = ", ".join(codes) or "open"
    return said


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def say(error: FtcheckError) -> None:
    """Print a user's mistake: one line each, on stderr."""
    from ftcheck.redact import redact, visible

    for line in str(error).splitlines():
        print(visible(redact(line)), file=sys.stderr)
