"""QLoRA behind the gate: the rows that were checked, a base in 4-bit, an adapter, TRL's SFTTrainer.

    ftcheck train policies/night_before.yaml --job mapper

Read `train` from top to bottom. It feeds ids and labels of its own (from the shared preparation), never
text, and starts only if their digest is the ticket's. One CPU, one GPU, or several by `accelerate launch`.
"""

import contextlib
import importlib.util
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftcheck.errors import FtcheckError, MissingDependency, TrainingError
from ftcheck.inputs import Inputs, Prepared, Run
from ftcheck.offers import Trainer
from ftcheck.probe import Probe
from ftcheck.settings import Job
from ftcheck.ticket import Reason, Refusal, Refused, Ticket
from ftcheck_trainers import feed, run_folder
from ftcheck_trainers import metrics as metrics_file
from ftcheck_trainers.quiet import quiet_libraries

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
WORSE_THAN_GUESSING = 3
"""Logs in a row with a loss above that of guessing every token: the run has diverged."""


def train(ticket: Ticket, job: Job, inputs: Inputs, *, resume: bool) -> str:
    """Train the job's adapter on exactly the checked rows; returns the run folder."""
    need_libraries(job)
    run_folder.check_ticket(ticket, job)

    # Where the run goes. Nothing is written before the rows have proved to be the checked ones.
    claimed = run_folder.claim(ticket, job, resume=resume)
    run: Run = inputs.get("run")
    prepared: Prepared = inputs.get("prepared")
    tokenizer = inputs.get("tokenizer")
    _refuse_trouble(prepared, job)

    run.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fed-", dir=run.folder, ignore_cleanup_errors=True) as work:
        rows = feed.fed_rows(prepared, job.training, Path(work) / "train")
        _check_digest(ticket, rows, job)
        blocks = feed.arranged(rows, job.training, Path(work) / "train", pack=job.training.packing)
        eval_blocks = feed.eval_blocks(job, inputs, Path(work) / "eval")

        planned = _planned(job, rows, blocks)
        with (
            run_folder.recorded(claimed, ticket, job, planned=planned) as record,
            plain_words(job),
            quiet_libraries(),
        ):
            # The base in 4-bit, the adapter on it, and TRL around both.
            metrics = metrics_file.Metrics(claimed.path, after=claimed.step)
            trainer = build_trainer(
                job, run, tokenizer.backend, blocks, eval_blocks, planned["steps"], metrics
            )
            trainer.add_callback(metrics_file.callback(metrics, record, run.report, f"training {job.name}"))

            # Train, and stop on anything that is not a finite loss.
            checkpoint = str(claimed.checkpoint) if claimed.checkpoint else None
            trainer.train(resume_from_checkpoint=checkpoint)

            # Save what is served: adapter, tokenizer, and the template it is served with.
            trainer.save_model(str(claimed.path))
            if run_folder.is_main():
                _save_training_template(tokenizer, claimed.path)
            record.update(**_at_end(job, claimed.path, trainer, metrics))
    return str(claimed.path)


def describe(job: Job) -> str:
    """What will run, in a line."""
    training = job.training
    chosen, lora = training.quantization, training.lora
    bits = "in full precision"
    if chosen is not None and (chosen.load_in_4bit or chosen.load_in_8bit):
        bits = f"in 4-bit {chosen.bnb_4bit_quant_type}" if chosen.load_in_4bit else "in 8-bit"
    adapter = (
        "the whole model" if lora is None else f"LoRA r {lora.r} on {lora.target_modules or 'its defaults'}"
    )
    fed = f"blocks of {training.max_length} tokens" if training.packing else "one row at a time"
    return f"{job.model.name} {bits}, {adapter}, {fed} -> {training.output_dir}"


def probe(job: Job, inputs: Inputs) -> Probe:
    """Some real steps of the largest batch: see `ftcheck_trainers.probe`."""
    from ftcheck_trainers import probe as probing

    return probing.probe(job, inputs)


TRAINER = Trainer(name="qlora", train=train, describe=describe, probe=probe)


# --- before anything is written ---------------------------------------------------------------------


def need_libraries(job: Job) -> None:
    """Raise `MissingDependency` where a library is not installed that this job needs."""
    quantized = job.training.quantization is not None
    wanted = (*LIBRARIES, "bitsandbytes") if quantized else LIBRARIES
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(f"the trainer qlora needs {', '.join(missing)}", "train")


def _refuse_trouble(prepared: Prepared, job: Job) -> None:
    for row, trouble in sorted(prepared.troubles.items())[:1]:
        count = len(prepared.troubles)
        message = f"{count} rows cannot be fed; the first: {prepared.at(row)}: {trouble.message}"
        raise Refused(Refusal(job.name, (Reason("ids-changed", message),)))
    if not len(prepared.sequences):
        raise TrainingError(f"job {job.name} has no rows to train on: all were dropped")


