"""Packing rules: are the blocks full, are their rows isolated, does a step have enough tokens?"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ftcheck import (
    Change,
    Finding,
    Job,
    Machine,
    Measurement,
    Packages,
    Prepared,
    Severity,
    Skip,
    Summary,
    rule,
    tables,
)
from ftcheck.errors import FtcheckError
from ftcheck.estimate.blocks import Packed, as_stored, fed, packed
from ftcheck.estimate.gpus import same_gpu
from ftcheck.estimate.steps import steps
from ftcheck.extension.rules import Yield
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.packed_batch import TINY_MODEL, PackedBatch
from ftcheck.packing.padding import expected_padding
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling import intervals
from ftcheck.sampling.statistics import Between, Count, NotOfRows, Statistic, part
from ftcheck_rules.lengths.lengths import unknown_attention
from ftcheck_rules.lengths.sufficient import STEP, sufficient

TRAINER = "qlora"
FEW = 20
"""With fewer blocks than this, the emptiest one is not judged."""
TRIED = 4
"""Longer blocks are tried up to this multiple of the stated length."""


@dataclass(frozen=True)
class PackingEfficiency:
    """Parameters of `packing-efficiency`."""

    min_fill: float = 0.85
    """Share of the planned blocks that must be filled with tokens, 0 to 1."""
    max_padding: float = 0.5
    """Without packing: share of the computed tokens that may be padding, 0 to 1."""


@rule("packing-efficiency", family="lengths", cases="ftcheck_rules.lengths.cases.packing")
def packing_efficiency(job: Job, prepared: Prepared, params: PackingEfficiency) -> Iterator[Yield]:
    """The packed blocks are nearly full, and there are enough of them for at least one optimizer step.

    Blocks that are half empty make twice as many steps, each on half the tokens of the recipe; batches that
    are mostly padding are computed for nothing. With fewer blocks than one optimizer step takes, an epoch is
    one small step, or none.

    Counts the blocks as TRL packs them (1,000 rows at a time, after truncation), by best-fit over all rows,
    as training.packing_planner plans them (`optimal` uses column generation, and the trainer then uses that
    plan), and the lower bound for any packing. With fewer than 20 blocks the emptiest is left out of the
    fill. Without packing, the expected padding of shuffled (or length-grouped) batches is judged; if it is
    low, the check is skipped, and the reason says what packing would save. Parameters: min_fill (default
    0.85), max_padding (0.5).
    """
    capacity = job.training.max_length
    if not len(prepared.sequences):
        yield Skip("no row is left to train on")
    elif (stored := as_stored(prepared, job)) is not None:
        yield from _stored(job, stored, params)
    elif not job.training.packing:
        yield from _unpacked(job, prepared, params)
    elif capacity is None:
        message = "packing is on, but max_length, the length of a block, is null"
        why = "TRL refuses to start."
        yield Finding(message, at=job.at("training.max_length"), fix="set training.max_length", why=why)
    else:
        plan = packed(prepared, job, capacity)
        yield from _measured(plan, params)
        yield Summary(_in_words(plan))
        if _judged_fill(plan) < params.min_fill:
            yield _loose(job, prepared, plan, params)
        yield from _too_few(job, fed(job, prepared))


def _stored(job: Job, plan: Packed, params: PackingEfficiency) -> Iterator[Yield]:
    """Rows that were packed before this training."""
    yield from _measured(plan, params)
    fill = 100 * plan.fill(plan.planned)
    yield Summary(
        f"{counted(plan.planned, 'packed row')} of up to {plan.capacity:,} tokens, {fill:.1f} % full"
    )
    if plan.planned >= FEW and fill < 100 * params.min_fill:
        message = f"the packed rows are {fill:.1f} % full, below the minimum of {100 * params.min_fill:.1f} %"
        fix = "prepare the rows again, unpacked or with a length that their lengths divide better"
        yield Finding(message, Severity.WARNING, at=job.at("data.prepared"), fix=fix)


def _measured(plan: Packed, params: PackingEfficiency) -> Iterator[Measurement]:
    yield Measurement("sequences", plan.sequences, unit="sequences", statistic=Count())
    yield Measurement("blocks_trl", plan.trl, unit="blocks")
    yield Measurement("blocks_best_fit", plan.best_fit, unit="blocks")
    yield Measurement("blocks_planned", plan.planned, unit="blocks")
    yield Measurement("blocks_lower_bound", plan.lower_bound, unit="blocks")
    yield Measurement("fill_trl", round(plan.fill(plan.trl), 6))
    yield Measurement("fill_planned", round(plan.fill(plan.planned), 6), limit=f">= {params.min_fill:g}")


def _in_words(plan: Packed) -> str:
    said = f"{counted(plan.planned, 'block')}, {100 * plan.fill(plan.planned):.1f} % full"
    said += f" (TRL alone: {plan.trl:,})" if plan.trl != plan.planned else ""
    return f"{said}; {plan.note}" if plan.note else said


def _judged_fill(plan: Packed) -> float:
    """The fill; of few blocks without the emptiest, which depends on the number of rows, not their length."""
    if plan.planned >= FEW:
        return plan.fill(plan.planned)
    if plan.planned < 2:
        return 1.0
    return (plan.tokens - plan.emptiest) / ((plan.planned - 1) * plan.capacity)


def _unpacked(job: Job, prepared: Prepared, params: PackingEfficiency) -> Iterator[Yield]:
    """Without packing there are no blocks: the cost of padding is judged."""
    waste = expected_padding(job, prepared.fed(job.training.max_length))
    said = _without(job, prepared, waste)
    if waste <= params.max_padding:
        yield Skip(said)
        return
    yield Measurement("padding", round(waste, 6), limit=f"<= {params.max_padding:g}")
    yield Summary(f"{100 * waste:.0f} % of the computed tokens are padding")
    fix = "set training.packing: true (with a max_length), or train_sampling_strategy: group_by_length"
    capacity = job.training.max_length
    fits = capacity is not None and _judged_fill(packed(prepared, job, capacity)) >= params.min_fill
    change = Change(f"jobs.{job.name}.training.packing", False, True, safe=False) if fits else None
    why = "Padding is computed like any token, and paid for."
    yield Finding(said, Severity.WARNING, job.at("training.packing"), fix, change, why=why)


def _without(job: Job, prepared: Prepared, waste: float) -> str:
    """The numbers without packing, and those that packing would have."""
    limit, count = job.training.max_length, len(prepared.sequences)
    percent = round(100 * waste)
    padding = f"about {percent} % of the computed tokens are padding" if percent > 0 else "no padding"
    said = f"packing is off: {counted(count, 'row')}, {padding}"
    if limit is None:
        return said
    plan = packed(prepared, job, limit)
    full = f"{100 * plan.fill(plan.planned):.1f} % full"
    said += f"; packing would make {counted(plan.planned, 'block')} of {limit:,} tokens, {full}"
    fewer, now = steps(job, plan.planned).an_epoch, steps(job, count).an_epoch
    return f"{said}: {counted(fewer, 'step')} per epoch instead of {now:,}"


def _loose(job: Job, prepared: Prepared, plan: Packed, params: PackingEfficiency) -> Finding:
    fill = plan.fill(plan.planned)
    message = f"the blocks are {100 * fill:.1f} % full, below the minimum of {100 * params.min_fill:.1f} %"
    ours = packed(prepared, _planned_by_us(job), plan.capacity)
    if ours.fill(ours.planned) >= params.min_fill:
        change = Change(f"jobs.{job.name}.training.packing_planner", job.training.packing_planner, "optimal")
        fix = (
            "packing_planner: optimal packs across all rows:"
            f" {counted(ours.planned, 'block')} instead of {plan.planned:,}"
        )
        return Finding(message, Severity.WARNING, job.at("training.packing_planner"), fix, change)
    need = sufficient(job, prepared)
    if need > plan.capacity and job.training.packing_strategy == "bfd":
        fix = f"first set max_length: {need}, which holds the rows"
        return Finding(message, Severity.WARNING, job.at("training.max_length"), fix)
    better = _better_length(job, prepared, plan, params)
    if better is None:
        fix = "rows of these lengths leave gaps in blocks of this size: try another max_length, or no packing"
        return Finding(message, Severity.WARNING, job.at("training.max_length"), fix)
    path = f"jobs.{job.name}.training.max_length"
    change = Change(path, plan.capacity, better.capacity, safe=False)
    full = f"{100 * better.fill(better.planned):.1f} % full"
    fix = f"max_length: {plan.capacity} -> {better.capacity}, with blocks that are {full}"
    return Finding(message, Severity.WARNING, job.at("training.max_length"), fix, change)


def _planned_by_us(job: Job) -> Job:
    """The same job with packing_planner: optimal."""
    return replace(job, training=replace(job.training, packing_planner="optimal"))


def _better_length(job: Job, prepared: Prepared, plan: Packed, params: PackingEfficiency) -> Packed | None:
    """The next longer block that is full enough, within the target."""
    last = TRIED * plan.capacity
    if job.targets.max_length is not None:
        last = min(last, job.targets.max_length[1])
    first = (plan.capacity // STEP + 1) * STEP
    tried = (packed(prepared, job, capacity, quick=True) for capacity in range(first, last + 1, STEP))
    return next((one for one in tried if one.fill(one.planned) >= params.min_fill), None)


def _too_few(job: Job, blocks: int) -> Iterator[Finding]:
    training, devices = job.training, max(1, job.hardware.count)
    at_once = training.per_device_train_batch_size * devices
    step = at_once * training.gradient_accumulation_steps
    if blocks >= step:
        return
    are = agreeing(blocks, "is", "are")
    message = f"{counted(blocks, 'block')} {are} fewer than the {step:,} that one optimizer step takes"
    why = "An epoch is less than one full optimizer step: the model hardly learns."
    key = "training.gradient_accumulation_steps"
    fits = blocks // at_once
    if not fits:
        fix = f"lower per_device_train_batch_size: one batch takes {counted(at_once, 'block')}"
        yield Finding(message, at=job.at("training.per_device_train_batch_size"), fix=fix, why=why)
        return
    old = training.gradient_accumulation_steps
    change = Change(f"jobs.{job.name}.{key}", old, fits, safe=False)
    fix = f"gradient_accumulation_steps: {old} -> {fits}"
    yield Finding(message, at=job.at(key), fix=fix, change=change, why=why)


@rule("packing-isolation", family="lengths", cases="ftcheck_rules.lengths.cases.packing")
def packing_isolation(job: Job, packages: Packages, inputs: Inputs) -> Iterator[Yield]:
    """Rows that are packed into one block do not attend to each other.

    A row that attends to the one before it learns to answer another row's question; wrapped packing also cuts
    rows anywhere. The loss looks normal, and the model is slightly worse.

    Judged by packing_strategy, padding_free and the attn_implementation in model_init_kwargs. TRL restarts
    the positions of each row, and transformers isolates such rows with eager, sdpa, flex and flash attention
    alike: packing does not require flash attention. What older versions cannot do is `info`. No mask isolates
    rows in state-space, linear-attention and convolution layers (Qwen3.5, Falcon-H1, Jamba): for those, one
    packed batch runs through a tiny random model of the same class, against its rows alone, with the kernels
    that are installed here. The facts are in `tables/attention.json` and `tables/recurrent_models.json`.
    Skipped where nothing is packed. No parameters.
    """
    training = job.training
    if not training.packing and not training.padding_free:
        yield Skip("packing and padding_free are off")
        return
    how = training.packing_strategy if training.packing else "padding_free"
    yield Measurement("packed_by", how)
    batch = None if how == "wrapped" else _tried(inputs)
    if batch is not None:
        yield Measurement("packed_batch", batch.outcome)
        yield Measurement("packed_batch_difference", batch.difference)
    yield Summary(_isolation_in_words(how, batch))
    if how == "wrapped":
        yield Finding(
            "packing_strategy is wrapped: rows of a block attend to each other, and are cut where it ends",
            at=job.at("training.packing_strategy"),
            fix="set packing_strategy: bfd",
            change=Change(f"jobs.{job.name}.training.packing_strategy", "wrapped", "bfd", safe=False),
        )
        return
    attention = unknown_attention(job)
    if attention is not None:
        yield Finding(
            f"attn_implementation {attention!r} is not known to isolate the rows of a block",
            Severity.WARNING,
            at=job.at("training.model_init_kwargs"),
            fix="set attn_implementation: sdpa, or to a flash attention; or turn packing off",
        )
    yield from _older(job, packages)
    if batch is not None:
        yield from _recurrent(job, batch, inputs)


def _tried(inputs: Inputs) -> PackedBatch | None:
    """What a packed batch does in a recurrent model; None for others, and without a config.json."""
    try:
        found: PackedBatch | None = inputs.get("packed_batch")
    except FtcheckError:
        return None
    return found


def _isolation_in_words(how: str, batch: PackedBatch | None) -> str:
    if how == "wrapped":
        return "packed rows attend to each other (wrapped)"
    if batch is None:
        return f"packed rows are isolated ({how})"
    return {
        "isolated": f"packed rows are isolated ({how}; tried on {batch.source})",
        "leaks": f"packed rows are not isolated ({how})",
        "refused": "the model refuses packed rows",
        "unknown": "whether packed rows are isolated is unknown",
    }[batch.outcome]


def _recurrent(job: Job, batch: PackedBatch, inputs: Inputs) -> Iterator[Finding]:
    """Layers that carry a state from token to token, which no attention mask stops."""
    key = "training.packing" if job.training.packing else "training.padding_free"
    kind = inputs.get("model").config.get("model_type")
    change = Change(f"jobs.{job.name}.{key}", True, False, safe=False)
    off = f"set {key.rpartition('.')[2]}: false"
    if batch.outcome == "refused":
        elsewhere = batch.source != TINY_MODEL or job.trainer.use != TRAINER or _trains_elsewhere(job, inputs)
        message = f"{kind} does not take packed rows with the libraries installed here: {batch.message}"
        fix = f"install the library that the message names where the job trains, or {off}"
        why = "The run ends at its first step."
        severity = Severity.WARNING if elsewhere else Severity.ERROR
        yield Finding(message, severity, job.at(key), fix, None if elsewhere else change, why=why)
    elif batch.outcome == "leaks":
        share = f" (by {100 * batch.difference:.2g} %)" if batch.difference is not None else ""
        message = f"{kind} ignores the boundaries of packed rows: a row's logits change{share} with the row"
        message += f" before it in the block (known from {batch.source})"
        yield Finding(message, Severity.ERROR, job.at(key), off, change)
    elif batch.outcome == "unknown":
        message = f"it is unknown whether {kind}, which has recurrent layers, isolates packed rows:"
        message += f" {batch.message}"
        yield Finding(message, Severity.WARNING, job.at(key), off, change)


def _trains_elsewhere(job: Job, inputs: Inputs) -> bool:
    """Whether hardware.gpu names a GPU that is not in this machine: other libraries may be there."""
    stated = job.hardware.gpu
    if stated is None:
        return False
    machine: Machine = inputs.get("machine")
    return not any(same_gpu(stated, one.name) for one in machine.gpus)


def _older(job: Job, packages: Packages) -> Iterator[Finding]:
    """What the installed versions do not do yet; whether they are supported is judged by `environment`."""
    table = tables.load("attention")
    attention = (job.training.extra.get("model_init_kwargs") or {}).get("attn_implementation", "sdpa")
    flash = attention in table["flash"] or "/" in str(attention)
    place = job.at("training.packing")
    for key, what in (
        ("packed_without_flash", f"isolates packed rows with flash attention only, not with {attention}"),
        ("packed_positions", "does not restart the positions of packed rows by itself"),
    ):
        [(package, first)] = table[key].items()
        installed = packages.versions.get(package)
        if installed and _below(installed, first) and not (flash and key == "packed_without_flash"):
            message = f"{package} {installed} {what}"
            yield Finding(message, Severity.INFO, at=place, fix=f"install {package} {first} or later")


def _below(version: str, bound: str) -> bool:
    """Whether the numbers that a version begins with are lower than those of another."""
    one, other = ([int(n) for n in re.findall(r"\d+", text)[:3]] for text in (version, bound))
    return one < other


@rule("tokens-per-step", family="lengths", cases="ftcheck_rules.lengths.cases.packing")
def tokens_per_step(job: Job, prepared: Prepared) -> Iterator[Yield]:
    """One optimizer step has as many tokens as targets.tokens_per_step requires.

    With too few tokens the gradient is noisy and the recipe's learning rate is too high; with too many, an
    epoch has only a handful of steps. Recipes are often copied with their batch size but without their
    max_length.

    The nominal number is batch x accumulation x devices x max_length (targets such as 32k mean 32,768); the
    real number follows from how full the blocks are, or from the rows without packing. No parameters.
    """
    length = job.training.max_length
    if length is None:
        yield Skip("training.max_length is null, so a step has no nominal number of tokens")
        return
    target = job.targets.tokens_per_step
    nominal = _at_once(job, length) * job.training.gradient_accumulation_steps
    limit = f"{target[0]} to {target[1]}" if target else None
    filled = round(nominal * _fill(job, prepared, length))
    yield Measurement("tokens_per_step", nominal, unit="tokens", limit=limit, statistic=NotOfRows())
    of_rows = _filled_between(job, prepared, nominal, filled)
    yield Measurement("filled_tokens_per_step", filled, unit="tokens", statistic=of_rows)
    yield Summary(f"{nominal:,} tokens per step, {filled:,} of them real")
    if target is not None and not target[0] <= nominal <= target[1]:
        yield _off_target(job, length, nominal, target)


def _at_once(job: Job, length: int) -> int:
    return job.training.per_device_train_batch_size * max(1, job.hardware.count) * length


def _fill(job: Job, prepared: Prepared, length: int) -> float:
    """Share of the nominal tokens that are real."""
    if not len(prepared.sequences):
        return 0.0
    if job.training.packing:
        plan = packed(prepared, job, length)
        return plan.fill(plan.planned)
    return float(prepared.fed(length).mean()) / length


def _filled_between(job: Job, prepared: Prepared, nominal: int, filled: int) -> Statistic:
    """Of a sample: all rows fill blocks no worse; without packing, by the mean of their lengths."""
    sample, length = prepared.sample, job.training.max_length
    if job.training.packing or sample is None or not length or not len(prepared.sequences):
        return Between(filled, nominal)
    fed = prepared.fed(length)
    drawn, of = part(len(fed), sample)
    low, high = intervals.total(fed, drawn, of)
    share = nominal / (length * of)
    return Between(round(low * share), nominal if high is None else round(high * share))


def _off_target(job: Job, length: int, nominal: int, target: tuple[int, int]) -> Finding:
    low, high = target
    old, batch, devices = (
        job.training.gradient_accumulation_steps,
        job.training.per_device_train_batch_size,
        max(1, job.hardware.count),
    )
    count = f" x {devices}" if devices > 1 else ""
    product = f"{batch} x {old}{count} x {length}"
    message = f"{product} = {nominal:,} tokens per step, outside targets.tokens_per_step {low:,} to {high:,}"
    at, key = _at_once(job, length), "training.gradient_accumulation_steps"
    new = _steps(at, low, high)
    if new is None:
        fix = (
            f"change per_device_train_batch_size: one batch has {at:,} tokens, no accumulation fits the range"
        )
        return Finding(message, at=job.at("training.per_device_train_batch_size"), fix=fix)
    change = Change(f"jobs.{job.name}.{key}", old, new, safe=False)
    fix = f"gradient_accumulation_steps: {old} -> {new} ({new * at:,} tokens per step)"
    return Finding(message, at=job.at(key), fix=fix, change=change)


def _steps(at_once: int, low: int, high: int) -> int | None:
    """The accumulation steps that come nearest to the middle of the range, if any lies in it."""
    middle = (low + high) / 2
    fitting = range(max(1, -(-low // at_once)), high // at_once + 1)
    return min(fitting, key=lambda steps: abs(steps * at_once - middle), default=None)
