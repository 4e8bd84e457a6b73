"""What one of several processes holds: DDP's whole model, or the shards of FSDP2 and of DeepSpeed's ZeRO.

Sources: accelerate 1.15 (utils/fsdp_utils.py, `fsdp2_prepare_model`: one group a decoder layer, embedding
and head apart, 4-bit weights in bytes left out; accelerator.py, `no_sync`), torch 2.13 (DDP's buckets, one
copy of all gradients), DeepSpeed 0.19 (runtime/zero/config.py: what is kept alive, the float32 master copy).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

from ftcheck.estimate.interval import Interval
from ftcheck.estimate.memory.shapes import CannotTell, Method
from ftcheck.inputs import bounded
from ftcheck.inputs.model_shape import Decoder
from ftcheck.paths import near
from ftcheck.settings import Job

UNMEASURED = 0.15
"""Share by which the interval is wider at both ends: no run on several GPUs was held against this."""
LIVE, PREFETCH, BUCKET = 1e9, 5e7, 5e8
"""DeepSpeed's defaults, in numbers: stage3_max_live_parameters, stage3_prefetch_bucket_size,
reduce_bucket_size."""
MASTER = 12
"""Bytes of a number trained in 16 bits by DeepSpeed: a float32 copy and two states."""


class Peak(Protocol):
    """What is asked of a `formulas.Memory`, which is made of this."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def low(self) -> float: ...
    @property
    def likely(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def allocated(self) -> Interval: ...
    @property
    def least(self) -> Interval | None: ...
    @property
    def parts(self) -> Mapping[str, float]: ...
    @property
    def assumptions(self) -> tuple[str, ...]: ...


Memory = TypeVar("Memory", bound=Peak)


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a model is shared: `base` (frozen weights), `gradients` and states, among all processes or not.

    `live` are the numbers that ZeRO-3 keeps gathered at most (None: FSDP2's groups); `resharded`: gathered
    weights are let go after the forward pass. `offloaded` are parts that lie in the CPU's memory.
    """

    name: str
    base: bool = False
    gradients: bool = False
    optimizer: bool = False
    live: float | None = None
    resharded: bool = True
    offloaded: frozenset[str] = frozenset()


DDP = Scheme("DDP")


def scheme(job: Job) -> Scheme | None:
    """How a job's model is shared among its processes; None for one process.

    Raises `CannotTell` for a way that is not modelled.
    """
    extra = job.training.extra
    if extra.get("deepspeed"):
        return _zero(_config(extra["deepspeed"], "training.deepspeed"))
    if extra.get("fsdp"):
        return _fsdp(extra["fsdp"], _config(extra.get("fsdp_config") or {}, "training.fsdp_config"))
    return DDP if job.hardware.count > 1 else None


def _config(stated: Any, key: str) -> Mapping[str, Any]:
    """A mapping, or that of a JSON file."""
    if isinstance(stated, Mapping):
        return stated
    try:
        read = bounded.loads(bounded.read_text(str(stated)))
    except (OSError, ValueError) as error:
        raise CannotTell(f"{key}: {near(str(stated))} cannot be read: {bounded.told(error)}") from error
    if not isinstance(read, dict):
        raise CannotTell(f"{key}: {near(str(stated))} must contain a JSON object")
    return read


def _fsdp(stated: Any, config: Mapping[str, Any]) -> Scheme:
    config = {key.removeprefix("fsdp_"): value for key, value in config.items()}
    words = str(stated)  # transformers 5.23 takes a text or a list of words too
    if config.get("xla"):
        raise CannotTell("training.fsdp_config.xla shards the model by XLA: this memory is not modelled")
    if str(config.get("version", 2)) != "2":
        raise CannotTell("FSDP1 flattens weights: this memory is not modelled; set fsdp_config.version: 2")
    resharded = config.get("reshard_after_forward", "shard_grad_op" not in words) not in (False, "false")
    offloads = bool(config.get("cpu_offload") or config.get("offload_params") or "offload" in words)
    everything = frozenset({"base", "adapter", "gradients", "optimizer"}) if offloads else frozenset()
    return Scheme("FSDP2", True, True, True, None, resharded, everything)


def _zero(config: Mapping[str, Any]) -> Scheme:
    if config.get("tensor_parallel"):
        raise CannotTell("DeepSpeed's tensor_parallel splits layers: this memory is not modelled")
    zero = config.get("zero_optimization") or {}
    zero = {"stage": 1} if zero is True else zero  # an older form of DeepSpeed's
    stage = (zero.get("stage") or 0) if isinstance(zero, Mapping) else None
    if stage not in (0, 1, 2, 3):
        raise CannotTell("training.deepspeed: zero_optimization.stage is none of 0, 1, 2 and 3")
    away = {"base": "offload_param", "optimizer": "offload_optimizer"}
    offloaded = [part for part, key in away.items() if (zero.get(key) or {}).get("device") in ("cpu", "nvme")]
    if stage == 0:
        return replace(DDP, name="DeepSpeed without ZeRO")
    live = zero.get("stage3_max_live_parameters")
    return Scheme(
        f"ZeRO-{stage}",
        base=stage == 3,
        gradients=stage >= 2,
        optimizer=True,
        live=(float(live) if isinstance(live, int | float) else LIVE) if stage == 3 else None,
        offloaded=frozenset(offloaded),
    )


def per_process(job: Job, shape: Decoder, how: Method, alone: Memory) -> Memory:
    """The memory of one process, from that of one that has the whole model (`alone`).

    Raises `CannotTell` for a way of sharding that is not modelled.
    """
    used = scheme(job)
    if used is None:
        return alone
    count = max(1, job.hardware.count)
    parts, added = _standing(job, shape, how, alone.parts, used, count), _added(job, shape, how, used)
    saved = sum(alone.parts[name] - parts[name] for name in parts)
    loaded = _loaded(how, used, alone.parts)
    seen = loaded + alone.parts["context"] if loaded else 0.0
    trained = _moved(Interval(alone.low, alone.likely, alone.high), saved, added, used)
    whole = _at_least(trained, seen)
    loading = {"loading": whole.likely - trained.likely} if whole.likely > trained.likely else {}
    return replace(
        alone,
        low=whole.low,
        likely=whole.likely,
        high=whole.high,
        allocated=_at_least(_moved(alone.allocated, saved, added, used), loaded),
        least=None if alone.least is None else _at_least(_moved(alone.least, saved, added, used), seen),
        parts={**alone.parts, **parts, "gathered" if used.base else "buckets": added.likely, **loading},
        assumptions=(*alone.assumptions, *_said(job, how, used, count)),
    )


def _moved(one: Interval, saved: float, added: Interval, used: Scheme) -> Interval:
    """An interval without what is `saved`, with what is `added`; wider where the model is sharded."""
    likely = one.likely - saved + added.likely
    wider = UNMEASURED * likely if used.optimizer else 0.0
    return Interval(one.low - saved + added.low - wider, likely, one.high - saved + added.high + wider)


def _loaded(how: Method, used: Scheme, parts: Mapping[str, float]) -> float:
    """Bytes of a quantised base, which is quantised on the GPU while it loads, and shared afterwards.

    The comment in accelerate 1.15's `fsdp2_prepare_model` says so of FSDP2; with ZeRO-3 it was not tried.
    """
    return parts["weights"] + parts["unquantised"] if used.base and how.bits < 16 else 0.0


def _at_least(one: Interval, least: float) -> Interval:
    """The likely value and the upper end are at least so much; the lower end is no less than 0."""
    high = max(one.high, least * (1 + UNMEASURED))
    return Interval(max(0.0, one.low), max(one.likely, least), high)


def _standing(
    job: Job, shape: Decoder, how: Method, parts: Mapping[str, float], used: Scheme, count: int
) -> dict[str, float]:
    """What stays on the GPU of weights, adapter, gradients and optimizer."""
    shard = 1 / count
    packed = min(parts["weights"], _packed(shape, how))
    found = {name: parts[name] for name in ("weights", "unquantised", "adapter", "gradients", "optimizer")}
    if used.base:
        kept = 0.0 if "base" in used.offloaded else shard
        left_out = used.live is None and _in_bytes(how.bits, job)
        found["weights"] -= 0.0 if left_out else packed * (1 - kept)
        found["unquantised"] *= kept
        found["adapter"] *= 0.0 if "adapter" in used.offloaded else shard
    # FSDP2 shares gradients after the last batch of a step, ZeRO after each.
    if used.gradients and (used.live is not None or not used.base or _at_once(job)):
        found["gradients"] *= shard
    if used.optimizer:
        states = MASTER * how.adapter(shape) if used.name.startswith("ZeRO") and how.number == 2 else 0.0
        found["optimizer"] = max(found["optimizer"], states) * shard
    return found | {name: 0.0 for name in ("gradients", "optimizer") if name in used.offloaded}


def _at_once(job: Job) -> bool:
    return job.training.gradient_accumulation_steps == 1


def _packed(shape: Decoder, how: Method) -> float:
    """Bytes of the linear layers that are parameters: the scales of 4-bit weights are none."""
    return shape.linear_weights * (how.bits / 8 if how.bits < 16 else how.number)


def _in_bytes(bits: int, job: Job) -> bool:
    """Whether quantised weights are stored as whole numbers."""
    chosen = job.training.quantization
    storage = None if chosen is None else chosen.bnb_4bit_quant_storage
    return bits == 8 or (bits == 4 and storage in (None, "uint8"))


def _added(job: Job, shape: Decoder, how: Method, used: Scheme) -> Interval:
    """What comes on top: gathered weights, or the buckets in which gradients are shared."""
    trained = float(how.adapter(shape))
    if not used.base:
        bucket = (min(trained, BUCKET) if used.optimizer else trained) * how.adapter_bytes
        return Interval(0.0, bucket, 2 * bucket)
    in_bytes = _in_bytes(how.bits, job)
    packed = 0.0 if in_bytes and used.live is None else _packed(shape, how)
    layer, table = packed / shape.layers, float(shape.table * how.number)
    everything = packed + shape.plain * how.number
    if not used.resharded:
        return Interval(everything, everything, everything + layer)
    if used.live is None:
        return Interval(layer, 2 * layer + table, 3 * layer + 2 * table)
    most = min(everything, used.live * how.number)
    # Whether ZeRO-3 shares weights that are stored in bytes was not tried.
    return Interval(layer, (layer + most) / 2, most + PREFETCH * how.number + (packed if in_bytes else 0.0))


def _said(job: Job, how: Method, used: Scheme, count: int) -> list[str]:
    """The assumptions, in words."""
    if not used.optimizer:
        return [f"every GPU has the whole model ({used.name}), and its gradients once more in buckets"]
    shared = "base, adapter and optimizer" if used.base else "the optimizer's states"
    said = [f"{used.name}: each of {count} GPUs has 1/{count} of {shared}"]
    if used.base:
        said.append(_gathered(used))
        if _in_bytes(how.bits, job) and how.bits == 4:
            sure = "are not sharded (accelerate 1.15)" if used.live is None else "may not be sharded"
            said.append(f"4-bit weights stored as uint8 {sure}; bnb_4bit_quant_storage sets another dtype")
        if how.bits < 16:
            said.append("a quantised base is whole on each GPU while it loads")
    if used.offloaded:
        said.append(f"{', '.join(sorted(used.offloaded))} in the CPU's memory")
    return [*said, f"sharding was not measured on several GPUs: {UNMEASURED:.0%} wider".replace("%", " %")]


def _gathered(used: Scheme) -> str:
    if not used.resharded:
        return "all weights stay gathered after the forward pass"
    if used.live is not None:
        return f"from one layer to {used.live:,.0f} numbers are gathered at a time"
    return "two layers and the head are gathered at a time, at most three layers, embedding and head"


def received_bytes(job: Job, shape: Decoder) -> float:
    """Bytes of weights that a process receives in a batch: twice what it does not hold, forward and backward.

    0 where it holds all of them. Raises `CannotTell` as `scheme` does.
    """
    used, count = scheme(job), max(1, job.hardware.count)
    if used is None or not used.base:
        return 0.0
    chosen, number = job.training.quantization, 4 if job.training.bf16 is False else 2
    bits = 4 if chosen and chosen.load_in_4bit else 8 if chosen and chosen.load_in_8bit else 8 * number
    left_out = used.live is None and bits < 16 and _in_bytes(bits, job)
    shared = (0.0 if left_out else shape.linear_weights * bits / 8) + shape.plain * number
    return (2 if used.resharded else 1) * shared * (count - 1) / count


def single(job: Job) -> Job:
    """The same job in one process that has the whole model."""
    extra = {key: value for key, value in job.training.extra.items() if key not in ("fsdp", "deepspeed")}
    return replace(job, training=replace(job.training, extra=extra), hardware=replace(job.hardware, count=1))