def _check_digest(ticket: Ticket, rows: Any, job: Job) -> None:
    """What will be fed, read back from the file it is fed from, is what was checked."""
    digest = feed.digest_of(rows)
    if ticket.ids != digest:
        message = (
            f"ids and labels were {ticket.ids} when they were checked, are {digest} now; run the checks again"
        )
        raise Refused(Refusal(job.name, (Reason("ids-changed", message),)))


def _planned(job: Job, rows: Any, blocks: Any) -> dict[str, int]:
    from ftcheck_trainers.arguments import planned_steps

    tokens, trained = _count(rows)
    if _count(blocks) != (tokens, trained):
        raise TrainingError(f"packing lost tokens of job {job.name}: this is a bug, please report it")
    if not trained:
        raise TrainingError(f"no token of job {job.name} is in the loss")
    steps = planned_steps(job.training, len(blocks), _processes())
    return {
        "rows": len(rows),
        "blocks": len(blocks),
        "tokens": tokens,
        "trained_tokens": trained,
        "steps": steps,
    }


def _count(dataset: Any) -> tuple[int, int]:
    """Tokens, and those in the loss."""
    import pyarrow.compute as pc

    tokens = trained = 0
    for batch in dataset.with_format("arrow").iter(batch_size=1000):
        labels = pc.list_flatten(batch["labels"])
        tokens += len(labels)
        trained += pc.sum(pc.not_equal(labels, -100)).as_py() or 0
    return tokens, trained


def _processes() -> int:
    from accelerate import PartialState

    return int(PartialState().num_processes)


# --- model and trainer --------------------------------------------------------------------------------


def build_trainer(
    job: Job,
    run: Run,
    tokenizer: Any,
    blocks: Any,
    eval_blocks: Any,
    steps: int,
    metrics: metrics_file.Metrics,
) -> Any:
    """TRL's SFTTrainer with the base model loaded and the adapter attached.

    Packed blocks carry `seq_lengths`; with `packing` (or `padding_free`) TRL's collator makes of them
    positions that start anew at each document and no attention mask, so that documents stay apart.
    """
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, PrinterCallback
    from trl import SFTConfig

    from ftcheck_trainers import arguments

    machine = arguments.this_machine(_processes())
    config = SFTConfig(**arguments.sft_arguments(job, machine, steps=steps, offline=run.offline))
    _refuse_data_parallel(config, job)
    lora, quantization = arguments.lora_arguments(job), arguments.quantization_arguments(job)
    loaded_in = None if quantization is None else BitsAndBytesConfig(**quantization)
    resized = resized_base(job, config, loaded_in)
    trainer = watched_trainer(metrics)(
        model=job.model.name if resized is None else resized,
        args=config,
        train_dataset=blocks,
        eval_dataset=eval_blocks,
        processing_class=tokenizer,
        peft_config=None if lora is None else LoraConfig(**lora),
        quantization_config=None if resized is not None else loaded_in,
    )
    trainer.remove_callback(PrinterCallback)
    keep_trainable_on_cpu(trainer.model)
    return trainer


def resized_base(job: Job, config: Any, loaded_in: Any) -> Any | None:
    """The base with as many embedding rows as `model.resize_embeddings_to` says; None where it is not set.

    TRL loads a base by its name and resizes none, so it is loaded here, as TRL would. The values of new
    rows come from the job's seed.
    """
    if job.model.resize_embeddings_to is None:
        return None
    from transformers import set_seed
    from trl.trainer.utils import create_model_from_path

    arguments = {**config.model_init_kwargs, "trust_remote_code": config.trust_remote_code}
    if loaded_in is not None:
        arguments["quantization_config"] = loaded_in
    if _processes() > 1:
        arguments["device_map"] = None
    set_seed(config.seed)
    model = create_model_from_path(job.model.name, **arguments)
    model.resize_token_embeddings(job.model.resize_embeddings_to)
    config.model_init_kwargs = None
    return model


def _refuse_data_parallel(config: Any, job: Job) -> None:
    if config.n_gpu > 1 and "device_map" not in (job.training.extra.get("model_init_kwargs") or {}):
        remedy = "make one visible with CUDA_VISIBLE_DEVICES=0, or start ftcheck by 'accelerate launch'"
        raise TrainingError(f"one process sees {config.n_gpu} GPUs; {remedy}")


