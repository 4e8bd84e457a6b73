"""A job's peak memory by trace and replay: the step as its program runs it, through the allocator's model.

The formulas (`formulas`) cost a millisecond and serve the search for settings, scaled to what stands here.
This needs torch and transformers, no GPU, and takes a second or two for a model of 8B.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftcheck import tables
from ftcheck.errors import InputError
from ftcheck.estimate.gpus import Card, card
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.memory.collector import importing, paused
from ftcheck.estimate.memory.formulas import USUAL_CONTEXT, Memory, estimate
from ftcheck.estimate.memory.frameworks import Programs, programs
from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.shapes import Feed, feed, method
from ftcheck.estimate.memory.sharding import per_process, single
from ftcheck.inputs.machine import Machine
from ftcheck.inputs.model_shape import model_shape
from ftcheck.settings import Job

if TYPE_CHECKING:
    from ftcheck.estimate.memory.trace import Trace

UNROLL = "ftcheck.estimate.memory.unroll"
HALVINGS = 4
"""Steps of the search for the least memory that a run completes in: to 1/16 of what is cached."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """Bytes by torch's count: the peaks with room to spare, and the least that the run completes in.

    `reserved` is that of a run that feeds a usual batch before the largest, where one is known. Blocks of
    another size leave other gaps: `fewest` and `most` are reserved by the order of batches that reserves
    the least, and the most. The run completes in `least` in any of these orders.
    """

    allocated: int
    reserved: int
    least: int
    fewest: int
    most: int


def predict(
    job: Job,
    config: Mapping[str, Any],
    *,
    longest: int,
    sequences: int | None = None,
    usual: int | None = None,
    machine: Machine | None = None,
) -> Memory:
    """The memory of the job's worst batch by trace and replay; by the formulas where that is not possible.

    `usual` are the tokens of the longest row of a usual batch (`shapes.usual_length`), which is fed before
    the worst. `machine` is this one: the job trains here unless it names another GPU. Raises what
    `formulas.estimate` raises. Which of the two it was is in `assumptions`.
    Of several processes it is the memory of one.
    """
    shape = model_shape(config).decoder()
    alone = _alone(single(job), config, longest, sequences, usual, machine)
    return per_process(job, shape, method(job, shape), alone)


def _alone(
    job: Job,
    config: Mapping[str, Any],
    longest: int,
    sequences: int | None,
    usual: int | None,
    machine: Machine | None,
) -> Memory:
    """The same of one process that holds everything."""
    by_formula = estimate(job, config, longest=longest, sequences=sequences)
    if missing := _missing():
        return _said(by_formula, f"by formulas, not by a replayed step: {missing} is not installed")
    here = _card(job)
    known = programs(job, config, here, machine, os.environ)
    before = _usual_feed(job, config, by_formula.feed, usual, sequences)
    try:
        likely = replayed(config, known.likely, by_formula.feed, before)
        most = replayed(config, known.most, by_formula.feed, before)
    except (InputError, TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        return _said(by_formula, f"by formulas: a step of this model could not be traced ({why})")
    made = _memory(job, by_formula, known, likely, most, here)
    return made if before is None else _said(made, f"fed before it: a batch of {_cells(before)}")


def _usual_feed(
    job: Job, config: Mapping[str, Any], worst: Feed, usual: int | None, sequences: int | None
) -> Feed | None:
    """A usual batch; None where none is known, or all are like the worst."""
    if usual is None:
        return None
    made = feed(job, model_shape(config).decoder(), longest=usual, sequences=sequences)
    return made if made.tokens < worst.tokens else None


def _cells(one: Feed) -> str:
    return f"{one.rows} x {one.length} tokens"


def replayed(config: Mapping[str, Any], program: Program, feed: Feed, before: Feed | None = None) -> Replayed:
    """The peaks of a run whose worst batch is `feed`, fed first or after `before`; remembered for equal
    arguments.

    Trained weights that the trace has not (linear layers in modules_to_save, DoRA's magnitudes, single rows
    of tables) are added to what is replayed: a copy, its gradient, and the optimizer's state.
    """
    key = json.dumps([config, str(program), str(feed), str(before)], sort_keys=True, default=str)
    if key not in _REPLAYED:
        _REPLAYED[key] = _replay(config, program, feed, before)
    return _REPLAYED[key]


_REPLAYED: dict[str, Replayed] = {}


def _replay(config: Mapping[str, Any], program: Program, feed: Feed, before: Feed | None) -> Replayed:
    whole_step = _tracer()
    step = whole_step(config, program, feed)
    orders = [(step,)] if before is None else [(whole_step(config, program, before), step), (step,)]
    with paused():
        return _peaks(program, orders)


def _tracer() -> Callable[[Mapping[str, Any], Program, Feed], "Trace"]:
    """`unroll.whole_step`, with which torch and transformers come."""
    with importing() if UNROLL not in sys.modules else nullcontext():
        from ftcheck.estimate.memory.unroll import whole_step
    return whole_step


def _peaks(program: Program, orders: Sequence[tuple["Trace", ...]]) -> Replayed:
    """Replays of a run's steps in each order, the likely one first: without a limit, and down to the least
    memory that it completes in, in all of them."""
    from ftcheck.estimate.memory.replay import replay

    free = [replay(program, steps) for steps in orders]
    step = orders[0][-1]
    counted = sum(step.trained) + sum(one.numbers for one in step.saved)
    extra = _not_traced(program, counted)

    def completes(capacity: int) -> bool:
        return all(
            one.reserved <= capacity or replay(program, steps, capacity).fits
            for one, steps in zip(free, orders, strict=True)
        )

    allocated = max(one.allocated for one in free)
    reserved = [one.reserved for one in free]
    low, high = allocated, max(reserved)
    for _ in range(HALVINGS):
        middle = (low + high) // 2
        low, high = (low, middle) if completes(middle) else (middle, high)
    return Replayed(
        allocated + extra, reserved[0] + extra, high + extra, min(reserved) + extra, max(reserved) + extra
    )


def _not_traced(program: Program, traced: int) -> int:
    """Bytes of trained weights beside those that the trace has."""
    rest = max(0, (program.method.trained or 0) - traced)
    return round(rest * (2 * program.method.adapter_bytes + program.method.state_bytes))


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
        likely.fewest * low + context.low,
        likely.reserved + context.likely,
        max(likely.most, most.most) * high + context.high,
    )
    least = Interval(
        likely.least * low + context.low,
        likely.least + context.likely,
        max(likely.least, most.least) * high + context.high,
    )
    at_least, at_most = tables.load("memory_evidence")["allocated"]
    allocated = Interval(
        likely.allocated * (at_least - extra) * lighter,
        likely.allocated,
        max(likely.allocated, most.allocated) * (at_most + extra),
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
    if not _measured(here):
        extra += evidence["card"]
    extra += _unmeasured(model_type)
    if program.method.bits == 8 or program.method.attention not in evidence["measured_attention"]:
        extra += evidence["method"]
    return low - extra, high + extra, extra


def _measured(here: Card | None) -> bool:
    """Whether runs were measured on a GPU of this compute capability."""
    if here is None or here.capability is None:
        return False
    major, minor = here.capability
    return f"{major}.{minor}" in tables.load("memory_evidence")["measured_capabilities"]


def _unmeasured(model_type: str | None) -> float:
    """What both ends are widened by for a family of models whose runs were not measured."""
    evidence = tables.load("memory_evidence")
    if model_type in evidence["measured_model_types"]:
        return 0.0
    held = model_type in evidence["model_types_held_on_cpu"]
    return float(evidence["model_type_held_on_cpu" if held else "model_type"])


def _adding_up(parts: dict[str, float], total: float) -> dict[str, float]:
    """The parts in their shares, with a sum of `total`: the replay does not say whose a block is."""
    moving = {name: size for name, size in parts.items() if name != "context"}
    share = (total - parts["context"]) / sum(moving.values())
    return {**{name: size * share for name, size in moving.items()}, "context": parts["context"]}


def _assumptions(job: Job, formula: Memory, known: Programs, here: Card | None) -> tuple[str, ...]:
    program, feed = known.likely, formula.feed
    where = "an unknown GPU" if here is None or here.capability is None else here.name
    said = [
        f"worst batch: {_cells(feed)}, {'with an' if feed.masked else 'no'} attention mask",
        f"attention by {program.method.attention}, base in {program.method.bits}-bit,"
        f" adapter in {program.adapter}",
        f"activations are {'recomputed' if program.method.checkpointing else 'kept'} for the backward pass",
        "a loss in tiles, without full logits"
        if program.loss == "tiled"
        else "the full logits are allocated",
        f"a step of the model's own code replayed through PyTorch's allocator, on {where}",
        f"optimizer {program.optimizer}, clipping, {program.accumulation} batches per step or more"
        if program.accumulation > 1
        else f"optimizer {program.optimizer}, clipping, one batch per step",
    ]
    evidence = tables.load("memory_evidence")
    if share := _unmeasured(formula.model_type):
        words = f"layers of model_type {formula.model_type} were not measured on a GPU"
        said.append(f"{words}: {100 * share:.0f} % wider")
    if not _measured(here):
        said.append(f"no run on this kind of GPU was measured: {round(100 * evidence['card'])} % wider")
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


ALIKE = Interval(1, 1, 1)


def scale(replayed: Memory, formula: Memory) -> Interval:
    """What the ends of the formulas are to be multiplied by, to say of the same settings what a replay does.

    What the formulas do not know of a family of models, its trace does: it is not counted twice.
    """
    return Interval(
        replayed.low / formula.low, replayed.likely / formula.likely, replayed.high / formula.high
    )


def scaled(memory: Memory, by: Interval) -> Memory:
    """An estimate by the formulas of other settings, scaled end by end to a replay."""
    if by == ALIKE:
        return memory
    likely = memory.likely * by.likely
    return replace(
        memory,
        low=min(likely, memory.low * by.low),
        likely=likely,
        high=max(likely, memory.high * by.high),
        allocated=memory.allocated.times(by.likely),
        parts={name: size * by.likely for name, size in memory.parts.items()},
        assumptions=(*memory.assumptions, "by formulas, scaled to a replayed step of the stated settings"),
    )
