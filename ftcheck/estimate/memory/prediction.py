"""A job's peak memory by trace and replay: the step as its program runs it, through the allocator's model.

The formulas (`formulas`) cost a millisecond and serve the search for settings, scaled to what stands here.
This needs torch and transformers, no GPU, and takes a second or two for a model of 8B.
"""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftcheck import tables
from ftcheck.errors import InputError
from ftcheck.estimate.gpus import Card, card
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.memory.collector import paused
from ftcheck.estimate.memory.formulas import USUAL_CONTEXT, Memory, estimate, fuses
from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.shapes import Feed, method
from ftcheck.inputs.model_shape import model_shape
from ftcheck.settings import Job

if TYPE_CHECKING:
    from ftcheck.estimate.memory.trace import Trace

TURING = (7, 5)
"""Capability of GPUs without flash attention that float16 may be chosen for."""
HALVINGS = 4
"""Steps of the search for the least memory that a run completes in: to 1/16 of what is cached."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """Bytes by torch's count: the peaks with room to spare, and the least that the run completes in."""

    allocated: int
    reserved: int
    least: int


def predict(
    job: Job,
    config: Mapping[str, Any],
    *,
    longest: int,
    sequences: int | None = None,
    triton: bool = True,
) -> Memory:
    """The memory of the job's worst batch by trace and replay; by the formulas where that is not possible.

    `triton`: the machine that trains has it (Linux). Raises what `formulas.estimate` raises. Which of the two
    it was is in `assumptions`.
    """
    by_formula = estimate(job, config, longest=longest, sequences=sequences)
    if missing := _missing():
        return _said(by_formula, f"by formulas, not by a replayed step: {missing} is not installed")
    here = _card(job)
    known = replace(of_job(job, config, here), triton=triton)
    heavy = heaviest(known) if job.trainer.use != "qlora" else known
    if here is None and job.training.fp16:
        heavy = replace(heavy, capability=TURING)
    try:
        likely = replayed(config, known, by_formula.feed)
        most = replayed(config, heavy, by_formula.feed) if heavy != known else likely
    except (InputError, TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        return _said(by_formula, f"by formulas: a step of this model could not be traced ({why})")
    return _memory(job, by_formula, known, likely, most, here)


def of_job(job: Job, config: Mapping[str, Any], here: Card | None = None) -> Program:
    """TRL's program for a job (and the `qlora` trainer's). Raises as `shapes.method`."""
    training = job.training
    how = method(job, model_shape(config).decoder())
    half = "float16" if training.fp16 else "bfloat16" if how.number == 2 else "float32"
    return Program(
        how,
        dtype=half,
        plain=half,
        adapter="float32" if how.adapter_bytes == 4 else "bfloat16",
        autocast=half != "float32",
        loss="smoothed" if how.full_logits else "tiled",
        optimizer=str(training.optim or "adamw_torch_fused"),
        capability=here.capability if here is not None else None,
        clips=True,
        accumulation=min(2, training.gradient_accumulation_steps),
    )


def heaviest(program: Program) -> Program:
    """What another program may do at most: full logits, unquantised parts and adapter in float32, and torch's
    AdamW."""
    quantised = program.method.bits != 16
    return replace(
        program,
        plain="float32" if quantised else program.plain,
        adapter="float32",
        loss="shifted",
        optimizer="adamw_torch",
        prepared=quantised,
    )


def replayed(config: Mapping[str, Any], program: Program, feed: Feed) -> Replayed:
    """The peaks of a run whose worst batch is `feed`; remembered for equal arguments.

    Weights that are trained whole (`modules_to_save`) are added to what is replayed: a copy, its gradient,
    the optimizer's state, and the float32 sum that TRL's head gathers its gradient in.
    """
    key = json.dumps([config, str(program), feed.rows, feed.length, feed.masked], sort_keys=True, default=str)
    if key not in _REPLAYED:
        _REPLAYED[key] = _replay(config, program, feed)
    return _REPLAYED[key]


_REPLAYED: dict[str, Replayed] = {}


def _replay(config: Mapping[str, Any], program: Program, feed: Feed) -> Replayed:
    with paused():
        from ftcheck.estimate.memory.unroll import whole_step
    step = whole_step(config, program, feed)
    with paused():
        return _peaks(program, step)


def _peaks(program: Program, step: "Trace") -> Replayed:
    """Replays of a step: without a limit, and to the least memory that the run completes in."""
    from ftcheck.estimate.memory.replay import replay

    steps = [step]
    free = replay(program, steps)
    whole = max(0, (program.method.trained or 0) - sum(step.trained))
    wide = program.method.adapter_bytes
    extra = round(whole * (2 * wide + program.method.state_bytes + 4))
    low, high = free.allocated, free.reserved
    for _ in range(HALVINGS):
        middle = (low + high) // 2
        if replay(program, steps, capacity=middle).fits:
            high = middle
        else:
            low = middle
    return Replayed(free.allocated + extra, free.reserved + extra, high + extra)


# --- the interval --------------------------------------------------------------------------------------


def _memory(
    job: Job, formula: Memory, program: Program, likely: Replayed, most: Replayed, here: Card | None
) -> Memory:
    """Torch's peaks with their evidence, CUDA's context on top."""
    low, high, extra = errors(program, formula.model_type, here)
    if fuses(job):
        low *= tables.load("memory_evidence")["lighter"]
    context = here.context if here is not None and here.context is not None else USUAL_CONTEXT
    process = Interval(
        likely.reserved * low + context.low,
        likely.reserved + context.likely,
        most.reserved * high + context.high,
    )
    least = Interval(
        likely.least * low + context.low, likely.least + context.likely, most.least * high + context.high
    )
    at_least, at_most = tables.load("memory_evidence")["allocated"]
    allocated = Interval(
        likely.allocated * (at_least - extra), likely.allocated, most.allocated * (at_most + extra)
    )
    ratio = likely.allocated / formula.allocated.likely
    parts = {name: size * ratio for name, size in formula.parts.items()} | {"context": context.likely}
    parts["fragmentation"] = float(likely.reserved - likely.allocated)
    return replace(
        formula,
        low=process.low,
        likely=process.likely,
        high=process.high,
        allocated=allocated,
        least=least,
        context=context,
        parts=_adding_up(parts, process.likely),
        assumptions=_assumptions(job, formula, program, here),
    )


def errors(program: Program, model_type: str | None, here: Card | None) -> tuple[float, float, float]:
    """Least and most of what is reserved, as shares of what was replayed, and what both were widened by."""
    evidence = tables.load("memory_evidence")
    kind = "loaded_16_bit" if program.method.bits == 16 else "quantised_on_load"
    low, high = evidence["reserved"][kind]
    extra = 0.0 if program.loss in ("model", "shifted") else evidence["program"]
    capability = here.capability if here is not None else None
    if capability is None or f"{capability[0]}.{capability[1]}" not in evidence["measured_capabilities"]:
        extra += evidence["card"]
    if model_type not in evidence["measured_model_types"]:
        extra += evidence["model_type"]
    if program.method.bits == 8 or program.method.attention not in evidence["measured_attention"]:
        extra += evidence["method"]
    return low - extra, high + extra, extra


def _adding_up(parts: dict[str, float], total: float) -> dict[str, float]:
    """The parts in their shares, with a sum of `total`: the replay does not say whose a block is."""
    moving = {name: size for name, size in parts.items() if name != "context"}
    share = (total - parts["context"]) / sum(moving.values())
    return {**{name: size * share for name, size in moving.items()}, "context": parts["context"]}


def _assumptions(job: Job, formula: Memory, program: Program, here: Card | None) -> tuple[str, ...]:
    kept = formula.assumptions[:4]
    where = "an unknown GPU" if here is None or here.capability is None else here.name
    said = [
        *kept,
        f"a step of the model's own code replayed through PyTorch's allocator, on {where}",
        f"optimizer {program.optimizer}, clipping, {program.accumulation} batches per step or more"
        if program.accumulation > 1
        else f"optimizer {program.optimizer}, clipping, one batch per step",
    ]
    evidence = tables.load("memory_evidence")
    if formula.model_type not in evidence["measured_model_types"]:
        share = round(100 * evidence["model_type"])
        said.append(f"layers of model_type {formula.model_type} were not measured on a GPU: {share} % wider")
    if job.trainer.use != "qlora":
        said.append(
            f"what the trainer '{job.trainer.use}' does is unknown: the upper end has full logits, float32"
            " for what is not quantised and for the adapter, and torch's AdamW"
        )
    if job.hardware.count > 1:
        said.append("every GPU has the whole model (DDP)")
    return tuple(said)


def _said(memory: Memory, words: str) -> Memory:
    return replace(memory, assumptions=(*memory.assumptions, words))


def _missing() -> str | None:
    """The library without which nothing can be traced."""
    return next((one for one in ("torch", "transformers") if importlib.util.find_spec(one) is None), None)


def _card(job: Job) -> Card | None:
    return card(job.hardware.gpu) if job.hardware.gpu is not None else None


def scaled(memory: Memory, factor: float) -> Memory:
    """An estimate by the formulas, scaled to a replay; its interval stays as wide as the formulas' is."""
    if factor == 1:
        return memory
    return replace(
        memory,
        low=memory.low * factor,
        likely=memory.likely * factor,
        high=memory.high * factor,
        allocated=memory.allocated.times(factor),
        parts={name: size * factor for name, size in memory.parts.items()},
    )
