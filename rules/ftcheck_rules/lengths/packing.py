"""Packing rules: are blocks full, do their rows not see each other, does a step see enough tokens?"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ftcheck import (
    Change,
    Finding,
    Job,
    Measurement,
    Packages,
    Prepared,
    Severity,
    Skip,
    Summary,
    rule,
    tables,
)
from ftcheck.estimate.blocks import Packed, packed
from ftcheck.estimate.steps import steps
from ftcheck.extension.rules import Yield
from ftcheck.packing.padding import expected_padding
from ftcheck_rules.lengths.lengths import STEP, unknown_attention

FEW = 20
"""Of fewer blocks than this the emptiest one is not judged."""
TRIED = 4
"""Longer blocks are tried up to so many times the stated length."""


@dataclass(frozen=True)
class PackingEfficiency:
    """Parameters of `packing-efficiency`."""

    min_fill: float = 0.85
    """Share of the planned blocks' tokens that must be real, 0 to 1."""
    max_padding: float = 0.5
    """Without packing: share of what is computed that may be padding, 0 to 1."""


@rule("packing-efficiency", family="lengths", cases="ftcheck_rules.lengths.cases.packing")
def packing_efficiency(job: Job, prepared: Prepared, params: PackingEfficiency) -> Iterator[Yield]:
    """The packed blocks are nearly full, and there are enough of them for at least one step.

    Blocks that are half empty make twice as many steps, each on half the tokens of the recipe; batches that
    are mostly padding are computed and thrown away. With fewer blocks than one optimizer step takes, an
    epoch is one small step, or none.

    Blocks are counted as TRL makes them (every 1,000 rows on their own, after truncation), by best-fit
    over all rows, as training.packing_planner plans them (`optimal` by column generation, which the trainer
    then uses), and as no packing can undercut. Of fewer than 20 blocks the emptiest is left out of the fill.
    Without packing, the padding that is to be expected in shuffled (or length-grouped) batches is judged; if
    little, it is skipped, with what packing would save in the reason. Parameters: min_fill (default 0.85),
    max_padding (0.5).
    """
    capacity = job.training.max_length
    if not len(prepared.sequences):
        yield Skip("no row is fed")
    elif not job.training.packing:
        yield from _unpacked(job, prepared, params)
    elif capacity is None:
        message = "packing needs a max_length: it is the length of a block, and TRL refuses to start without"
        yield Finding(message, at=job.at("training.max_length"), fix="set training.max_length")
    else:
        plan = packed(prepared, job, capacity)
        yield from _measured(plan, params)
        yield Summary(_in_words(plan))
        if _judged_fill(plan) < params.min_fill:
            yield _loose(job, prepared, plan, params)
        yield from _too_few(job, plan)


def _measured(plan: Packed, params: PackingEfficiency) -> Iterator[Measurement]:
    yield Measurement("sequences", plan.sequences, unit="sequences")
    yield Measurement("blocks_trl", plan.trl, unit="blocks")
    yield Measurement("blocks_best_fit", plan.best_fit, unit="blocks")
    yield Measurement("blocks_planned", plan.planned, unit="blocks")
    yield Measurement("blocks_lower_bound", plan.lower_bound, unit="blocks")
    yield Measurement("fill_trl", round(plan.fill(plan.trl), 6))
    yield Measurement("fill_planned", round(plan.fill(plan.planned), 6), limit=f">= {params.min_fill:g}")


def _in_words(plan: Packed) -> str:
    said = f"{plan.planned:,} blocks, {100 * plan.fill(plan.planned):.1f} % full"
    said += f" (TRL alone: {plan.trl:,})" if plan.trl != plan.planned else ""
    return f"{said}; {plan.note}" if plan.note else said


def _judged_fill(plan: Packed) -> float:
    """The fill; of few blocks without the emptiest, which the number of rows decides and not their length."""
    if plan.planned >= FEW:
        return plan.fill(plan.planned)
    if plan.planned < 2:
        return 1.0
    return (plan.tokens - plan.emptiest) / ((plan.planned - 1) * plan.capacity)


def _unpacked(job: Job, prepared: Prepared, params: PackingEfficiency) -> Iterator[Yield]:
    """Without packing there are no blocks: what padding costs is judged."""
    waste = expected_padding(job, prepared.fed(job.training.max_length))
    said = _without(job, prepared, waste)
    if waste <= params.max_padding:
        yield Skip(said)
        return
    yield Measurement("padding", round(waste, 6), limit=f"<= {params.max_padding:g}")
    yield Summary(f"{100 * waste:.0f} % of what is computed is padding")
    fix = "training.packing: true (with a max_length), or train_sampling_strategy: group_by_length"
    capacity = job.training.max_length
    fits = capacity is not None and _judged_fill(packed(prepared, job, capacity)) >= params.min_fill
    change = Change(f"jobs.{job.name}.training.packing", False, True, safe=False) if fits else None
    yield Finding(said, Severity.WARNING, job.at("training.packing"), fix, change)


