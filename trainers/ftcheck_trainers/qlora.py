"""QLoRA behind the gate: the rows that were checked, a base in 4-bit, an adapter, TRL's SFTTrainer.

    ftcheck train policies/night_before.yaml --job mapper

Read `train` from top to bottom. It feeds ids and labels of its own (from the shared preparation), never
text, and starts only if their digest is the ticket's. One CPU, one GPU, or several by `accelerate launch`.
"""

import tempfile
from pathlib import Path
from typing import Any

from ftcheck import ranks
from ftcheck.atomic import replace_file
from ftcheck.errors import Problem, TrainingError
from ftcheck.estimate.steps import drops_last, steps
from ftcheck.extension.trainers import Trainer
from ftcheck.gate.ticket import (
    Reason,
    Refusal,
    Refused,
    Ticket,
)
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.probe import Probe
from ftcheck.label_digest import like
from ftcheck.plurals import counted
from ftcheck.settings import Job
from ftcheck_trainers import (
    arguments,
    dataset,
    during_checks,
    run_folder,
    sampled,
    shared_folder,
    tracker_report,
    whole_batches,
)
from ftcheck_trainers import metrics as metrics_file
from ftcheck_trainers.failure_messages import plain_words, stopped
from ftcheck_trainers.quiet_libraries import quiet_libraries
from ftcheck_trainers.sft_build import build_trainer, need_libraries


def train(ticket: Ticket, job: Job, inputs: Inputs, *, resume: bool) -> str:
    """Train the job's adapter on exactly the checked rows; returns the run folder.

    Where a sample of them was checked and accepted, on all rows, and exactly these among them.
    """
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
        rows = dataset.fed_rows(prepared, job.training, Path(work) / "train")
        if ticket.sample is None:
            _check_digest(ticket.ids, rows, job, "ids and labels")
        else:
            sampled.check(ticket, ticket.sample, inputs, prepared, rows)
        blocks = dataset.arranged(rows, job.training, Path(work) / "train", pack=job.training.packing)
        eval_rows = dataset.eval_rows(job, inputs, Path(work) / "eval")
        if eval_rows is not None and not (ticket.sample is not None and job.divided):
            _check_digest(ticket.eval_ids, eval_rows, job, "ids and labels of the evaluation rows")
        eval_blocks = dataset.eval_blocks(eval_rows, job.training, Path(work) / "eval")

        planned = _planned(job, rows, blocks)
        machine = arguments.this_machine(ranks.count())
        computed_in = arguments.computed_in(job, machine)
        if not machine.cuda:
            run_folder.say(f"no GPU: training on the CPU, computed in {computed_in}")
        with (
            run_folder.recorded(claimed, ticket, job, planned=planned, computed_in=computed_in) as record,
            plain_words(job),
            quiet_libraries(),
        ):
            shared_folder.need_shared(run_folder.of_job(job), job)

            # The base in 4-bit, the adapter on it, and TRL around both.
            metrics = metrics_file.Metrics(claimed.path, after=claimed.step)
            trainer = build_trainer(
                job, run, tokenizer.original, blocks, eval_blocks, planned["steps"], metrics
            )
            trainer.add_callback(metrics_file.callback(metrics, record, run.report, f"training {job.name}"))
            if inputs.has("report"):
                trainer.add_callback(tracker_report.callback(inputs.get("report"), job.name, run.folder))

            # Train, and stop on anything that is not a finite loss.
            checkpoint = str(claimed.checkpoint) if claimed.checkpoint else None
            with during_checks.watched(trainer, inputs, claimed, record, metrics):
                trainer.train(resume_from_checkpoint=checkpoint)

            # Save what is served: adapter, tokenizer, and the template it is served with.
            trainer.save_model(str(claimed.path))
            if run_folder.is_main():
                _save_training_template(tokenizer, claimed.path)
            adapter = str(claimed.path) if job.training.lora is not None else None
            record.update(**metrics_file.at_end(trainer.state, metrics), adapter=adapter)
    return str(claimed.path)


