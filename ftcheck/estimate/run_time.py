"""How long a training will take and what it will cost: an interval, with what it assumes.

What a batch takes is `step_time`'s; evaluations, checkpoints and the start come on top. Each of these is an
interval, and so is their sum. What is not known gives no number: `Duration.problem` says why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import Any

from ftcheck import tables
from ftcheck.durations import seconds
from ftcheck.estimate.flops import Flops, counted_decoder, flops
from ftcheck.estimate.gpus import Card, Speed, card
from ftcheck.estimate.interval import Interval, between
from ftcheck.estimate.lora_targets import Adapter, decoder_adapter
from ftcheck.estimate.memory.formulas import fuses
from ftcheck.estimate.memory.shapes import CannotTell, attention_of
from ftcheck.estimate.memory.sharding import received_bytes, scheme
from ftcheck.estimate.step_time import HALF, SINGLE, Execution, batch_seconds, load, overhead
from ftcheck.estimate.steps import devices
from ftcheck.inputs.model_shape import Decoder, UnknownShape, model_shape
from ftcheck.settings import Job

HOUR = 3600.0
TRAINERS = frozenset({"qlora"})
"""Trainers that are known to be TRL."""
NOTHING = Interval(0.0, 0.0, 0.0)
EXACTLY = Interval(1.0, 1.0, 1.0)


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
    `spread` are the factors by which steps and tokens may be off where only a sample of the rows is known.
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
    spread: Interval = EXACTLY


def wider(found: Duration, spread: Interval) -> Duration:
    """A duration of a sample's rows, scaled to all: the number of steps is itself an interval."""
    hours, cost = found.hours, found.cost
    return replace(
        found,
        hours=None if hours is None else hours.by(spread),
        cost=None if cost is None else cost.by(spread),
        spread=spread,
    )


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
    execution: Execution | None = None,
    here: Card | None = None,
) -> Duration:
    """How long `steps` optimizer steps take, with evaluations and checkpoints.

    `tokens_per_step` are real tokens of an average step, on all devices; `padding` is the share of what is
    computed that is none of them. `longest` is the length of a row (or block) as computed, `mean_length`
    that of a document in it: attention costs between that of documents apart and that of a whole row.
    `trained` is the share of tokens in the loss: TRL 1.16 makes logits of no others, and of those twice.
    `gpu` is the name to look up, by default hardware.gpu. `measured` are real tokens a second of a probe
    on the machine itself: they take the place of all tables. `execution` is how the program computes,
    where it is known and is not TRL's; `here` takes the place of the table's GPU.
    """
    name = gpu or job.hardware.gpu
    mean = mean_length or longest
    work = _Work(job, steps, tokens_per_step, longest, padding, mean, trained, evaluation, execution)
    if measured is not None:
        pace = measured if isinstance(measured, Interval) else around(measured)
        parts, counted = _by_measurement(work, pace), None
        assumes: tuple[str, ...] = ("the tokens per second were measured",)
    else:
        known = _known(job, config, name, here)
        if isinstance(known, str):
            return Duration(problem=known, gpu=name)
        parts, counted = _by_tables(work, known), _flops(work, known)[1]
        assumes = _assumed(work, known)
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
    execution: Execution | None

    @property
    def trl(self) -> bool:
        """Whether the program is TRL: its loss makes logits of trained tokens only."""
        return self.execution is None and self.job.trainer.use in TRAINERS

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


def _overhead(name: str) -> float:
    return float(tables.load("training_speed")["overheads"][name]["value"])


@dataclass(frozen=True, slots=True)
class _Known:
    """What the tables say of the model, the adapter on it (None: the whole model is trained), and the GPU."""

    model: Decoder
    adapter: Adapter | None
    gpu: Card
    speed: Speed

    @property
    def trained(self) -> int:
        return self.model.weights if self.adapter is None else self.adapter.trained


