"""A job's peak memory by trace and replay: the step as its program runs it, through the allocator's model.

The formulas (`formulas`) cost a millisecond and serve the search for settings, scaled to what stands here.
This needs torch and transformers, no GPU, and takes a second or two for a model of 8B.
"""

import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftcheck import tables
from ftcheck.errors import InputError
from ftcheck.estimate.gpus import Card, card
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.memory.collector import paused
from ftcheck.estimate.memory.formulas import USUAL_CONTEXT, Memory, estimate
from ftcheck.estimate.memory.frameworks import Programs, programs
from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.shapes import Feed, method
from ftcheck.estimate.memory.sharding import per_process, single
from ftcheck.inputs.machine import Machine
from ftcheck.inputs.model_shape import model_shape
from ftcheck.settings import Job

if TYPE_CHECKING:
    from ftcheck.estimate.memory.trace import Trace

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
    machine: Machine | None = None,
) -> Memory:
    """The memory of the job's worst batch by trace and replay; by the formulas where that is not possible.

    `machine` is this one: the job trains here unless it names another GPU. Raises what `formulas.estimate`
    raises. Which of the two it was is in `assumptions`. Of several processes it is the memory of one.
    """
    shape = model_shape(config).decoder()
    alone = _alone(single(job), config, longest=longest, sequences=sequences, machine=machine)
    return per_process(job, shape, method(job, shape), alone)


def _alone(
    job: Job, config: Mapping[str, Any], *, longest: int, sequences: int | None, machine: Machine | None
) -> Memory:
    by_formula = estimate(job, config, longest=longest, sequences=sequences)
    if missing := _missing():
        return _said(by_formula, f"by formulas, not by a replayed step: {missing} is not installed")
    here = _card(job)
    known = programs(job, config, here, machine, os.environ)
    try:
        likely = replayed(config, known.likely, by_formula.feed)
        most = replayed(config, known.most, by_formula.feed)
    except (InputError, TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        return _said(by_formula, f"by formulas: a step of this model could not be traced ({why})")
    return _memory(job, by_formula, known, likely, most, here)


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
    job: Job, formula: Memory, known: Programs, likely: Replayed, most: Replayed, here: Card | None
) -> Memory:
    """Torch's peaks with their evidence, CUDA's context on top."""
    low, high, extra = errors(known.likely, formula.model_type, here, read=known.read)
    lighter = tables.load("memory_evidence")["lighter"] if known.lighter else 1.0
    low *= lighter
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
        likely.allocated * (at_least - extra) * lighter, likely.allocated, most.allocated * (at_most + extra)
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
        assumptions=_assumptions(job, formula, known, here),
    )


def errors(
    program: Program, model_type: str | None, here: Card | None, *, read: bool = False
) -> tuple[float, float, float]:
    """Least and most of what is reserved, as shares of what was replayed, and what both were widened by.
    `read`: what the program does was read, not measured."""
    evidence = tables.load("memory_evidence")
    kind = "loaded_16_bit" if program.method.bits == 16 else "quantised_on_load"
    low, high = evidence["reserved"][kind]
    measured = program.loss in ("model", "shifted") and not read
    extra = 0.0 if measured else evidence["program"]
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


def _assumptions(job: Job, formula: Memory, known: Programs, here: Card | None) -> tuple[str, ...]:
    program = known.likely
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
    if program.rules.expandable_segments:
        said.append("the allocator has expandable_segments")
    said += known.said
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
