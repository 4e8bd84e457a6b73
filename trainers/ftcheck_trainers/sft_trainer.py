"""TRL's SFTTrainer, watched: stops on what is not finite and on signals, and saves whole or not at all.

Losses and gradients stay on the device until the next log, evaluation or checkpoint: a NaN is found before it
gets into any of them, and no step waits for the host.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftcheck import ranks
from ftcheck.inputs.work_folders import work_folder
from ftcheck.settings import Job
from ftcheck_trainers import checkpoint, failure_messages, sharded_models, whole_batches
from ftcheck_trainers.metrics import Metrics
from ftcheck_trainers.overridden import need_overridden
from ftcheck_trainers.run_folder import versions
from ftcheck_trainers.signals import Stop

WORSE_THAN_GUESSING = 3
"""Logs in a row with a loss above that of guessing every token: the run has diverged."""


class _CutShort(Exception):
    """An evaluation ends here: the run was asked to stop."""


def watched_trainer(job: Job, metrics: Metrics) -> Any:
    """The class to train with; it counts what it feeds in `metrics`.

    Raises `TrainingError` where the installed libraries are built otherwise than this class expects.
    """
    import torch
    from transformers import TrainerCallback, trainer_utils
    from trl import SFTTrainer

    need_overridden(SFTTrainer, trainer_utils)
    stop = Stop()

    class EachStep(TrainerCallback):  # type: ignore[misc]
        """Watches gradients, looks at each logged loss, and for signals after each step."""

        above = 0
        updating = False
        random: Any = None
        trainer: Any = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.random = _random_state(torch)
            if job.training.lora is None:
                refuse_unsavable(kwargs["model"], job)
            self.trainer.make_up_for_the_evaluation()

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # fp16 scales the loss, and skips a step whose gradients overflow: that is no failure.
            # Sharded gradients (FSDP) are no plain tensors; there the loss alone is watched.
            grads = [p.grad for p in kwargs["model"].parameters() if type(p.grad) is torch.Tensor]
            if grads and not args.fp16:
                metrics.watch("the gradient", torch.nn.utils.get_total_norm(grads), state.global_step + 1)
            self.updating = True

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            self.updating, self.random = False, _random_state(torch)
            if self.trainer.accelerator.gradient_state.end_of_dataloader:
                metrics.in_vain(self.trainer.fillers * whole_batches.FILLER_TOKENS)
            if state.global_step < state.max_steps and stop.asked():
                control.should_save = control.should_training_stop = True
            return control

        def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if stop.asked():
                raise _CutShort

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            for name in ("loss", "eval_loss"):
                refuse_not_finite(name, logs.get(name, 0.0), state.global_step, job)
            if "loss" in logs:
                guessing = math.log(kwargs["model"].config.get_text_config().vocab_size)
                self.above = self.above + 1 if logs["loss"] > guessing + 1 else 0
                if self.above == WORSE_THAN_GUESSING:
                    raise failure_messages.diverged(
                        logs["loss"], guessing, state.global_step, self.above, job.training
                    )

    class WatchedTrainer(SFTTrainer):  # type: ignore[misc]
        """TRL's trainer, watched."""

        control: Any
        train_dataset: Any
        resumed_from: str | None = None
        staging: Path | None = None
        rows: Any = None
        fillers = 0

        def __init__(self, **kwargs: Any) -> None:
            self.watch = EachStep()
            self.watch.trainer = self
            super().__init__(**kwargs, callbacks=[self.watch])
            self.trained_numbers = sharded_models.trained_numbers(self.model)

        def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
            self.resumed_from = resume_from_checkpoint
            with stop.heard(), self._rescued():
                ended = super().train(resume_from_checkpoint, **kwargs)
                self._refuse_not_finite()  # the last steps may have been followed by no log and no save
                return ended

        def get_train_dataloader(self) -> Any:
            """What all processes feed in an epoch: each row once, and fillers where rows do not divide."""
            if ranks.count() == 1 or not whole_batches.fills(job.training):
                return super().get_train_dataloader()
            rows = self.rows = self.train_dataset
            self.train_dataset = whole_batches.with_filler(rows)
            try:
                loader = super().get_train_dataloader()
            finally:
                self.train_dataset = rows
            self.fillers = whole_batches.complete(loader, len(rows))
            return loader

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            """The order of the rows, which the filler is none of."""
            return super()._get_train_sampler(train_dataset if self.rows is None else self.rows)

        def make_up_for_the_evaluation(self) -> None:
            """Evaluate where the run that goes on was stopped while it evaluated."""
            if self.resumed_from is not None and evaluation_is_due(Path(self.resumed_from)):
                self.control.should_evaluate = True
                super()._maybe_log_save_evaluate(self._tr_loss, None, self.model, None, 0.0, None, 0.0)

        def _run_epoch(self, **kwargs: Any) -> None:
            """After a checkpoint of the last step nothing is left; transformers would train one step more."""
            if self.state.global_step >= self.state.max_steps:
                self.control.should_training_stop = True
                return
            super()._run_epoch(**kwargs)

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            metrics.count(inputs)
            loss = super().training_step(model, inputs, *args, **kwargs)
            metrics.watch("the loss", loss, self.state.global_step + 1)
            if metrics.full:
                self._refuse_not_finite()
            return loss

        def _refuse_not_finite(self) -> None:
            """Look at what was watched. Not after each step: the host waits for the device here."""
            for what, step, value in metrics.settle():
                refuse_not_finite(what, value, step, job)

        def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
            """A loss that is not finite ends the run before it is logged, evaluated or saved."""
            if self.control.should_log or self.control.should_evaluate or self.control.should_save:
                self._refuse_not_finite()
            super()._maybe_log_save_evaluate(*args, **kwargs)
            if stop.agreed:
                raise stop.interrupted(self.state.global_step)

        def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
            """Evaluating draws no random numbers from training: losses after it are those without it."""
            devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
            try:
                with torch.random.fork_rng(devices):
                    return super()._evaluate(*args, **kwargs)
            except _CutShort:
                self._save_now()
                raise stop.interrupted(self.state.global_step) from None

        def _save_now(self) -> None:
            self._refuse_not_finite()
            self._save_checkpoint(self.model, None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)

        def _get_output_dir(self, trial: Any = None) -> str:
            return str(self.staging) if self.staging is not None else str(super()._get_output_dir(trial))

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            folder, step = Path(self._get_output_dir(trial)), self.state.global_step
            try:
                with checkpoint.saved(folder, step, versions()) as self.staging:
                    super()._save_checkpoint(model, trial)
                    self._name_the_best(folder / f"checkpoint-{step}")
            except Exception as error:
                raise failure_messages.not_saved(error, job, f"checkpoint-{step}") from error
            finally:
                self.staging = None
            if self.args.should_save:
                limit, best = self.args.save_total_limit, self.state.best_model_checkpoint
                trainer_utils.rotate_checkpoints(str(folder), limit, best)

        def _name_the_best(self, final: Path) -> None:
            """The best checkpoint by the place where it will lie, if it is the one that is being written."""
            best = self.state.best_model_checkpoint
            if best is not None and self.staging is not None and Path(best).parent == self.staging:
                self.state.best_model_checkpoint = str(final)
                if self.args.should_save:
                    self.state.save_to_json(str(self.staging / final.name / checkpoint.STATE))

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            if _internal_call:
                super().save_model(output_dir, _internal_call)
                return
            folder = Path(output_dir or self.args.output_dir)
            try:
                with checkpoint.moved_in(folder) as staging:
                    sharded_models.gather_when_saved(self)
                    super().save_model(str(staging))
                    if ranks.is_main() and sharded_models.asked(job):
                        sharded_models.need_whole(staging, self.trained_numbers)
            except Exception as error:
                raise failure_messages.not_saved(error, job, "what was trained") from error

        def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            """peft loads an adapter in float32: a resumed run would go on in another precision."""
            dtypes = {name: p.dtype for name, p in self.model.named_parameters() if p.requires_grad}
            super()._load_from_checkpoint(*args, **kwargs)
            for name, parameter in self.model.named_parameters():
                parameter.data = parameter.data.to(dtypes.get(name, parameter.dtype))

        @contextlib.contextmanager
        def _rescued(self) -> Iterator[None]:
            """Out of memory in a forward or backward pass leaves the step before whole: checkpoint that."""
            try:
                yield
            except Exception as error:
                step = self.state.global_step
                alone = ranks.count() == 1 and not self.watch.updating and self.watch.random is not None
                there = checkpoint.flaw_of(Path(self.args.output_dir) / f"checkpoint-{step}") is None
                if alone and step and not there and failure_messages.is_memory(error):
                    with contextlib.suppress(Exception):
                        _set_random_state(torch, self.watch.random)
                        self._save_now()
                raise

        def _send_telemetry(self) -> None:
            """TRL would tell its makers about each run; ftcheck tells nobody."""

    return WatchedTrainer


