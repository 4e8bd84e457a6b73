"""QLoRA behind the gate: the rows that were checked, a base in 4-bit, an adapter, TRL's SFTTrainer.

    ftcheck train policies/night_before.yaml --job mapper

Read `train` from top to bottom. It feeds ids and labels of its own (from the shared preparation), never
text, and starts only if their digest is the ticket's. One CPU, one GPU, or several by `accelerate launch`.
"""

import contextlib
import importlib.util
import math
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.errors import FtcheckError, InputError, MissingDependency, TrainingError
from ftcheck.gate import Reason, Refusal, Refused, Ticket
from ftcheck.inputs import Inputs, Prepared, Run
from ftcheck.offers import Trainer
from ftcheck.settings import Job, Training
from ftcheck_trainers import run_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
WORSE_THAN_GUESSING = 3
"""Logs in a row with a loss above that of guessing every token: the run has diverged."""


def train(ticket: Ticket, job: Job, inputs: Inputs, *, resume: bool) -> str:
    """Train the job's adapter on exactly the checked rows; returns the run folder."""
    _need_libraries(job)
    run_folder.check_ticket(ticket, job)

    # Where the run goes. Nothing is written before the rows have proved to be the checked ones.
    claimed = run_folder.claim(ticket, job, resume=resume)
    run: Run = inputs.get("run")
    prepared: Prepared = inputs.get("prepared")
    tokenizer = inputs.get("tokenizer")
    _refuse_trouble(prepared, job)

    run.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fed-", dir=run.folder, ignore_cleanup_errors=True) as work:
        rows = fed_rows(prepared, job.training, Path(work) / "train")
        _check_digest(ticket, rows, job)
        blocks = arranged(rows, job.training, Path(work) / "train", pack=job.training.packing)
        eval_blocks = _eval_blocks(job, inputs, Path(work) / "eval")

        planned = _planned(job, rows, blocks)
        with (
            run_folder.recorded(claimed, ticket, job, planned=planned) as record,
            plain_words(job),
            quiet_libraries(),
        ):
            # The base in 4-bit, the adapter on it, and TRL around both.
            metrics = run_folder.Metrics(claimed.path, after=claimed.step)
            trainer = build_trainer(
                job, run, tokenizer.backend, blocks, eval_blocks, planned["steps"], metrics
            )
            trainer.add_callback(run_folder.callback(metrics, record, run.report, f"training {job.name}"))

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


TRAINER = Trainer(name="qlora", train=train, describe=describe)


# --- before anything is written ---------------------------------------------------------------------


def _need_libraries(job: Job) -> None:
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
    digest = digest_of(rows)
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


# --- rows and blocks ----------------------------------------------------------------------------------


def fed_rows(prepared: Prepared, training: Training, folder: Path) -> Any:
    """A `datasets.Dataset` with input_ids and labels of each sequence, cut, in data order."""
    from ftcheck_plugins.preparation import cutter

    return _dataset(_sequences(prepared, cutter(training)), folder / "rows.arrow", ("input_ids", "labels"))


def _sequences(prepared: Prepared, cut: Any) -> Iterator[Mapping[str, Any]]:
    import numpy as np

    for row, start, stop in prepared.sequences.tolist():
        ids = cut(prepared.tokens.ids(row)[start:stop])
        mask = cut(prepared.tokens.mask(row)[start:stop])
        yield {"input_ids": ids, "labels": np.where(mask, ids, -100)}


def digest_of(rows: Any) -> str:
    """The digest over ids and labels of a data set, as preparation makes it."""
    from ftcheck_plugins.preparation import LabelDigest

    digest = LabelDigest()
    for batch in rows.with_format("numpy").iter(batch_size=1000):
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            digest.add(ids, labels)
    return digest.text()


def arranged(rows: Any, training: Training, folder: Path, *, pack: bool) -> Any:
    """The rows as batches are drawn from them: packed or not, and shuffled before where TRL would."""
    from trl import pack_dataset

    if training.extra.get("shuffle_dataset"):
        rows = rows.shuffle(seed=training.seed)
    if not pack:
        return rows
    if training.max_length is None:
        raise TrainingError("training.packing needs training.max_length: the length of a block")
    # `wrapped` ignores where rows end, so there is nothing to plan.
    if training.packing_planner == "trl" or training.packing_strategy == "wrapped":
        with quiet_libraries():
            return pack_dataset(rows, training.max_length, strategy=training.packing_strategy)
    columns = ("input_ids", "labels", "seq_lengths")
    return _dataset(_best_blocks(rows, training, training.max_length), folder / "blocks.arrow", columns)


