"""Memory rules: do the logits of a full batch fit the GPU?"""

from collections.abc import Iterator
from dataclasses import replace

from ftcheck import Change, Finding, Job, Machine, Measurement, Severity, Skip, Summary, rule
from ftcheck.errors import FtcheckError
from ftcheck.estimate.gpus import gpu_memory
from ftcheck.extension.rules import Yield
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.prepared import Prepared
from ftcheck.plurals import counted
from ftcheck_rules.budget.memory_fit import batch_that_fits

GIB = 1 << 30
TRAINER = "qlora"
KEPT_BYTES = 4
"""accelerate turns the logits that an evaluation returns into float32."""
LOGIT_BYTES = 8
"""Two float32 tensors of the logits' shape at once: the logits and their gradient or log-probabilities."""
PLENTY = 0.5
"""A proposed batch leaves at least this share of the memory for everything else."""

SIDES = (("train", "per_device_train_batch_size"), ("eval", "per_device_eval_batch_size"))


@rule("logits-memory", family="budget", cases="ftcheck_rules.budget.cases.logits_memory")
def logits_memory(job: Job, machine: Machine, inputs: Inputs) -> Iterator[Yield]:
    """The logits of a full batch fit into the GPU's memory, in training and in evaluation.

    With a vocabulary of 150,000 tokens the logits of a batch are larger than the model: the run ends out of
    memory at the longest row or, hours in, at the first evaluation with its larger batch.

    Size: rows of the largest batch x longest sequence after truncation x vocabulary x 8 bytes, the least that
    is allocated at once (measured on transformers 5.23: 14 bytes in training, 8 to 10 in evaluation). TRL
    computes the loss in tiles and allocates no logits, except with label smoothing; for a command this is
    unknown, and it gets a warning. With evaluation.compute_metrics, evaluations allocate logits, and the
    Trainer keeps those of all evaluation rows on the GPU unless eval_accumulation_steps or batch_eval_metrics
    is set (4 bytes each; a warning, as preprocess_logits_for_metrics may shrink them). The memory is
    hardware.memory_gib, else that of hardware.gpu, else this machine's.
    """
    memory, source = gpu_memory(job, machine)
    free_of_logits = _makes_none(job)
    metrics = computes_metrics(job)
    if free_of_logits is not None and not metrics:
        yield Measurement("logits_gib", 0.0, unit="GiB")
        yield Summary(free_of_logits)
        return
    if memory is None:
        yield Skip(source)
        return
    model: ModelConfig = inputs.get("model")
    vocabulary = model.shape.vocabulary
    if vocabulary is None:
        yield Skip("config.json has no vocab_size")
        return
    sizes = {}
    for side, key in SIDES if free_of_logits is None else SIDES[1:]:
        batch = _largest(job, inputs, side, key)
        if batch is not None:
            rows, length = batch
            sizes[side] = rows * length * vocabulary * LOGIT_BYTES / GIB
            limit = f"<= {memory:g}"
            yield Measurement(f"{side}_logits_gib", round(sizes[side], 2), unit="GiB", limit=limit)
            if sizes[side] > memory:
                other = batch_that_fits(job, machine, inputs) if side == "train" else None
                yield _too_large(job, key, rows, length, vocabulary, memory, metrics=metrics, most=other)
    if metrics:
        yield from _kept(job, inputs, vocabulary, memory)
    if not sizes:
        yield Skip("there are no rows to measure")
        return
    yield Summary(f"the logits take {max(sizes.values()):.1f} GiB of {memory:g} GiB")


def computes_metrics(job: Job) -> bool:
    """Whether the policy says that evaluations during training compute metrics on logits."""
    return job.evaluates and job.evaluation is not None and job.evaluation.compute_metrics


def _kept(job: Job, inputs: Inputs, vocabulary: int, memory: float) -> Iterator[Yield]:
    """The logits of all evaluation rows, which the Trainer concatenates where they were computed."""
    extra = job.training.extra
    if extra.get("eval_accumulation_steps") or extra.get("batch_eval_metrics"):
        return
    whole = replace(job, training=replace(job.training, per_device_eval_batch_size=1 << 40))
    found = _largest(whole, inputs, *SIDES[1])
    if found is None:
        return
    rows, length = found
    size = rows * length * vocabulary * KEPT_BYTES / GIB
    yield Measurement("kept_logits_gib", round(size, 2), unit="GiB", limit=f"<= {memory:g}")
    if size > memory:
        key = "training.eval_accumulation_steps"
        yield Finding(
            f"evaluation.compute_metrics keeps the logits of all {rows:,} evaluation sequences on the GPU:"
            f" {size:.1f} GiB, the GPU has {memory:g} GiB, unless preprocess_logits_for_metrics shrinks them",
            Severity.WARNING,
            at=job.at(key),
            fix="set eval_accumulation_steps: 1 (the CPU's memory takes them), or batch_eval_metrics: true",
            change=Change(f"jobs.{job.name}.{key}", None, 1),
        )


def _makes_none(job: Job) -> str | None:
    """Why no logits are allocated; None if they are."""
    if job.training.extra.get("use_liger_kernel"):
        return "Liger's loss allocates no logits"
    if job.trainer.use == TRAINER and not job.training.extra.get("label_smoothing_factor"):
        return "TRL computes the loss in tiles and allocates no logits"
    return None


def _largest(job: Job, inputs: Inputs, side: str, key: str) -> tuple[int, int] | None:
    """Sequences (blocks, where they are packed) of the largest batch, and tokens of the longest of them."""
    training = job.training
    if side == "eval" and (training.eval_strategy == "no" or not job.evaluable):
        return None
    try:
        prepared: Prepared | None = inputs.get("prepared" if side == "train" else "prepared_eval")
    except FtcheckError:
        return None
    if prepared is None or not len(prepared.sequences):
        return None
    stated = training.extra.get("eval_packing") if side == "eval" else None
    packs = training.packing if stated is None else bool(stated)
    fed, batch = prepared.fed(training.max_length), getattr(job.training, key)
    if packs and training.max_length is not None:
        return min(batch, -(-int(fed.sum()) // training.max_length)), training.max_length
    return min(batch, len(fed)), int(fed.max())


def _too_large(
    job: Job,
    key: str,
    rows: int,
    length: int,
    vocabulary: int,
    memory: float,
    *,
    metrics: bool,
    most: int | None,
) -> Finding:
    """`most` is the batch that the rest of the memory allows, where that is known."""
    stated: int = getattr(job.training, key)
    each = length * vocabulary * LOGIT_BYTES / GIB
    fits = max(1, min(int(PLENTY * memory / each), most or stated))
    metrics = metrics and key == SIDES[1][1]
    sure = metrics or job.trainer.use == TRAINER
    without = "evaluation.compute_metrics" if metrics else "label_smoothing_factor"
    message = (
        f"the logits of {counted(rows, 'row')} of {length:,} tokens with a vocabulary of {vocabulary:,}"
        f" take {rows * each:.1f} GiB, the GPU has {memory:g} GiB"
    )
    lower = f"lower {key}" + (" (and raise gradient_accumulation_steps)" if key == SIDES[0][1] else "")
    return Finding(
        message if sure else f"{message}, unless the command computes its loss in tiles",
        Severity.ERROR if sure else Severity.WARNING,
        at=job.at(f"training.{key}"),
        fix=f"{lower}, or remove {without}" if sure else f"{lower}, or set use_liger_kernel",
        change=Change(f"jobs.{job.name}.training.{key}", stated, fits, safe=key != SIDES[0][1])
        if fits < rows
        else None,
    )
