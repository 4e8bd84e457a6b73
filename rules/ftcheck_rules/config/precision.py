"""Precision rules: are the dtypes of weights, computation and attention compatible?"""

from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck import Change, Finding, Job, Measurement, Severity, Summary, rule, tables
from ftcheck.errors import FtcheckError
from ftcheck.estimate.gpus import BFLOAT16, asks_for_bfloat16, card
from ftcheck.extension.rules import Yield
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.model import ModelConfig

TRAINER = "qlora"
FLOAT16_MAX = "65,504"


def model_arguments(job: Job) -> Mapping[str, Any]:
    """training.model_init_kwargs, empty where there is none."""
    found = job.training.extra.get("model_init_kwargs")
    return found if isinstance(found, Mapping) else {}


def computes_in(job: Job) -> str:
    """The compute dtype; TRL's default is bfloat16 unless fp16 is set."""
    if job.training.fp16:
        return "float16"
    return "float32" if job.training.bf16 is False else "bfloat16"


def loaded_in(job: Job) -> str | None:
    """The dtype of the loaded weights; None where it is left to the command.

    ftcheck's trainer loads them in the compute dtype where the policy does not say.
    """
    stated = model_arguments(job)
    dtype = stated.get("dtype", stated.get("torch_dtype"))
    if isinstance(dtype, str):
        return dtype.removeprefix("torch.")
    return computes_in(job) if job.trainer.use == TRAINER else None


@rule("precision", family="config", cases="ftcheck_rules.config.cases.precision")
def precision(job: Job, inputs: Inputs) -> Iterator[Yield]:
    """The dtypes of weights, computation, 4-bit layers and attention are compatible.

    Float16 ends at 65,504: models that were trained in bfloat16 exceed it, and the loss becomes NaN within
    steps. Trainable float16 weights stop the gradient scaler at the first step. FlashAttention does not
    support float32, and 4-bit layers that compute in float32 are silently slow.

    Checks bf16, fp16, model_init_kwargs and quantization; with fp16 also the model type, against a dated
    table (ftcheck/tables/precision.json). What transformers casts under mixed precision is a warning. Where
    hardware.gpu names a GPU, bfloat16, tf32 and FlashAttention are compared with its compute capability
    (ftcheck/tables/gpus.json); the GPUs of this machine are checked by `gpu`.
    """
    weights = loaded_in(job)
    yield Measurement("compute_dtype", computes_in(job))
    yield Measurement("weights_dtype", weights)
    loaded = f"weights in {weights}" if weights else "weight dtype is left to the command"
    yield Summary(f"computes in {computes_in(job)}, {loaded}")
    if job.training.fp16:
        yield from _overflows(job, inputs)
        yield from _unscales(job, weights)
    yield from _attends(job, weights)
    yield from _slow(job)
    yield from _unsupported(job)


def _unsupported(job: Job) -> Iterator[Finding]:
    """What the GPU that hardware.gpu names does not do."""
    named = card(job.hardware.gpu) if job.hardware.gpu is not None else None
    if named is None or named.capability is None:
        return
    has = f"{named.name} has compute capability {named.capability[0]}.{named.capability[1]}"
    if named.capability < BFLOAT16:
        for key, change in asks_for_bfloat16(job):
            yield Finding(
                f"training computes in bfloat16, which the GPU of hardware.gpu does not support: {has},"
                " bfloat16 needs 8.0",
                at=job.at(key),
                fix="use float16 and watch the loss for NaN, or a GPU of the Ampere generation or newer",
                change=change,
                why="The GPU fails at the first step, or emulates bfloat16 very slowly.",
            )
        if job.training.extra.get("tf32"):
            yield Finding(
                f"tf32 is on, which needs compute capability 8.0, but {has}: transformers refuses to start",
                at=job.at("training.tf32"),
                fix="set tf32: false",
                change=Change(f"jobs.{job.name}.training.tf32", True, False, safe=False),
            )
    attention = str(model_arguments(job).get("attn_implementation", ""))
    needed = {name: tuple(least) for name, least in tables.load("attention")["capability"].items()}
    if named.capability < needed.get(attention, (0, 0)):
        least = ".".join(map(str, needed[attention]))
        key = f"jobs.{job.name}.training.model_init_kwargs.attn_implementation"
        yield Finding(
            f"attn_implementation is {attention}, which needs compute capability {least}, but {has}",
            at=job.at("training.model_init_kwargs"),
            fix="set attn_implementation: sdpa",
            change=Change(
                f"jobs.{job.name}.training.model_init_kwargs.attn_implementation",
                attention,
                "sdpa",
                safe=False,
            ),
            why="The first forward pass fails.",
        )