def _best_blocks(rows: Any, training: Training, capacity: int) -> Iterator[Mapping[str, Any]]:
    import numpy as np

    from ftcheck.packing import assign, best_fit

    pieces = _pieces(_lengths(rows), capacity)
    sizes = pieces[:, 2] - pieces[:, 1]
    table = rows.with_format("numpy")
    for chosen in assign(best_fit(sizes, capacity), sizes, training.seed):
        taken = table[pieces[chosen, 0].tolist()]
        block: dict[str, Any] = {"seq_lengths": sizes[chosen]}
        for name in ("input_ids", "labels"):
            parts = zip(taken[name], pieces[chosen].tolist(), strict=True)
            block[name] = np.concatenate([values[start:stop] for values, (_, start, stop) in parts])
        yield block


def _lengths(rows: Any) -> "NDArray[np.int64]":
    import numpy as np
    import pyarrow.compute as pc

    table = rows.with_format("arrow")
    parts = [pc.list_value_length(b["input_ids"]).to_numpy() for b in table.iter(batch_size=1000)]
    return np.concatenate(parts).astype(np.int64)


def _pieces(lengths: "NDArray[np.int64]", capacity: int) -> "NDArray[np.int64]":
    """(row, start, stop): whole rows, and those longer than a block in pieces, as `bfd_split` makes them."""
    import numpy as np

    pieces = [
        (row, start, min(start + capacity, length))
        for row, length in enumerate(lengths.tolist())
        for start in range(0, length, capacity)
    ]
    return np.array(pieces, dtype=np.int64).reshape(-1, 3)


def _dataset(examples: Iterable[Mapping[str, Any]], path: Path, columns: Sequence[str]) -> Any:
    """Write examples to an Arrow file and map it: memory does not grow with the data."""
    import pyarrow as pa
    from datasets import Dataset

    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, pa.list_(pa.int32())) for name in columns])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in _batches(examples, 1000):
            values = {name: [example[name] for example in batch] for name in columns}
            writer.write_batch(pa.record_batch(values, schema=schema))
    return Dataset.from_file(str(path))


def _batches(examples: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    for example in examples:
        batch.append(example)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _eval_blocks(job: Job, inputs: Inputs, folder: Path) -> Any:
    """The evaluation rows, made as the training rows are; None where nobody evaluates."""
    training = job.training
    if training.eval_strategy == "no":
        return None
    prepared: Prepared | None = inputs.get("prepared_eval")
    if prepared is None:
        raise TrainingError(
            f"training.eval_strategy is {training.eval_strategy}, and data.eval names nothing"
        )
    for row, trouble in sorted(prepared.troubles.items())[:1]:
        raise InputError(f"{prepared.at(row)}: this row of data.eval cannot be fed: {trouble.message}")
    rows = fed_rows(prepared, training, folder)
    packs = training.extra.get("eval_packing")
    return arranged(rows, training, folder, pack=training.packing if packs is None else bool(packs))


# --- model and trainer --------------------------------------------------------------------------------


def build_trainer(
    job: Job,
    run: Run,
    tokenizer: Any,
    blocks: Any,
    eval_blocks: Any,
    steps: int,
    metrics: run_folder.Metrics,
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
    trainer = watched_trainer(metrics)(
        model=job.model.name,
        args=config,
        train_dataset=blocks,
        eval_dataset=eval_blocks,
        processing_class=tokenizer,
        peft_config=None if lora is None else LoraConfig(**lora),
        quantization_config=None if quantization is None else BitsAndBytesConfig(**quantization),
    )
    trainer.remove_callback(PrinterCallback)
    keep_trainable_on_cpu(trainer.model)
    return trainer


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


def watched_trainer(metrics: run_folder.Metrics) -> Any:
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


def _at_end(job: Job, folder: Path, trainer: Any, metrics: run_folder.Metrics) -> dict[str, Any]:
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
def quiet_libraries() -> Iterator[None]:
    """No word on what the libraries will deprecate in each other; no progress bars in a log file."""
    import datasets
    from transformers.utils import logging

    shown = not datasets.are_progress_bars_disabled(), logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        for enable, before in zip(
            (datasets.enable_progress_bars, logging.enable_progress_bar), shown, strict=True
        ):
            if before:
                enable()


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
