"""`ftcheck train`."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck import ranks
from ftcheck.cli.options import (
    POLICY,
    all_rules_dirs,
    no_cache,
    one_job,
    overrides,
    rules_dirs,
    signature,
    the_job,
)
from ftcheck.exit_codes import ExitCode

if TYPE_CHECKING:
    from ftcheck.cli.pages.shown import TrainingShown
    from ftcheck.gate.stored import Asked
    from ftcheck.gate.ticket import Refusal, Ticket
    from ftcheck.records import Progress
    from ftcheck.report.record import Report
    from ftcheck.runner.load import Loaded
    from ftcheck.runner.options import Options
    from ftcheck.training.during_checks import Alarm, DuringChecks


NOT_SIGNED = "the report must be signed: run the checks, sign their report, and name it (--report R)"


@click.command(short_help="Train a job, if its report opens the gate.")
@POLICY
@one_job("The job to train")
@click.option(
    "--report",
    type=click.Path(path_type=str),
    metavar="R",
    help="A stored JSON report; default: run the checks.",
)
@click.option("--resume", is_flag=True, help="Resume from the last checkpoint of the run folder.")
@signature
@overrides
@no_cache
@click.option("--offline", is_flag=True, help="Do not ask the hub; use the cache only.")
@rules_dirs
def train(
    policy: str,
    job: str | None,
    report: str | None,
    resume: bool,
    require_signed: str | None,
    attestation: str | None,
    overrides: tuple[str, ...],
    no_cache: bool,
    offline: bool,
    rules_dirs: tuple[Path, ...],
) -> int:
    """Run the checks of one job of POLICY (or use a stored report), pass the gate, and train.

    Exits 5 if the gate refuses, 6 if training fails. The trainer trains on exactly the ids and labels whose
    digest is in the report, or does not start.
    """
    from ftcheck.gate.stored import Asked
    from ftcheck.offline import OFFLINE

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # else threads spin: 14 times slower on a busy CPU
    if ranks.count() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else DDP warns in each process
    if offline:
        os.environ |= OFFLINE
    folders = all_rules_dirs(rules_dirs)
    with _heard_once(), ranks.together():
        loaded = _loaded(policy, overrides, folders)
        job = the_job(policy, loaded.policy.jobs, job)
        options = _options(policy, overrides, folders, cache=not no_cache, offline=offline)
        asked = Asked(require_signed, attestation)
        decision, code, held = ranks.decided(
            lambda: _decision(loaded, options, job, report, asked, resume=resume)
        )
        if decision is None:
            return code
        return _gated(loaded, job, decision, options, held, resume=resume)


@contextlib.contextmanager
def _heard_once() -> Iterator[None]:
    """What ends all processes is told by the first one; the others end with its exit code."""
    try:
        yield
    except (ranks.EndedElsewhere, KeyboardInterrupt) as error:
        if ranks.is_main():
            raise
        code = error.exit_code if isinstance(error, ranks.EndedElsewhere) else ExitCode.INTERRUPTED
        raise click.exceptions.Exit(code) from error


def _loaded(policy: str, overrides: tuple[str, ...], folders: tuple[Path, ...]) -> "Loaded":
    """The policy; the first of several processes reads it first, and tells what is wrong with it."""
    from ftcheck.errors import UsageError
    from ftcheck.records import Stage
    from ftcheck.runner.load import load

    if ranks.count() > 1:
        ranks.decided(lambda: bool(load(policy, overrides, folders)))
    loaded = load(policy, overrides, folders)
    if loaded.policy.stage is not Stage.BEFORE:
        raise UsageError(
            f"{policy}: its stage is {loaded.policy.stage}; only a policy of stage before can be trained"
        )
    ranks.wait()  # what another process finds wrong is told before the checks, which may take hours
    return loaded


def _options(
    policy: str, overrides: tuple[str, ...], folders: tuple[Path, ...], *, cache: bool, offline: bool
) -> "Options":
    from ftcheck.runner.options import Options

    return Options(policy=policy, overrides=overrides, offline=offline, rules_dirs=folders, cache=cache)


def _gated(
    loaded: "Loaded",
    job: str,
    decision: "Ticket | Refusal",
    options: "Options",
    report: "Report | None",
    *,
    resume: bool,
) -> ExitCode:
    """Train with a ticket that holds on all nodes, or say why there is none."""
    from ftcheck.cli.gate import show_refusal
    from ftcheck.gate.ticket import Reason, Refusal
    from ftcheck.training import node_files

    if not isinstance(decision, Refusal):
        trainer = loaded.host.trainers[loaded.policy.jobs[job].trainer.use]
        if decision.sample is not None and not trainer.takes_sample:
            said = f"only {decision.sample} were checked, and {trainer.name} trains ids that were all checked"
            decision = Refusal(job, (Reason("sampled", f"{said}: run the checks on all rows"),))
    refused = decision if isinstance(decision, Refusal) else node_files.refusal(decision, loaded)
    if refused is None and not isinstance(decision, Refusal):
        return _train(loaded, job, decision, options, report, resume=resume)
    if refused is not None and ranks.is_main():
        show_refusal(refused, str(options.policy), again=refused is decision)
    return ExitCode.REFUSED


def _decision(
    loaded: "Loaded", options: "Options", job: str, report: str | None, asked: "Asked", *, resume: bool
) -> "tuple[Ticket | Refusal | None, ExitCode, Report | None]":
    """The gate's word: on a run's own start, on a stored report, or on checks that run now; that report."""
    from ftcheck.cli.pages.shown import host_again, run_now
    from ftcheck.gate.stored import check_resumed, check_stored, must_be_signed, read_report
    from ftcheck.gate.ticket import Reason, Refusal
    from ftcheck.training.require import run_folder

    if report is None and not resume:
        if must_be_signed(loaded.policy, asked):
            return Refusal(job, (Reason("unsigned", NOT_SIGNED),)), ExitCode.REFUSED, None
        return run_now(options, job)
    held = None
    if resume:
        folder = run_folder(loaded, job)
        decision = check_resumed(folder, loaded.policy, loaded.checks, job, report=report, asked=asked)
    else:
        decision = check_stored(
            report or "", loaded.policy, loaded.checks, job, during=loaded.during, asked=asked
        )
        read = read_report(report or "")
        held = None if isinstance(read, Reason) else read
    if isinstance(decision, Refusal):
        return decision, ExitCode.REFUSED, None
    failed = host_again(loaded, options, job)
    return (failed or decision), ExitCode.OK, held


def _train(
    loaded: "Loaded",
    name: str,
    ticket: "Ticket",
    options: "Options",
    report: "Report | None",
    *,
    resume: bool,
) -> ExitCode:
    from ftcheck.inputs.container import Inputs, Run
    from ftcheck.inputs.work_folders import work_folder
    from ftcheck.policy.plan import of_job
    from ftcheck.report.sampled import sampled_words
    from ftcheck.runner.execute import waiving
    from ftcheck.training.during_checks import DuringChecks
    from ftcheck.training.expectations import expectations

    job = loaded.policy.jobs[name]
    trainer = loaded.host.trainers[job.trainer.use]
    _echo(f"gate: open for {name} · trainer {trainer.name} {trainer.describe(job)}".rstrip())
    if ticket.remark is not None:
        _echo(f"  {ticket.remark}")
    if ticket.sample is not None:
        _echo(sampled_words(ticket.sample))
    with work_folder("ftcheck-train-") as folder, _shown() as shown:
        run = Run(folder=folder, offline=options.offline, report=shown.show, cache=options.cache)
        checks, expected = of_job(loaded.during, name), expectations(job, report)
        watch = DuringChecks(checks, loaded.host, expected, waiving(loaded.policy), shown.tell)
        given = {"run": run, "jobs": (job,), "watch": watch} | ({"report": report} if report else {})
        if ticket.sample is not None:  # all rows are trained; the sample is only held against them
            given["sampled"] = Inputs(loaded.host.loaders, given, job)
            job = replace(job, data=replace(job.data, sample=None))
        inputs = Inputs(loaded.host.loaders, given, job)
        where = trainer.train(ticket, job, inputs, resume=resume)
        shown.end(watch, trainer.name)
    _echo(f"trained: {where}")
    return ExitCode.OK


def _echo(line: str) -> None:
    if ranks.is_main():
        click.echo(line)


@contextlib.contextmanager
def _shown() -> "Iterator[TrainingShown | _Silent]":
    """What shows the training: the terminal, from one process."""
    from ftcheck.cli.pages.shown import TrainingShown

    if not ranks.is_main():
        yield _Silent()
        return
    with TrainingShown() as shown:
        yield shown


class _Silent:
    """What shows the training in the other processes: nothing does."""

    def show(self, progress: "Progress") -> None:
        """The first process shows it."""

    def tell(self, alarm: "Alarm") -> None:
        """The first process tells it."""

    def end(self, watch: "DuringChecks", trainer: str) -> None:
        """The first process says how it ended."""