def _overflows(job: Job, inputs: Inputs) -> Iterator[Finding]:
    try:
        model: ModelConfig = inputs.get("model")
    except FtcheckError as error:
        message = f"it is unknown whether this model overflows in float16: {error}"
        yield Finding(message, Severity.INFO, at=job.at("training.fp16"))
        return
    table, kind = tables.load("precision"), model.config.get("model_type")
    if kind in table["overflow_in_float16"]:
        yield Finding(
            f"fp16 is on, but {kind} was trained in bfloat16 and exceeds float16's maximum of {FLOAT16_MAX}"
            f" (as of {table['as_of']})",
            Severity.WARNING,
            at=job.at("training.fp16"),
            fix="compute in bfloat16 (bf16: true, on Ampere GPUs or newer), or in float32",
            change=Change(f"jobs.{job.name}.training.fp16", True, False, safe=False),
            why="The loss becomes NaN within steps.",
        )


def _unscales(job: Job, weights: str | None) -> Iterator[Finding]:
    if job.training.lora is not None or weights != "float16":
        return
    stated = model_arguments(job)
    old = stated.get("dtype", stated.get("torch_dtype"))
    key = "torch_dtype" if "torch_dtype" in stated and "dtype" not in stated else "dtype"
    yield Finding(
        "all weights are trained, and loaded in float16: the first step fails with"
        " 'ValueError: Attempting to unscale FP16 gradients'",
        at=job.at("training.fp16"),
        fix="load the weights in float32 and keep fp16 for the computation, or train in bfloat16",
        change=Change(f"jobs.{job.name}.training.model_init_kwargs.{key}", old, "float32", safe=False),
    )


def _attends(job: Job, weights: str | None) -> Iterator[Finding]:
    stated = model_arguments(job)
    attention = str(stated.get("attn_implementation", ""))
    if "flash" not in attention or weights != "float32":
        return
    mixed = computes_in(job) != "float32"
    consequence = (
        f"transformers casts to {computes_in(job)} in training, but any forward outside mixed precision fails"
        if mixed
        else "it supports float16 and bfloat16 only, so the first forward fails without mixed precision"
    )
    key = "torch_dtype" if "torch_dtype" in stated and "dtype" not in stated else "dtype"
    yield Finding(
        f"attn_implementation is {attention} and the weights are float32: {consequence}",
        Severity.WARNING if mixed else Severity.ERROR,
        at=job.at("training.model_init_kwargs"),
        fix="load the weights in bfloat16, or set attn_implementation: sdpa",
        change=Change(
            f"jobs.{job.name}.training.model_init_kwargs.{key}",
            stated.get(key),
            computes_in(job) if mixed else "bfloat16",
            safe=False,
        ),
    )


def _slow(job: Job) -> Iterator[Finding]:
    chosen, compute = job.training.quantization, computes_in(job)
    if chosen is None or not chosen.load_in_4bit or compute == "float32":
        return
    if chosen.bnb_4bit_compute_dtype in (None, "float32"):
        stated = chosen.bnb_4bit_compute_dtype or "not set (bitsandbytes' default is float32)"
        key = "training.quantization.bnb_4bit_compute_dtype"
        yield Finding(
            f"bnb_4bit_compute_dtype is {stated}, but training computes in {compute}",
            Severity.WARNING,
            at=job.at(key),
            fix=f"set bnb_4bit_compute_dtype: {compute}",
            change=Change(f"jobs.{job.name}.{key}", chosen.bnb_4bit_compute_dtype, compute, safe=False),
            why="Every 4-bit layer multiplies in float32: training is silently several times slower.",
        )