def _without(job: Job, prepared: Prepared, waste: float) -> str:
    """What there is without packing, with the numbers that packing would have."""
    limit, count = job.training.max_length, len(prepared.sequences)
    said = f"packing is off: {count:,} rows, about {100 * waste:.0f} % of what is computed is padding"
    if limit is None:
        return said
    plan = packed(prepared, job, limit)
    full = f"{100 * plan.fill(plan.planned):.1f} % full"
    said += f"; packing would make {plan.planned:,} blocks of {limit}, {full}"
    fewer, now = steps(job, plan.planned).an_epoch, steps(job, count).an_epoch
    return f"{said}: {fewer:,} steps an epoch, not {now:,}"


def _loose(job: Job, prepared: Prepared, plan: Packed, params: PackingEfficiency) -> Finding:
    fill = plan.fill(plan.planned)
    message = f"the blocks are {100 * fill:.1f} % full, at least {100 * params.min_fill:.1f} % are asked for"
    ours = packed(prepared, _planned_by_us(job), plan.capacity)
    if ours.fill(ours.planned) >= params.min_fill:
        change = Change(f"jobs.{job.name}.training.packing_planner", job.training.packing_planner, "optimal")
        fix = f"packing_planner: optimal packs over all rows: {ours.planned:,} blocks, not {plan.planned:,}"
        return Finding(message, Severity.WARNING, job.at("training.packing_planner"), fix, change)
    better = _better_length(job, prepared, plan, params)
    if better is None:
        fix = "the rows' lengths leave gaps in blocks of this size: try another max_length, or no packing"
        return Finding(message, Severity.WARNING, job.at("training.max_length"), fix)
    path = f"jobs.{job.name}.training.max_length"
    change = Change(path, plan.capacity, better.capacity, safe=False)
    fix = f"max_length: {plan.capacity} -> {better.capacity} fills {100 * better.fill(better.planned):.1f} %"
    return Finding(message, Severity.WARNING, job.at("training.max_length"), fix, change)


def _planned_by_us(job: Job) -> Job:
    """The same job with ftcheck's own planner."""
    return replace(job, training=replace(job.training, packing_planner="optimal"))