def keep_trainable_on_cpu(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights at the first evaluation.

    On CPUs with AVX512-BF16, version 0.50 repacks them in the first forward in eval mode, and the way
    back through repacked weights is not implemented: from then on the gradient stops at each base
    layer. Training goes on with a warning, with gradients that are off by up to 100 %.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def watched_trainer(metrics: metrics_file.Metrics) -> Any:
    """SFTTrainer that counts what it feeds and stops at the first loss or gradient that is not finite."""
    import torch
    from transformers import TrainerCallback
    from trl import SFTTrainer

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Looks at gradients before they are used, and at each logged loss."""

        above = 0

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # fp16 scales the loss, and skips a step whose gradients overflow: that is no failure.
            # Sharded gradients (FSDP) are no plain tensors; there the loss alone is watched.
            grads = [p.grad for p in kwargs["model"].parameters() if type(p.grad) is torch.Tensor]
            if grads and not args.fp16:
                refuse_not_finite(
                    "the gradient", float(torch.nn.utils.get_total_norm(grads)), state.global_step + 1
                )

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            for name in ("loss", "eval_loss"):
                refuse_not_finite(name, logs.get(name, 0.0), state.global_step)
            if "loss" in logs:
                guessing = math.log(kwargs["model"].config.get_text_config().vocab_size)
                self.above = self.above + 1 if logs["loss"] > guessing + 1 else 0
                if self.above == WORSE_THAN_GUESSING:
                    raise _diverged(logs["loss"], guessing, state.global_step)

    class WatchedTrainer(SFTTrainer):  # type: ignore[misc]
        """TRL's trainer, watched."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs, callbacks=[Watch()])

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            metrics.count(inputs)
            loss = super().training_step(model, inputs, *args, **kwargs)
            refuse_not_finite("the loss", float(loss), self.state.global_step + 1)
            return loss

        def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            """peft loads an adapter in float32: a resumed run would go on in another precision."""
            dtypes = {name: p.dtype for name, p in self.model.named_parameters() if p.requires_grad}
            super()._load_from_checkpoint(*args, **kwargs)
            for name, parameter in self.model.named_parameters():
                parameter.data = parameter.data.to(dtypes.get(name, parameter.dtype))

        def _send_telemetry(self) -> None:
            """TRL would tell its makers about each run; ftcheck tells nobody."""

    return WatchedTrainer


def refuse_not_finite(what: str, value: float, step: int) -> None:
    """Raise `TrainingError` for a NaN or an infinity: every weight is next."""
    if not math.isfinite(value):
        remedy = "lower training.learning_rate, lengthen warmup_steps, or compute in bfloat16"
        raise TrainingError(f"{what} is {value} at step {step}; {remedy}")


def _diverged(loss: float, guessing: float, step: int) -> TrainingError:
    words = f"loss {loss:.2f} at step {step}, {WORSE_THAN_GUESSING} logs in a row worse than guessing"
    remedy = "lower training.learning_rate"
    return TrainingError(f"the run has diverged: {words} ({guessing:.2f}); {remedy}")


# --- the end --------------------------------------------------------------------------------------------


def _save_training_template(tokenizer: Any, folder: Path) -> None:
    """The template with markers, where it is not the one that is served (which lies beside it)."""
    template = tokenizer.training_template
    if template is not None and template != tokenizer.chat_template:
        run_folder.write_whole(folder / "training_chat_template.jinja", template)


def _at_end(job: Job, folder: Path, trainer: Any, metrics: metrics_file.Metrics) -> dict[str, Any]:
    history = trainer.state.log_history
    losses = [line["loss"] for line in history if "loss" in line]
    eval_losses = [line["eval_loss"] for line in history if "eval_loss" in line]
    return {
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "tokens": metrics.tokens,
        "tokens_per_second": metrics.speed,
        "memory_peak_gib": metrics.peak_gib,
        "final_loss": losses[-1] if losses else None,
        "final_eval_loss": eval_losses[-1] if eval_losses else None,
        "adapter": str(folder) if job.training.lora is not None else None,
    }


@contextlib.contextmanager
def plain_words(job: Job) -> Iterator[None]:
    """Whatever a library raises becomes one line that says what to do."""
    try:
        yield
    except FtcheckError:
        raise
    except Exception as error:
        raise TrainingError(_cause(error, job)) from error


def _cause(error: Exception, job: Job) -> str:
    words = run_folder.one_line(error)
    if isinstance(error, MemoryError) or "out of memory" in words.lower() or "can't allocate memory" in words:
        training = job.training
        smaller = f"per_device_train_batch_size (now {training.per_device_train_batch_size})"
        remedy = f"lower {smaller} and raise gradient_accumulation_steps by as much"
        if not training.gradient_checkpointing:
            remedy += ", or set gradient_checkpointing: true"
        return f"out of memory; {remedy} ({words})"
    return f"training of {job.name} failed: {type(error).__name__}: {words}"
