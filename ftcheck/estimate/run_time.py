"""How long a training will take and what it will cost: an interval, with what it assumes.

A batch takes the time of its multiplications at a share of the GPU's peak (`tables/utilisation.json`), plus
that of dequantising the base model once a pass; never less than its kernels take to be started. Each of
these is an interval, and so is their sum. What is not known gives no number: `Duration.problem` says why.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import Any

from ftcheck import tables
from ftcheck.durations import seconds
from ftcheck.estimate.flops import (
    Flops,
    Shape,
    adapter_weights,
    flops,
    shape,
)
from ftcheck.estimate.steps import devices
from ftcheck.settings import Job

HOUR = 3600.0
NF4_READ = 0.5625
"""Bytes of a 4-bit weight with its constants; 0.516 with double quantisation, for one more look-up."""
HALF = 2
TRAINERS = frozenset({"qlora"})
"""Trainers that are known to be TRL."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The least, the likeliest and the most that a number may be."""

    low: float
    likely: float
    high: float

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, factor: float) -> "Interval":
        """Every end times a positive number."""
        return Interval(self.low * factor, self.likely * factor, self.high * factor)

    def into(self, amount: float) -> "Interval":
        """`amount` by this, turned round: tokens by seconds are tokens a second."""
        ends = (self.high, self.likely, self.low)
        return Interval(*(amount / one if one else math.inf for one in ends))