def _random_state(torch: Any) -> Any:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return torch.get_rng_state(), cuda


def _set_random_state(torch: Any, state: Any) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])


def evaluation_is_due(path: Path) -> bool:
    """Whether a checkpoint was written in place of an evaluation; its state says so."""
    state = json.loads((path / checkpoint.STATE).read_bytes())
    try:
        return bool(state["stateful_callbacks"]["TrainerControl"]["args"]["should_evaluate"])
    except (LookupError, TypeError):
        return False


def refuse_not_finite(what: str, value: float, step: int, job: Job) -> None:
    """Raise `Stopped` for a NaN or an infinity: every weight is next."""
    if not math.isfinite(value):
        raise failure_messages.not_finite(what, value, step, job.training)


def refuse_unsavable(model: Any, job: Job) -> None:
    """Raise `Stopped` for a generation config that cannot be saved with the model: now, not at the end."""
    config = getattr(model, "generation_config", None)
    if config is None:
        return
    try:
        with work_folder() as folder:
            config.save_pretrained(folder)
    except ValueError as error:
        reason = (
            f"the generation config of {job.model.name} cannot be saved ({failure_messages.one_line(error)})"
        )
        raise failure_messages.Stopped(
            reason, "fix its generation_config.json, or remove the file"
        ) from error
