"""What a training script of one's own asks for beside the gate: its trainer verified, its run watched.

The libraries that train are opened by the built-in trainers' package, which is loaded when it is asked for.
"""

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from ftcheck.errors import UsageError
from ftcheck.gate.stored import read_report
from ftcheck.gate.ticket import Reason, Ticket
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.work_folders import work_folder
from ftcheck.policy.plan import of_job
from ftcheck.runner.execute import waiving
from ftcheck.runner.load import Loaded
from ftcheck.settings import Job
from ftcheck.training.during_checks import Alarm, DuringChecks
from ftcheck.training.expectations import expectations


class OwnScript:
    """The policy that a script asked the gate with, its report, and what of the script was verified."""

    def __init__(self, loaded: Loaded, report: str | Path) -> None:
        """Nothing is opened before it is asked for."""
        self._loaded, self._report = loaded, report
        self.verified: Any = None
        """What `verify` found to be as checked (`ftcheck_trainers.verify.Verified`); None before."""
        self.run: Any = None
        """The training that a callback watches (`ftcheck_trainers.script_callback.OwnRun`)."""

    def job(self, ticket: Ticket) -> Job:
        """The job that the ticket is for."""
        return self._loaded.policy.jobs[ticket.job]

    def verify(self, ticket: Ticket, trainer: Any, eval_dataloader: Any = None) -> None:
        """See `Ticket.verify`."""
        self.verified = import_module("ftcheck_trainers.verify").verify(
            ticket, self, trainer, eval_dataloader
        )
        if hasattr(trainer, "train"):
            import_module("ftcheck_trainers.script_callback").told(trainer, self)

    @contextlib.contextmanager
    def inputs(self, job: Job, **given: Any) -> Iterator[Inputs]:
        """The job's inputs, opened as the checks opened them; `given` are at hand."""
        with work_folder("ftcheck-script-") as folder:
            # One process: a script may hold locks and threads that a fork would copy half.
            run = Run(folder=folder, cache=True, workers=1)
            yield Inputs(self._loaded.host.loaders, {"run": run, "jobs": (job,), **given}, job)

    def watch(self, job: Job, tell: Callable[[Alarm], None]) -> DuringChecks:
        """The job's checks of stage `during`; `tell` is told each alarm at once."""
        report = read_report(self._report)
        expected = expectations(job, None if isinstance(report, Reason) else report)
        checks = of_job(self._loaded.during, job.name)
        return DuringChecks(checks, self._loaded.host, expected, waiving(self._loaded.policy), tell)


def callback(ticket: Ticket) -> Any:
    """A `transformers.TrainerCallback` for a training script of your own: `trainer.add_callback(...)`.

    It runs the policy's checks of stage `during` and writes run.json and metrics.jsonl into the trainer's
    `output_dir`, so that `ftcheck monitor` and policies of stage `after` read the run as one of ftcheck's.
    What `ticket.verify` was not asked for is verified before the first step. Raises `ftcheck.Refused`
    there, and `ftcheck.TrainingError` where a check with `action: stop` has a finding.
    """
    if not isinstance(ticket.verifier, OwnScript):
        raise UsageError("this ticket does not know its policy: give the one that ftcheck.require returns")
    return import_module("ftcheck_trainers.script_callback").callback(ticket, ticket.verifier)
