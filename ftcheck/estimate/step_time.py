"""How long a batch takes on a GPU, by what it has to do.

A batch multiplies matrices at a share of the card's peak, runs attention at a share of that, writes 4-bit
weights out, and moves what the layers' small operations (norms, residuals, rotary embedding, gate, adapter,
scores of eager attention, logits) read and write through memory: these times add up. It never takes less than
its kernels take to be started one by one. Rates stand in `tables/gpus.json` and `tables/training_speed.json`,
each as an interval with the rows that it was read off (`python -m tests.benchmarks.step_time`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ftcheck import tables
from ftcheck.estimate.flops import Flops
from ftcheck.estimate.gpus import Speed
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.lora_targets import Adapter
from ftcheck.inputs.model_shape import Decoder

NF4_READ = 0.5625
"""Bytes of a 4-bit weight with its constants; 0.516 with double quantisation, for one more look-up."""
HALF = 2
SINGLE = 4


@dataclass(frozen=True, slots=True)
class Execution:
    """How a program computes, as far as its time depends on it.

    `stream` and `adapter` are the bytes of a number that the layers (norms, attention, head) and the adapter
    compute in: 4 after peft's prepare_model_for_kbit_training without autocast. `eager`: attention writes its
    scores to memory.
    """

    checkpointing: bool = True
    quantised: bool = False
    eager: bool = False
    stream: int = HALF
    adapter: int = HALF
    dropout: bool = False
    full_logits: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What one batch has to do on one device.

    `half`, `single` and `attention` are multiplications: in 16 bits, in float32, and of attention in a fused
    kernel, whose numbers have `attention_bytes`. `moved` and `unpacked` are bytes, the latter of 4-bit
    weights; `starts` counts layers times passes.
    """

    half: float
    single: float
    attention: float
    attention_bytes: int
    moved: float
    unpacked: float
    starts: int


def load(
    model: Decoder,
    adapter: Adapter | None,
    how: Execution,
    counted: Flops,
    *,
    tokens: float,
    longest: float,
    training: bool = True,
) -> Load:
    """What a batch of `tokens` in rows of `longest` has to do; `counted` are its multiplications a token."""
    amount = {one.name: tokens * (one.training if training else one.forward) for one in counted.parts}
    half, single, attention = amount["base"], 0.0, amount["attention"]
    for name, size in (("adapter", how.adapter), ("head", how.stream)):
        half, single = (half, single + amount[name]) if size == SINGLE else (half + amount[name], single)
    if how.eager and how.stream == SINGLE:
        single, attention = single + attention, 0.0
    elif how.eager:
        half, attention = half + attention, 0.0
    passes = (3 if how.checkpointing else 2) if training else 1
    # The backward pass moves twice what the forward pass does.
    times = passes + 1 if training else 1
    layer = _layer(model, how) + _scores(model, how, longest)
    layers = model.layers * layer + (0 if adapter is None else _adapter(model, adapter, how))
    logits = model.vocabulary * _traffic("full_logits" if how.full_logits else "tiled_logits")
    unpacked = model.linear_weights * (NF4_READ + HALF) * passes if how.quantised else 0.0
    return Load(
        half=half,
        single=single,
        attention=attention,
        attention_bytes=how.stream,
        moved=tokens * (times * layers + logits * (1 if training else 0.5)),
        unpacked=unpacked,
        starts=model.layers * passes,
    )


def batch_seconds(loads: tuple[Load, Load, Load], speed: Speed) -> Interval:
    """Seconds of a batch: of the least, the likely and the most that it may have to do."""
    ends = (
        _rates(speed, lambda one: one.high, lambda one: one.low),
        _rates(speed, lambda one: one.likely, lambda one: one.likely),
        _rates(speed, lambda one: one.low, lambda one: one.high),
    )
    low, likely, high = (_seconds(one, rates) for one, rates in zip(loads, ends, strict=True))
    return Interval(low, likely, high)


@dataclass(frozen=True, slots=True)
class _Rates:
    """Multiplications a second in 16 bits and in float32, what attention costs beside them, bytes a second
    moved and unpacked, and seconds a layer and pass take to be started."""

    half: float
    single: float
    attention: float
    moved: float
    unpacked: float
    start: float


End = Callable[[Interval], float]


def _rates(speed: Speed, share: End, cost: End) -> _Rates:
    """Rates at one end: `share` chooses of speeds and shares, `cost` of what takes time."""
    bandwidth = share(speed.gb_per_s) * 1e9
    return _Rates(
        half=share(speed.utilisation) * share(speed.tflops) * 1e12,
        single=share(overhead("float32")) * speed.tflops_float32 * 1e12,
        attention=cost(speed.attention or overhead("attention")),
        moved=share(overhead("bandwidth")) * bandwidth,
        unpacked=share(overhead("dequantisation")) * bandwidth,
        start=cost(speed.launch_ms or overhead("launch_ms")) / 1000,
    )


def _seconds(one: Load, rates: _Rates) -> float:
    attending = rates.single if one.attention_bytes == SINGLE else rates.half
    computing = (
        one.half / rates.half
        + one.single / rates.single
        + one.attention * rates.attention / attending
        + one.moved / rates.moved
        + one.unpacked / rates.unpacked
    )
    return max(computing, one.starts * rates.start)


def overhead(name: str) -> Interval:
    """An interval of `overheads` in tables/training_speed.json."""
    return Interval(*tables.load("training_speed")["overheads"][name]["value"])


# --- bytes that a forward pass moves for one token ------------------------------------------------------


def _traffic(name: str) -> float:
    value: Any = tables.load("training_speed")["traffic"][name]["value"]
    return float(value)


def _layer(model: Decoder, how: Execution) -> float:
    """Of one layer's small operations."""
    numbers = (
        _traffic("norm") * 2 * model.hidden
        + _traffic("residual") * model.hidden
        + _traffic("rotary") * (model.queries + model.keys)
        + _traffic("gate") * model.intermediate
    )
    moved = numbers * how.stream + _traffic("norm_float32") * 2 * model.hidden
    if how.quantised and how.stream == SINGLE:
        moved += _traffic("cast") * sum(one.inputs + one.outputs for one in model.linears)
    return moved


def _scores(model: Decoder, how: Execution, longest: float) -> float:
    """Of one layer's attention, where it writes its scores."""
    if not how.eager:
        return 0.0
    return model.heads * longest * (_traffic("scores_float32") + _traffic("scores") * how.stream)


def _adapter(model: Decoder, adapter: Adapter, how: Execution) -> float:
    """Of the adapter on all layers: its products are small, and every operation of it is wide."""
    kind = "float32" if how.adapter == SINGLE else "16_bit"
    wide, narrow = _traffic(f"adapter_outputs_{kind}"), _traffic(f"adapter_inputs_{kind}")
    narrow += _traffic("adapter_dropout") if how.dropout else 0.0
    on = [one for one in model.linears if one.name in adapter.ranks]
    return adapter.layers * sum(wide * one.outputs + narrow * one.inputs for one in on)
