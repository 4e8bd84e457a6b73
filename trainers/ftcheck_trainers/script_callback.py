"""A run that ftcheck did not start, written down and watched as `qlora` does it, from a TrainerCallback.

    trainer.add_callback(ftcheck.callback(ticket))

transformers tells a callback when a training begins and ends, but not that it failed: `told` listens to
`trainer.train` for that, and where nobody verified the trainer, the end of the process is the last chance.
"""

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

from ftcheck import ranks
from ftcheck.errors import TrainingError
from ftcheck.gate.ticket import Refused, Ticket
from ftcheck.settings import Job
from ftcheck.training.during_checks import Alarm, DuringChecks
from ftcheck_trainers import during_checks, run_folder, verify, whole_batches
from ftcheck_trainers import metrics as metrics_file
from ftcheck_trainers.failure_messages import plain_words
from ftcheck_trainers.verify import Verified

TRAINER = "script"
"""What run.json calls the trainer."""
RESUMING = "resume with trainer.train(resume_from_checkpoint=True)"
EVENTS = (
    "on_epoch_begin",
    "on_epoch_end",
    "on_step_begin",
    "on_step_end",
    "on_log",
    "on_evaluate",
    "on_save",
)
"""What is handed on to the callbacks that write the run down and watch it."""


_open: "dict[str, OwnRun]" = {}
"""The runs of this process that go on, by their folders. In a notebook one may have ended unseen."""


class Script(verify.Script, Protocol):
    """What opens the job's rows and its checks of stage `during`."""

    run: "OwnRun | None"

    def watch(self, job: Job, tell: Callable[[Alarm], None]) -> DuringChecks:
        """The job's checks of stage `during`; `tell` is told each alarm at once."""


class OwnRun:
    """One training of a script, from its first step to its end, however it ends."""

    def __init__(self, ticket: Ticket, script: Script, verified: Verified, args: Any, state: Any) -> None:
        """Claim the trainer's output_dir and open the run there. Raises `TrainingError`."""
        self._script, named = script, script.job(ticket)
        self._folder = str(Path(args.output_dir).absolute())
        self._job = replace(named, training=replace(named.training, output_dir=self._folder))
        if self._folder in _open:
            _open[self._folder].failed(TrainingError("it ended, and another training began in its folder"))
        _refuse_command(self._job)
        self._claimed = run_folder.claim_of_script(ticket, self._job, state.global_step)
        self._stack = ExitStack()
        about = {
            "trainer": TRAINER,
            "planned": _planned(verified, args, state),
            "computed_in": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
        }
        recorded = run_folder.recorded(self._claimed, ticket, self._job, resuming=RESUMING, **about)
        self._record = self._stack.enter_context(recorded)
        _open[self._folder] = self
        atexit.register(self._at_exit)
        with self.ended_by_errors():
            self._stack.enter_context(plain_words(self._job))
            self._metrics = metrics_file.Metrics(self._claimed.path, after=self._claimed.step)
            inputs = self._stack.enter_context(script.inputs(self._job))
            watch = script.watch(self._job, lambda alarm: run_folder.say(str(alarm)))
            watching = during_checks.begin(watch, inputs, self._claimed, self._record, self._metrics)
            self._stack.callback(lambda: self._record.update(during=watch.results()))
            keeper = metrics_file.callback(self._metrics, self._record, lambda progress: None, self._job.name)
            self.callbacks = (keeper, watching)

    def count(self, model: Any) -> None:
        """Count the batches that go through the model."""

        def hook(module: Any, positional: Any, batch: Mapping[str, Any]) -> None:
            if module.training and batch.get("input_ids") is not None and batch.get("labels") is not None:
                self._metrics.count(batch)

        self._stack.callback(model.register_forward_pre_hook(hook, with_kwargs=True).remove)

    @contextlib.contextmanager
    def ended_by_errors(self) -> Any:
        """What is raised in the block ends the run."""
        try:
            yield
        except BaseException as error:
            self.failed(error)
            raise

    def finished(self, state: Any, model: Any) -> None:
        """The training came to its end; what it trained may be saved after this."""
        adapter = str(self._claimed.path) if hasattr(model, "peft_config") else None
        self._record.update(**metrics_file.at_end(state, self._metrics), adapter=adapter)
        self._close(None)

    def failed(self, error: BaseException) -> None:
        """The training ended with an error, or was interrupted; what a refusal quotes of rows is left out."""
        if isinstance(error, Refused):
            codes = ", ".join(reason.code for reason in error.refusal.reasons)
            error = TrainingError(f"the gate refused what is fed ({codes})")
        with contextlib.suppress(Exception, KeyboardInterrupt):
            self._close(error)

    def _close(self, error: BaseException | None) -> None:
        atexit.unregister(self._at_exit)
        _open.pop(self._folder, None)
        self._script.run = None
        closing = self._stack.pop_all()
        closing.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)

    def _at_exit(self) -> None:
        """The process ends, and the training never did: what ended the script ended it too."""
        last = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        self.failed(last or TrainingError("the script ended before its training did"))