def _known(job: Job, config: Mapping[str, Any], name: str | None, here: Card | None) -> _Known | str:
    """What the tables say of a job, or why there is no estimate."""
    if name is None:
        return "this machine has no GPU, and hardware.gpu is not set (the speed of CPUs is not estimated)"
    found = here or card(name)
    if found is None:
        return f"unknown speed: {name} is not in ftcheck's table of GPUs"
    if found.speed is None:
        return f"unknown speed: ftcheck's table of GPUs has none for {name}"
    refused = _not_estimated(job, found)
    if refused is not None:
        return refused
    lora = job.training.lora
    try:
        scheme(job)
        model = counted_decoder(model_shape(config))
        adapter = None if lora is None else decoder_adapter(lora, model)
    except (UnknownShape, CannotTell) as error:
        return str(error)
    return _Known(model, adapter, found, found.speed)


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


def _flops(work: _Work, known: _Known) -> tuple[Flops, Flops, Flops]:
    """Multiplications a token at the least (documents apart, half their scores), likely, at the most."""
    training = work.job.training
    unknown = work.execution is None and not work.trl

    def count(positions: float, *, most: bool = False) -> Flops:
        return flops(
            known.model,
            known.adapter,
            positions=positions,
            checkpointing=training.gradient_checkpointing,
            head_again=work.trl or (most and unknown),
            head_share=work.trained if work.trl and not most else 1.0,
        )

    apart, whole = work.mean_length / 2, float(work.longest)
    if attention_of(work.job) == "eager":
        return count(whole), count(whole), count(whole, most=True)
    masked = work.job.training.packing or work.padding > 0
    return count(apart), count(whole / 2), count(whole if masked else whole / 2, most=True)


def _executions(work: _Work, known: _Known) -> tuple[Execution, ...]:
    """How the program may compute, the likely way first. TRL's stream and adapter are 16-bit under autocast.

    Another program may hold what is not quantised, and the adapter, in float32; and on GPUs without bfloat16
    units only such programs were measured, so that TRL's way is not taken for granted there.
    """
    if work.execution is not None:
        return (work.execution,)
    training, quantization = work.job.training, work.job.training.quantization
    usual = Execution(
        checkpointing=training.gradient_checkpointing,
        quantised=quantization is not None and quantization.load_in_4bit,
        eager=attention_of(work.job) == "eager",
        dropout=training.lora is not None and training.lora.lora_dropout > 0,
        full_logits=not work.trl,
    )
    if work.trl and known.gpu.bf16:
        return (usual,)
    return usual, replace(usual, adapter=SINGLE, stream=SINGLE if usual.quantised else HALF)


def _by_tables(work: _Work, known: _Known) -> dict[str, Interval]:
    """Seconds of the parts, from the tables."""
    batch = _batch(work, known, _flops(work, known), work.batch_tokens, work.longest)
    computed = _shared(work.job, batch.times(work.batches) + _optimizer(work, known))
    parts = {"training": computed + _gathering(work, known)}
    parts["evaluation"] = _evaluating(work, known)
    parts["start"] = _start(known.model)
    return parts


def _batch(
    work: _Work,
    known: _Known,
    counted: tuple[Flops, Flops, Flops],
    tokens: float,
    longest: float,
    *,
    training: bool = True,
) -> Interval:
    """Seconds of one batch on one device; the low end is that of kernels that the program may have."""

    def taken(how: Execution) -> Interval:
        low, likely, high = (
            load(known.model, known.adapter, how, one, tokens=tokens, longest=longest, training=training)
            for one in counted
        )
        return batch_seconds((low, likely, high), known.speed)

    found = between(*(taken(how) for how in _executions(work, known)))
    return replace(found, low=found.low / _faster(work))


def _faster(work: _Work) -> float:
    """So many times as fast may the program's own kernels make it."""
    if work.execution is not None:
        return 1.0
    if not work.trl:
        return _overhead("other_program")
    return _overhead("fused") if fuses(work.job) else 1.0


def _optimizer(work: _Work, known: _Known) -> Interval:
    moved = overhead("optimizer_bytes").times(known.trained / 1e9)
    speed = known.speed.gb_per_s
    one = Interval(moved.low / speed.high, moved.likely / speed.likely, moved.high / speed.low)
    return one.times(work.steps)