NOTHING = Interval(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`times` evaluations of `tokens` (padding among them) in `batches` a device, rows up to `longest`."""

    times: int
    tokens: float
    batches: int
    longest: int


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a job trains. Without numbers (`hours` None), `problem` says what is not known.

    `seconds` are the parts: `training`, `evaluation`, `saving`, `start`. `tokens_per_second` counts tokens
    that are no padding, of all devices together, while training. `flops` are multiplications a token.
    `cost` is hours times hardware.price_per_hour. `assumes` are sentences for whoever reads the number.
    """

    problem: str = ""
    hours: Interval | None = None
    tokens_per_second: Interval | None = None
    cost: Interval | None = None
    steps: int = 0
    tokens: float = 0.0
    seconds: Mapping[str, Interval] = field(default_factory=dict)
    flops: Flops | None = None
    checkpoint_bytes: int = 0
    gpu: str | None = None
    measured: bool = False
    assumes: tuple[str, ...] = ()


def estimate(
    job: Job,
    config: Mapping[str, Any],
    *,
    steps: int,
    tokens_per_step: float,
    longest: int,
    padding: float = 0.0,
    mean_length: float | None = None,
    trained: float = 1.0,
    evaluation: Evaluation | None = None,
    saves: int = 0,
    checkpoint_bytes: int = 0,
    gpu: str | None = None,
    measured: float | Interval | None = None,
) -> Duration:
    """How long `steps` optimizer steps take, with evaluations and checkpoints.

    `tokens_per_step` are real tokens of an average step, on all devices; `padding` is the share of what is
    computed that is none of them. `longest` is the length of a row (or block) as computed, `mean_length`
    that of a document in it: attention costs between that of documents apart and that of a whole row.
    `trained` is the share of tokens in the loss: TRL 1.16 makes logits of no others, and of those twice.
    `gpu` is the name to look up, by default hardware.gpu. `measured` are real tokens a second of a probe
    on the machine itself: they take the place of all tables.
    """
    name = gpu or job.hardware.gpu
    mean = mean_length or longest
    work = _Work(job, steps, tokens_per_step, longest, padding, mean, trained, evaluation)
    if measured is not None:
        pace = measured if isinstance(measured, Interval) else around(measured)
        parts, counted = _by_measurement(work, pace), None
        assumes: tuple[str, ...] = ("the tokens per second were measured",)
    else:
        known = _known(job, config, name)
        if isinstance(known, str):
            return Duration(problem=known, gpu=name)
        model, found = known
        parts, counted = _by_tables(work, model, found), _flops(work, model)[1]
        assumes = _assumed(job, found)
    parts["saving"] = _writing(checkpoint_bytes).times(saves)
    whole = _sum(parts).times(1 / HOUR)
    price = job.hardware.price_per_hour
    return Duration(
        hours=whole,
        tokens_per_second=parts["training"].into(work.tokens),
        cost=None if price is None else whole.times(price),
        steps=steps,
        tokens=work.tokens,
        seconds=parts,
        flops=counted,
        checkpoint_bytes=checkpoint_bytes * saves,
        gpu=name,
        measured=measured is not None,
        assumes=assumes,
    )


@dataclass(frozen=True, slots=True)
class _Work:
    job: Job
    steps: int
    tokens_per_step: float
    longest: int
    padding: float
    mean_length: float
    trained: float
    evaluation: Evaluation | None

    @property
    def tokens(self) -> float:
        return self.steps * self.tokens_per_step

    @property
    def batches(self) -> int:
        """Batches of one device, in the whole run."""
        return self.steps * self.job.training.gradient_accumulation_steps

    @property
    def batch_tokens(self) -> float:
        """Tokens of one batch of one device, padding among them."""
        computed = self.tokens / max(1e-9, 1 - self.padding)
        return computed / max(1, self.batches * devices(self.job))


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU of the table: dense TFLOP/s, GB/s of its memory, and the share of the peak that is reached."""

    name: str
    tflops: Interval
    gb_per_s: Interval
    utilisation: Interval
    bf16: bool
    evidence: bool


def card(name: str) -> Card | None:
    """The GPU of this name in the table: the longest name found in it counts. None for one not listed."""
    words = _words(name)
    known: Mapping[str, Any] = tables.load("utilisation")["gpus"]
    named = [one for one in known if _within(_words(one), words)]
    if not named:
        return None
    chosen = max(named, key=len)
    facts = known[chosen]
    peak = facts.get("tflops", facts.get("half"))
    return Card(
        chosen,
        _span(peak),
        _span(facts["gb_per_s"]),
        Interval(*facts["utilisation"]),
        "tflops" in facts,
        "evidence" in facts,
    )


def _words(name: str) -> list[str]:
    return name.lower().replace("-", " ").replace("_", " ").split()


def _within(part: list[str], whole: list[str]) -> bool:
    return any(whole[start : start + len(part)] == part for start in range(len(whole)))


def _span(stated: Any) -> Interval:
    low, high = stated if isinstance(stated, list) else (stated, stated)
    return Interval(low, (low + high) / 2, high)


def _overhead(name: str) -> Any:
    return tables.load("utilisation")["overheads"][name]["value"]


def _known(job: Job, config: Mapping[str, Any], name: str | None) -> tuple[Shape, Card] | str:
    """The model's shape and the GPU, or why there is no estimate."""
    if name is None:
        return "this machine has no GPU, and hardware.gpu is not set (the speed of CPUs is not estimated)"
    found = card(name)
    if found is None:
        return f"the training speed of {name} is unknown"
    refused = _not_estimated(job, found)
    if refused is not None:
        return refused
    try:
        return shape(config), found
    except ValueError as error:
        return str(error)


def _not_estimated(job: Job, found: Card) -> str | None:
    training, quantization = job.training, job.training.quantization
    if training.lora is not None and training.lora.use_dora:
        return "the speed of DoRA is unknown"
    if quantization is not None and quantization.load_in_8bit:
        return "the speed of training with 8-bit weights is unknown"
    in_4bit = quantization is not None and quantization.load_in_4bit
    if quantization is not None and in_4bit and quantization.bnb_4bit_compute_dtype in (None, "float32"):
        return "4-bit layers compute in float32 (bnb_4bit_compute_dtype), and the speed of that is unknown"
    if training.bf16 is False and not training.fp16:
        return "training computes in float32, and the speed of that is unknown"
    if not found.bf16 and not training.fp16:
        return f"{found.name} has no bfloat16 units, and the speed of the emulation is unknown"
    return None


def _flops(work: _Work, model: Shape) -> tuple[Flops, Flops, Flops]:
    """Multiplications a token at the least (documents apart, half their scores), likely, at the most."""
    training = work.job.training

    trl = work.job.trainer.use in TRAINERS

    def count(positions: float, *, most: bool = False) -> Flops:
        return flops(
            model,
            training.lora,
            positions=positions,
            checkpointing=training.gradient_checkpointing,
            head_again=trl or most,
            head_share=work.trained if trl and not most else 1.0,
        )

    apart, whole = work.mean_length / 2, float(work.longest)
    return count(apart), count(whole / 2), count(whole, most=True)


def _by_tables(work: _Work, model: Shape, found: Card) -> dict[str, Interval]:
    """Seconds of the parts, from the table of GPUs."""
    training = work.job.training
    passes = 3 if training.gradient_checkpointing else 2
    counted = _flops(work, model)
    each = [one.training * work.batch_tokens for one in counted]
    batches = _batch(work.job, model, found, Interval(*each), passes).times(work.batches)
    parts = {"training": _shared(work.job, batches + _optimizer(work, model, found))}
    parts["evaluation"] = _evaluating(work, model, found)
    parts["start"] = _start(model)
    return parts


def _batch(job: Job, model: Shape, found: Card, amount: Interval, passes: int) -> Interval:
    """Seconds of one batch on one device: multiplications and dequantisation, or the kernels' starts."""
    share, peak = found.utilisation, found.tflops
    products = Interval(
        amount.low / (share.high * peak.high * 1e12),
        amount.likely / (share.likely * peak.likely * 1e12),
        amount.high / (share.low * peak.low * 1e12),
    )
    computed = products + _dequantising(job, model, found).times(passes)
    started = Interval(*_overhead("launch_ms")).times(model.layers * passes / 1000)
    taken = Interval(*(max(a, b) for a, b in zip(_ends(computed), _ends(started), strict=True)))
    if job.trainer.use in TRAINERS:
        return taken
    return replace(taken, low=taken.low / float(_overhead("other_program")))


def _dequantising(job: Job, model: Shape, found: Card) -> Interval:
    """Seconds to write the base model's matrices out in 16 bits once."""
    quantization = job.training.quantization
    if quantization is None or not quantization.load_in_4bit:
        return NOTHING
    gigabytes = model.weights * (NF4_READ + HALF) / 1e9
    share, speed = Interval(*_overhead("dequantisation")), found.gb_per_s
    return Interval(
        gigabytes / (share.high * speed.high),
        gigabytes / (share.likely * speed.likely),
        gigabytes / (share.low * speed.low),
    )


def _optimizer(work: _Work, model: Shape, found: Card) -> Interval:
    lora = work.job.training.lora
    trained = model.weights + model.head if lora is None else adapter_weights(model, lora)
    low, likely, high = (one * trained / 1e9 for one in _overhead("optimizer_bytes"))
    speed = found.gb_per_s
    return Interval(low / speed.high, likely / speed.likely, high / speed.low).times(work.steps)


def _shared(job: Job, one_device: Interval) -> Interval:
    """What sharing gradients between devices adds."""
    if devices(job) == 1:
        return one_device
    low, likely, high = _overhead("devices")
    return Interval(one_device.low / high, one_device.likely / likely, one_device.high / low)


def _evaluating(work: _Work, model: Shape, found: Card) -> Interval:
    one = work.evaluation
    if one is None or not one.times or not one.batches:
        return NOTHING
    counts = [
        flops(model, work.job.training.lora, positions=positions, checkpointing=False).forward
        for positions in (one.longest / 4, one.longest / 2, float(one.longest))
    ]
    tokens = one.tokens / one.batches / devices(work.job)
    batch = _batch(work.job, model, found, Interval(*(tokens * count for count in counts)), 1)
    return batch.times(one.batches * one.times)


def _start(model: Shape) -> Interval:
    """Imports and the CUDA context, and reading the base model from the disk in 16 bits."""
    reading = _writing((model.weights + 2 * model.head) * HALF)
    return Interval(*_overhead("start_seconds")) + reading


def _writing(count: float) -> Interval:
    """Seconds to write or read so many bytes."""
    low, likely, high = _overhead("disk_gb_per_s")
    return Interval(count / 1e9 / high, count / 1e9 / likely, count / 1e9 / low)


def _by_measurement(work: _Work, pace: Interval) -> dict[str, Interval]:
    """Seconds of the parts, at measured tokens a second. A forward pass is a third to a half of a step."""
    parts = {"training": pace.into(work.tokens)}
    one = work.evaluation
    parts["evaluation"] = NOTHING
    if one is not None:
        whole = pace.into(one.tokens * one.times)
        parts["evaluation"] = Interval(whole.low / 4, whole.likely / 3, whole.high / 2)
    parts["start"] = Interval(*_overhead("start_seconds"))
    return parts


def around(value: float) -> Interval:
    """A measured pace, with what it varies by from run to run."""
    spread = float(_overhead("measured_spread"))
    return Interval(value * (1 - spread), value, value * (1 + spread))


def _sum(parts: Mapping[str, Interval]) -> Interval:
    whole = NOTHING
    for one in parts.values():
        whole = whole + one
    return whole


def _ends(one: Interval) -> tuple[float, float, float]:
    return one.low, one.likely, one.high


def _assumed(job: Job, found: Card) -> tuple[str, ...]:
    """What the numbers stand on, in sentences."""
    share, peak = found.utilisation, found.tflops
    source = "from public measurements" if found.evidence else "assumed without a public measurement"
    said = [
        f"{found.name} at {share.low:.0%} to {share.high:.0%} (likely {share.likely:.0%}) of"
        f" {peak.likely:g} TFLOP/s, {source}",
        "the base model is already downloaded",
    ]
    if devices(job) > 1:
        said.append(f"{devices(job)} GPUs share the rows, each at 70 to 100 % of its speed")
    if job.trainer.use not in TRAINERS:
        said.append("the command is between as fast as TRL and twice as fast")
    return tuple(said)


def gpu_name(job: Job, gpus: tuple[Any, ...]) -> str | None:
    """The GPU that the job will run on: hardware.gpu, else this machine's first."""
    return job.hardware.gpu or (gpus[0].name if gpus else None)


def seconds_left(deadline: str, now: datetime) -> float:
    """Seconds from `now` to a deadline: a duration (8h), a time of day (the next one), or a date with one.

    A date without a time means the end of that day. Below 0 where it has passed. Times without a zone are
    those of `now`. Raises `ValueError` for a text that is none of these.
    """
    length = seconds(deadline)
    if length is not None:
        return length
    return (moment(deadline, now) - now).total_seconds()


def moment(text: str, now: datetime) -> datetime:
    """When a time of day or a date is, seen from `now`. Raises `ValueError` for a text that is neither."""
    parsers: tuple[Callable[[str], datetime], ...] = (
        lambda one: datetime.combine(now.date(), time.fromisoformat(one)),
        lambda one: datetime.combine(date.fromisoformat(one) + timedelta(days=1), time()),
        datetime.fromisoformat,
    )
    for number, parse in enumerate(parsers):
        try:
            found = parse(text)
        except ValueError:
            continue
        there = found if found.tzinfo else found.replace(tzinfo=now.tzinfo)
        passed = number == 0 and there <= now
        return there + timedelta(days=1) if passed else there
    raise ValueError(f"{text!r} is neither a duration nor a time")