def _better_length(job: Job, prepared: Prepared, plan: Packed, params: PackingEfficiency) -> Packed | None:
    """The next longer block that is full enough, within the target."""
    last = TRIED * plan.capacity
    if job.targets.max_length is not None:
        last = min(last, job.targets.max_length[1])
    first = (plan.capacity // STEP + 1) * STEP
    tried = (packed(prepared, job, capacity, quick=True) for capacity in range(first, last + 1, STEP))
    return next((one for one in tried if one.fill(one.planned) >= params.min_fill), None)


def _too_few(job: Job, plan: Packed) -> Iterator[Finding]:
    training, devices = job.training, max(1, job.hardware.count)
    at_once = training.per_device_train_batch_size * devices
    step = at_once * training.gradient_accumulation_steps
    if plan.planned >= step:
        return
    message = f"{plan.planned:,} blocks are fewer than the {step:,} that one optimizer step takes"
    key = "training.gradient_accumulation_steps"
    fits = plan.planned // at_once
    if not fits:
        fix = f"lower per_device_train_batch_size: {at_once} blocks are taken at once"
        yield Finding(message, at=job.at("training.per_device_train_batch_size"), fix=fix)
        return
    old = training.gradient_accumulation_steps
    change = Change(f"jobs.{job.name}.{key}", old, fits, safe=False)
    yield Finding(message, at=job.at(key), fix=f"gradient_accumulation_steps: {old} -> {fits}", change=change)


@rule("packing-isolation", family="lengths", cases="ftcheck_rules.lengths.cases.packing")
def packing_isolation(job: Job, packages: Packages) -> Iterator[Yield]:
    """Rows that are packed into one block do not see each other.

    A row that attends to the one before it learns to answer another's question; wrapped packing also cuts
    rows anywhere. The loss looks as it should, and the model is a little worse.

    Judged from packing_strategy, padding_free and the attention that model_init_kwargs names. TRL restarts
    the positions of each row, and transformers keeps such rows apart with eager, sdpa, flex and flash
    attention alike: packing needs no flash attention. What older versions did not do is noted. The facts
    are in `tables/attention.json`. Skipped where nothing is packed. No parameters.
    """
    training = job.training
    if not training.packing and not training.padding_free:
        yield Skip("nothing is packed: each row has a line of its batch for itself")
        return
    how = training.packing_strategy if training.packing else "padding_free"
    yield Measurement("packed_by", how)
    yield Summary(f"rows are apart ({how})" if how != "wrapped" else "rows see each other (wrapped)")
    if how == "wrapped":
        yield Finding(
            "wrapped packing: the rows of a block see each other, and are cut where a block ends",
            at=job.at("training.packing_strategy"),
            fix="packing_strategy: bfd",
            change=Change(f"jobs.{job.name}.training.packing_strategy", "wrapped", "bfd", safe=False),
        )
        return
    attention = unknown_attention(job)
    if attention is not None:
        yield Finding(
            f"attention {attention!r} is not known to keep the rows of a block apart",
            Severity.WARNING,
            at=job.at("training.model_init_kwargs"),
            fix="attn_implementation: sdpa, or a flash attention; or no packing",
        )
    yield from _older(job, packages)


def _older(job: Job, packages: Packages) -> Iterator[Finding]:
    """What the installed versions do not do yet; whether they may be used is for `environment` to say."""
    table = tables.load("attention")
    attention = (job.training.extra.get("model_init_kwargs") or {}).get("attn_implementation", "sdpa")
    flash = attention in table["flash"] or "/" in str(attention)
    place = job.at("training.packing")
    for key, what in (
        ("packed_without_flash", f"keeps packed rows apart with flash attention only, not with {attention}"),
        ("packed_positions", "does not restart the positions of packed rows on its own"),
    ):
        [(package, first)] = table[key].items()
        installed = packages.versions.get(package)
        if installed and _below(installed, first) and not (flash and key == "packed_without_flash"):
            message = f"{package} {installed} {what}"
            yield Finding(message, Severity.INFO, at=place, fix=f"{package} {first} or later")


def _below(version: str, bound: str) -> bool:
    """Whether the numbers that a version begins with are lower than those of another."""
    one, other = ([int(n) for n in re.findall(r"\d+", text)[:3]] for text in (version, bound))
    return one < other


@rule("tokens-per-step", family="lengths", cases="ftcheck_rules.lengths.cases.packing")
def tokens_per_step(job: Job, prepared: Prepared) -> Iterator[Yield]:
    """One optimizer step sees as many tokens as the targets ask for.

    With too few, the gradient is noise and the learning rate of the recipe is too high; with too many,
    an epoch has a handful of steps. A recipe is copied with its batch size and without its max_length.

    Nominal: batch x accumulation x devices x max_length (targets with 32k mean 32,768); beside it the
    tokens that are really there, by how full the blocks are, or the rows without packing. No parameters.
    """
    length = job.training.max_length
    if length is None:
        yield Skip("training.max_length is null: a step has no nominal number of tokens")
        return
    target = job.targets.tokens_per_step
    nominal = _at_once(job, length) * job.training.gradient_accumulation_steps
    limit = f"{target[0]} to {target[1]}" if target else None
    filled = round(nominal * _fill(job, prepared, length))
    yield Measurement("tokens_per_step", nominal, unit="tokens", limit=limit)
    yield Measurement("filled_tokens_per_step", filled, unit="tokens")
    yield Summary(f"{nominal:,} tokens a step, {filled:,} of them real")
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


def _off_target(job: Job, length: int, nominal: int, target: tuple[int, int]) -> Finding:
    low, high = target
    old, batch, devices = (
        job.training.gradient_accumulation_steps,
        job.training.per_device_train_batch_size,
        max(1, job.hardware.count),
    )
    count = f" x {devices}" if devices > 1 else ""
    message = f"{batch} x {old}{count} x {length} = {nominal:,} tokens a step, outside {low:,} to {high:,}"
    at, key = _at_once(job, length), "training.gradient_accumulation_steps"
    new = _steps(at, low, high)
    if new is None:
        fix = f"one batch holds {at:,} tokens: no accumulation meets the range, change the batch size"
        return Finding(message, at=job.at("training.per_device_train_batch_size"), fix=fix)
    change = Change(f"jobs.{job.name}.{key}", old, new, safe=False)
    fix = f"gradient_accumulation_steps: {old} -> {new} ({new * at:,} tokens a step)"
    return Finding(message, at=job.at(key), fix=fix, change=change)


def _steps(at_once: int, low: int, high: int) -> int | None:
    """The accumulation steps that come nearest to the middle of the range, if any lies in it."""
    middle = (low + high) / 2
    fitting = range(max(1, -(-low // at_once)), high // at_once + 1)
    return min(fitting, key=lambda steps: abs(steps * at_once - middle), default=None)