def _shared(job: Job, one_device: Interval) -> Interval:
    """What sharing gradients between devices adds."""
    if devices(job) == 1:
        return one_device
    kept = overhead("devices")
    return Interval(one_device.low / kept.high, one_device.likely / kept.likely, one_device.high / kept.low)


def _gathering(work: _Work, known: _Known) -> Interval:
    """Weights that come from other processes for each batch; at best while it computes."""
    moved = received_bytes(work.job, known.model) * work.batches / 1e9
    if not moved:
        return NOTHING
    return replace(overhead("gathered_gb_per_s").into(moved), low=0.0)


def _evaluating(work: _Work, known: _Known) -> Interval:
    one = work.evaluation
    if one is None or not one.times or not one.batches:
        return NOTHING
    tokens = one.tokens / one.batches / devices(work.job)
    least, likely, most = (
        flops(known.model, known.adapter, positions=positions, checkpointing=False)
        for positions in (one.longest / 4, one.longest / 2, float(one.longest))
    )
    batch = _batch(work, known, (least, likely, most), tokens, one.longest, training=False)
    return batch.times(one.batches * one.times)


def _start(model: Decoder) -> Interval:
    """Imports and the CUDA context, and reading the base model from the disk in 16 bits."""
    reading = _writing(model.weights * HALF)
    return overhead("start_seconds") + reading


def _writing(count: float) -> Interval:
    """Seconds to write or read so many bytes."""
    return overhead("disk_gb_per_s").into(count / 1e9)


def _by_measurement(work: _Work, pace: Interval) -> dict[str, Interval]:
    """Seconds of the parts, at measured tokens a second. A forward pass is a third to a half of a step."""
    parts = {"training": pace.into(work.tokens)}
    one = work.evaluation
    parts["evaluation"] = NOTHING
    if one is not None:
        whole = pace.into(one.tokens * one.times)
        parts["evaluation"] = Interval(whole.low / 4, whole.likely / 3, whole.high / 2)
    parts["start"] = overhead("start_seconds")
    return parts


def around(value: float) -> Interval:
    """A measured pace, with what it varies by from run to run."""
    spread = _overhead("measured_spread")
    return Interval(value * (1 - spread), value, value * (1 + spread))


def _sum(parts: Mapping[str, Interval]) -> Interval:
    whole = NOTHING
    for one in parts.values():
        whole = whole + one
    return whole


def _assumed(work: _Work, known: _Known) -> tuple[str, ...]:
    """What the numbers stand on, in sentences."""
    job, here = work.job, known.gpu
    share, peak = known.speed.utilisation, known.speed.tflops
    evidence = known.speed.evidence
    source = f"read off {evidence}" if evidence else "assumed without a public measurement"
    said = [
        f"{here.name} multiplies at {share.low:.0%} to {share.high:.0%} (likely {share.likely:.0%}) of"
        f" {peak.likely:g} TFLOP/s, {source}",
        "the base model is already downloaded",
    ]
    if devices(job) > 1:
        said.append(f"{devices(job)} GPUs share the rows, each at 70 to 100 % of its speed")
    if received_bytes(job, known.model):
        slow = overhead("gathered_gb_per_s").low
        said.append(f"weights are gathered for each batch, hidden behind computing or at {slow:g} GB/s")
    if not work.trl and work.execution is None:
        said.append(
            "the command is at most twice as fast as TRL, and at the slowest computes in float32 what is not"
            " quantised"
            if _executions(work, known)[0].quantised
            else "the command is at most twice as fast as TRL, and at the slowest has a float32 adapter"
        )
    elif not here.bf16 and work.execution is None:
        said.append(
            "TRL was not measured on GPUs without bfloat16: between TRL's 16-bit operations and the"
            " float32 ones of the runs that were"
        )
    if work.trl and fuses(job):
        said.append(f"fused kernels make it up to {_overhead('fused'):g} times as fast")
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