def describe(job: Job) -> str:
    """What will run, in a line."""
    training = job.training
    chosen, lora = training.quantization, training.lora
    bits = "in full precision"
    if chosen is not None and (chosen.load_in_4bit or chosen.load_in_8bit):
        bits = f"in 4-bit {chosen.bnb_4bit_quant_type}" if chosen.load_in_4bit else "in 8-bit"
    adapter = (
        "all weights" if lora is None else f"LoRA r {lora.r} on {lora.target_modules or 'default modules'}"
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


TRAINER = Trainer(name="qlora", train=told, describe=describe, probe=probe, takes_sample=True)


# --- before anything is written ---------------------------------------------------------------------


def _refuse_other_batch(job: Job) -> None:
    """As many processes as GPUs were checked, or every step would learn from more rows, or fewer."""
    here, planned = ranks.count(), max(1, job.hardware.count)
    shares_one_model = here == 1 and "device_map" in (job.training.extra.get("model_init_kwargs") or {})
    batch = job.training.per_device_train_batch_size * job.training.gradient_accumulation_steps
    if here > 1 and whole_batches.splits(job.training):
        key = "training.accelerator_config"
        message = (
            f"split_batches shares each batch among {here} processes: a step would take {batch} rows instead"
            f" of {batch * planned}; remove it"
        )
        raise _problem(job, key, message)
    if here == planned or shares_one_model:
        return
    message = (
        f"job {job.name} is planned for hardware.count: {planned}, but"
        f" {counted(here, 'process was', 'processes were')} started: a step would take {batch * here} rows or"
        f" blocks instead of {batch * planned}; start it with 'accelerate launch --num_processes {planned}',"
        f" or run the checks with hardware.count: {here}"
    )
    raise _problem(job, "hardware.count", message)


def _problem(job: Job, key: str, message: str) -> TrainingError:
    place = job.at(key)
    return TrainingError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])


def _refuse_trouble(prepared: Prepared, job: Job) -> None:
    for row, trouble in sorted(prepared.row_errors.items())[:1]:
        count = len(prepared.row_errors)
        message = f"{counted(count, 'row')} cannot be used; the first: {prepared.at(row)}: {trouble.message}"
        raise Refused(Refusal(job.name, (Reason("ids-changed", message),)))
    if not len(prepared.sequences):
        raise TrainingError(f"job {job.name} has no rows to train on: all were dropped")


def _check_digest(checked: str | None, rows: Any, job: Job, what: str) -> None:
    """What will be fed, read back from the file it is fed from, is what was checked."""
    digest = dataset.digest_of(rows, like(checked))
    if checked != digest:
        message = f"{what} were {checked} in the checks, are {digest} now; run the checks again"
        raise Refused(Refusal(job.name, (Reason("ids-changed", message),)))


def _planned(job: Job, rows: Any, blocks: Any) -> dict[str, int]:
    tokens, trained = dataset.count(rows)
    if dataset.count(blocks) != (tokens, trained):
        raise TrainingError(f"packing lost tokens of job {job.name}: this is a bug, please report it")
    if not trained:
        raise TrainingError(f"no token of job {job.name} is in the loss")
    processes, batch = ranks.count(), job.training.per_device_train_batch_size
    missing = 0 if drops_last(job) else whole_batches.missing(len(blocks), batch, processes)
    filled = whole_batches.fills(job.training)
    return {
        "rows": len(rows),
        "blocks": len(blocks),
        "tokens": tokens,
        "trained_tokens": trained,
        "steps": steps(job, len(blocks), processes).total,
        "filled": missing if filled else 0,
        "repeated": 0 if filled else missing,
    }


# --- the end --------------------------------------------------------------------------------------------


def _save_training_template(tokenizer: Any, folder: Path) -> None:
    """The template with markers, where it is not the one that is served (which lies beside it)."""
    template = tokenizer.training_template
    if template is not None and template != tokenizer.chat_template:
        replace_file(folder / "training_chat_template.jinja", template.encode())
