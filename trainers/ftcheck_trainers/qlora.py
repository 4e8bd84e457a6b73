"""QLoRA behind the gate: the rows that were checked, a base in 4-bit, an adapter, TRL's SFTTrainer.

    ftcheck train policies/night_before.yaml --job mapper

Read `train` from top to bottom. It feeds ids and labels of its own (from the shared preparation), never
text, and starts only if their digest is the ticket's. One CPU, one GPU, or several by `accelerate launch`.
"""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from ftcheck import ranks
from ftcheck.errors import MissingDependency, Problem, TrainingError
from ftcheck.extension.trainers import Trainer
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.probe import Probe
from ftcheck.settings import Job
from ftcheck.gate.ticket import (
    Reason,
    Refusal,
    Refused,
    Ticket,
)
from ftcheck_trainers import dataset as feed, run_folder, during_checks
from ftcheck_trainers import metrics as metrics_file
from ftcheck_trainers.failure_messages import plain_words, stopped
from ftcheck_trainers.quiet_libraries import quiet_libraries
from ftcheck_trainers.sft_trainer import watched_trainer

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def train(ticket: Ticket, job: Job, inputs: Inputs, *, resume: bool) -> str:
    """Train the job's adapter on exactly the checked rows; returns the run folder."""
    need_libraries(job)
    run_folder.check_ticket(ticket, job)
    ranks.decided(lambda: _refuse_other_batch(job))

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
            with during_checks.watched(trainer, inputs, claimed, record, metrics):
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


def told(ticket: Ticket, job: Job, inputs: Inputs, *, resume: bool) -> str:
    """`train`; a disk or a memory that is full before the run folder is opened is no traceback either."""
    try:
        return train(ticket, job, inputs, resume=resume)
    except (OSError, MemoryError) as error:
        raise stopped(error, job, doing="preparing") from error


TRAINER = Trainer(name="qlora", train=told, describe=describe, probe=probe)


# --- before anything is written ---------------------------------------------------------------------


def need_libraries(job: Job) -> None:
    """Raise `MissingDependency` where a library is not installed that this job needs."""
    quantized = job.training.quantization is not None
    wanted = (*LIBRARIES, "bitsandbytes") if quantized else LIBRARIES
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(f"the trainer qlora needs {', '.join(missing)}", "train")


def _refuse_other_batch(job: Job) -> None:
    """As many processes as GPUs were checked, or every step would learn from more rows, or fewer."""
    here, planned = ranks.count(), max(1, job.hardware.count)
    shares_one_model = here == 1 and "device_map" in (job.training.extra.get("model_init_kwargs") or {})
    if here == planned or shares_one_model:
        return
    batch = job.training.per_device_train_batch_size * job.training.gradient_accumulation_steps
    place = job.at("hardware.count")
    message = (
        f"job {job.name} is planned for hardware.count: {planned}, and {here} processes were started: a step "
        f"would take {batch * here} rows or blocks in place of {batch * planned}; "
        f"'accelerate launch --num_processes {planned}' starts {planned}; or check hardware.count: {here}"
    )
    problem = Problem(message, place.path, place.line, place.column, place.yaml_path)
    raise TrainingError(message, [problem])


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
    processes = ranks.count()
    steps = planned_steps(job.training, len(blocks), processes)
    together = job.training.per_device_train_batch_size * processes
    return {
        "rows": len(rows),
        "blocks": len(blocks),
        "tokens": tokens,
        "trained_tokens": trained,
        "steps": steps,
        # accelerate fills the last batches of an epoch from its beginning: each process needs as many
        "repeated": -len(blocks) % together if processes > 1 else 0,
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

    machine = arguments.this_machine(ranks.count())
    config = SFTConfig(**arguments.sft_arguments(job, machine, steps=steps, offline=run.offline))
    _refuse_data_parallel(config, job)
    lora, quantization = arguments.lora_arguments(job), arguments.quantization_arguments(job)
    loaded_in = None if quantization is None else BitsAndBytesConfig(**quantization)
    resized = resized_base(job, config, loaded_in)
    trainer = watched_trainer(job, metrics)(
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
    if ranks.count() > 1:
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