def _refuse_command(job: Job) -> None:
    """`ftcheck train` with the trainer `command` writes the run folder of what it starts."""
    if os.environ.get("FTCHECK_JOB") == job.name:
        raise TrainingError(
            f"ftcheck train started this script as the command of job {job.name}, and writes its run.json"
            " itself; leave out ftcheck.callback, or start the script without ftcheck train"
        )


def _planned(verified: Verified, args: Any, state: Any) -> dict[str, int]:
    processes = ranks.count()
    return {
        "rows": verified.rows,
        "blocks": verified.blocks,
        "tokens": verified.tokens,
        "trained_tokens": verified.trained_tokens,
        "steps": state.max_steps,
        "repeated": whole_batches.missing(verified.blocks, args.per_device_train_batch_size, processes),
    }


def told(trainer: Any, script: Script) -> None:
    """From now on `trainer.train` tells the script's run how it ended, where transformers tells nobody."""
    train = trainer.train

    @wraps(train)
    def telling(*args: Any, **kwargs: Any) -> Any:
        try:
            return train(*args, **kwargs)
        except BaseException as error:
            if script.run is not None:
                script.run.failed(error)
            raise

    trainer.train = telling


def callback(ticket: Ticket, script: Script) -> Any:
    """See `ftcheck.callback`."""
    from transformers import TrainerCallback

    class Watching(TrainerCallback):  # type: ignore[misc]
        """Verifies what was not verified, opens the run, and hands on what happens in it."""

        evaluation_is_verified = False

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            loader, processing = kwargs["train_dataloader"], kwargs.get("processing_class")
            verified = verify.begun(ticket, script, args, state, loader, processing)
            self.evaluation_is_verified = verified.arguments is args and script.verified is verified
            script.run = OwnRun(ticket, script, verified, args, state)
            with script.run.ended_by_errors():
                script.run.count(kwargs["model"])
            return self.hand_on("on_train_begin", args, state, control, kwargs)

        def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if script.run is None or self.evaluation_is_verified or not verify.evaluates(args):
                return
            loader, processing = kwargs["eval_dataloader"], kwargs.get("processing_class")
            with script.run.ended_by_errors():
                verify.evaluated(ticket, script, args, loader, processing)
            self.evaluation_is_verified = True

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if script.run is not None:
                script.run.finished(state, kwargs["model"])

        def hand_on(self, event: str, args: Any, state: Any, control: Any, kwargs: Any) -> Any:
            if script.run is None:
                return control
            with script.run.ended_by_errors():
                for one in script.run.callbacks:
                    control = getattr(one, event)(args, state, control, **kwargs) or control
            return control

    for event in EVENTS:
        setattr(Watching, event, _handing_on(event))
    return Watching()


def _handing_on(event: str) -> Any:
    def handed(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        return self.hand_on(event, args, state, control, kwargs)

    return handed
