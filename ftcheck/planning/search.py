"""Better settings: the search over max_length, batch, accumulation and packing."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ftcheck.estimate.blocks import spread
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.memory.fit import far
from ftcheck.estimate.run_time import EXACTLY
from ftcheck.estimate.steps import devices, steps
from ftcheck.inputs.prepared import Prepared
from ftcheck.planning.packing import blocks_at, computed, planned_blocks
from ftcheck.planning.records import Figure, Lengths, Option
from ftcheck.planning.sampled import wider
from ftcheck.settings import Job

BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Batch sizes that are tried, beside the stated one."""
MAX_LENGTHS = 8
"""So many lengths are tried at the most."""
WORTH = 0.05
"""A share of the GPU-hours that is worth a change of settings; less is lost in the interval."""
LEAST = 0.025
"""What the settings that are chosen gain on the stated ones at the least."""
SMALLER = 0.75
"""Where time cannot be told, what feeds less than this share of the stated tokens at once is left out."""
SHOWN = 5
"""So many rows of the trade-off."""

Memory = Callable[[Job, int, int], Figure]
"""Peak memory in GiB of a job whose longest sequence (block) has so many tokens, of so many sequences."""
Hours = Callable[[Job, "Work"], Figure]
"""Hours of a job's steps, by what they feed."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a job feeds: `sequences` (or blocks), `real` and `computed` tokens an epoch, `steps` in all.

    `longest` tokens has a sequence (a block: max_length), `mean` a row.
    """

    sequences: int
    real: int
    computed: int
    steps: int
    epochs: float
    real_a_step: float
    longest: int
    mean: float


@dataclass(frozen=True)
class Bounds:
    """What a choice must keep to: the share of trained tokens it may lose, memory in GiB, the context."""

    max_lost: float
    memory: float | None
    context: int | None


@dataclass(frozen=True)
class Search:
    """Tries settings of one job on its prepared rows; every length is packed once."""

    job: Job
    prepared: Prepared
    lengths: Lengths
    bounds: Bounds
    memory: Memory
    hours: Hours
    replayed: Memory | None = None
    """The same as `memory`, by a replayed step: of what is shown."""

    def options(self) -> tuple[Option, ...]:
        """The trade-off: the stated settings, the best ones, and what else there is to choose from."""
        fed: dict[tuple[Any, ...], tuple[int, int]] = {}
        stated = self.option(self.job, "as stated", fed)
        tried = [self._judged(self.option(one, "", fed), stated) for one in self._candidates()]
        good = sorted((one for one in tried if not one.problems), key=self._order)
        return tuple(_still_worth(self._confirmed(stated, good)))

    def _confirmed(self, stated: Option, good: Sequence[Option]) -> list[Option]:
        """The trade-off, each of its settings replayed. Where a replay refuses some, they and what needs as
        much by the formulas are no choice, and the next are taken."""
        while True:
            shown = [self._replayed(self._planned(one)) for one in _trade_off(stated, good)]
            refused = {_key(one) for one in shown[1:] if one.problems}
            if not refused:
                return shown
            least = min(_most(one) for one in good if _key(one) in refused)
            good = [one for one in good if _most(one) < least]

    def _replayed(self, option: Option) -> Option:
        """With the memory of a replayed step, unless the formulas leave no doubt."""
        limit, found = self.bounds.memory, option.memory
        if self.replayed is None or limit is None or found.by != "formulas":
            return option
        if found.low is None or found.high is None or far(found.low, found.high, limit):
            return option
        job = self._job_of(option)
        made = replace(option, memory=self.replayed(job, self._longest(job), option.fed))
        return replace(made, problems=tuple(self._problems(made)))

    def _planned(self, option: Option) -> Option:
        """The same with the blocks that the job's own planner makes, which takes longer to find."""
        job = self._job_of(option)
        length = job.training.max_length
        if not option.packing or length is None:
            return option
        blocks = self._of_all(planned_blocks(self.prepared, job, length))
        return self.option(job, option.role, {_fed_key(job): (blocks, blocks * length)})

    def _job_of(self, option: Option) -> Job:
        if option.role == "as stated":
            return self.job
        return changed(self.job, option.length, option.batch, option.accumulation, packing=option.packing)

    def _candidates(self) -> Iterator[Job]:
        for length in self.tried_lengths():
            for packing in (True, False):
                for batch in sorted({*BATCHES, self.job.training.per_device_train_batch_size}):
                    for accumulation in self._accumulations(length, batch):
                        yield changed(self.job, length, batch, accumulation, packing=packing)

    def tried_lengths(self) -> tuple[int, ...]:
        """The stated length, the recommended ones, and those of the target's range, evenly spread."""
        target, found = self.job.targets.max_length, self.lengths
        first = {self.job.training.max_length, found.packed.length, found.unpacked.length}
        within = sorted(one for one in first if one is not None and self._allowed(one))
        if target is not None:
            spread = [one for one in range(-(-target[0] // 64) * 64, target[1] + 1, 64) if self._allowed(one)]
            stride = max(1, -(-len(spread) // max(1, MAX_LENGTHS - len(within))))
            within += [one for one in spread[::-1][::stride] if one not in within]
        return tuple(sorted(within))

    def _allowed(self, length: int) -> bool:
        target, context = self.job.targets.max_length, self.bounds.context
        return (target is None or target[0] <= length <= target[1]) and (context is None or length <= context)

    def _accumulations(self, length: int, batch: int) -> Iterable[int]:
        """The accumulation steps that come nearest to the stated tokens a step, or to the range's middle."""
        training, targets = self.job.training, self.job.targets
        at_once = batch * devices(self.job) * length
        if targets.effective_batch is not None:
            exact, rest = divmod(targets.effective_batch, batch * devices(self.job))
            return () if rest or not exact else (exact,)
        stated = effective_tokens(self.job) or at_once * training.gradient_accumulation_steps
        if targets.tokens_per_step is None:
            return (max(1, round(stated / at_once)),)
        low, high = targets.tokens_per_step
        aim = stated if low <= stated <= high else (low + high) / 2
        fitting = range(max(1, -(-low // at_once)), high // at_once + 1)
        return [min(fitting, key=lambda count: abs(count * at_once - aim))] if fitting else ()

    def option(self, job: Job, role: str, known: dict[tuple[Any, ...], tuple[int, int]]) -> Option:
        """What these settings take and lose. `known` remembers what was packed or padded already."""
        training, limit = job.training, job.training.max_length
        fed, all_tokens = self._fed(job, known)
        longest = self._longest(job)
        made, real = steps(job, fed), self._of_all(int(self.prepared.fed(limit).sum()))
        memory = self.memory(job, longest, fed)
        a_step = real / fed * made.batch if fed else 0.0
        mean = real / max(1, self._of_all(len(self.prepared.sequences)))
        work = Work(fed, real, all_tokens, made.total, made.epochs, a_step, longest, mean)
        found = Option(
            length=limit or longest,
            batch=training.per_device_train_batch_size,
            accumulation=training.gradient_accumulation_steps,
            packing=training.packing,
            fed=fed,
            computed=all_tokens,
            nominal=made.batch * (limit or longest),
            real=round(a_step),
            steps=made.total,
            lost=1 - self.lengths.trained.kept(limit) if limit is not None else 0.0,
            memory=memory,
            hours=wider(self.hours(job, work), self._spread(job)),
            role=role,
        )
        return replace(found, problems=tuple(self._problems(found)))

    def _longest(self, job: Job) -> int:
        limit = job.training.max_length
        if job.training.packing and limit is not None:
            return limit
        longest = int(self.prepared.lengths().max(initial=0))
        return longest if limit is None else min(limit, longest)

    def _fed(self, job: Job, known: dict[tuple[Any, ...], tuple[int, int]]) -> tuple[int, int]:
        """Sequences (or blocks) an epoch, and the tokens that are computed."""
        lengths, key = self.prepared.lengths(), _fed_key(job)
        packs = job.training.packing and job.training.max_length is not None
        if key not in known:
            blocks = blocks_at(lengths, job.training) if packs else None
            fed = len(lengths) if blocks is None else blocks
            known[key] = (self._of_all(fed), self._of_all(computed(lengths, job, blocks)))
        return known[key]

    def _of_all(self, count: int) -> int:
        """A count on the prepared rows, scaled to all where these are a sample."""
        sample = self.prepared.sample
        return count if sample is None else round(count * sample.of / sample.rows)

    def _spread(self, job: Job) -> Interval:
        """By which factors steps may be off because rows were drawn: for all settings as for the stated."""
        return EXACTLY if job.training.max_steps > 0 else self._stated_spread

    @cached_property
    def _stated_spread(self) -> Interval:
        return EXACTLY if self.prepared.sample is None else spread(self.job, self.prepared)

    def _problems(self, option: Option) -> Iterator[str]:
        bounds, targets = self.bounds, self.job.targets
        if not self._allowed(option.length):
            yield "max_length outside targets.max_length"
        if option.lost > bounds.max_lost:
            yield f"loses {100 * option.lost:.1f} % of the trained tokens"
        asked = targets.tokens_per_step
        if asked is not None and not asked[0] <= option.nominal <= asked[1]:
            target = f"targets.tokens_per_step is {asked[0]:,} to {asked[1]:,}"
            yield f"{option.nominal:,} tokens per step, {target}"
        if option.fed < option.batch * option.accumulation * devices(self.job):
            yield "an epoch is less than one step"
        if bounds.memory is not None and option.memory.fits(bounds.memory) not in (None, "fits"):
            sure = option.memory.fits(bounds.memory) == "does not fit"
            yield f"{'does' if sure else 'may'} not fit {bounds.memory:g} GiB"
        if asked is not None and asked[0] <= option.nominal and not option.packing and option.real < asked[0]:
            yield f"{option.real:,} real tokens per step without packing, at least {asked[0]:,} are required"

    def _judged(self, option: Option, stated: Option) -> Option:
        """Where memory cannot be told, nothing larger than stated is a choice; where time cannot, nothing
        that feeds the GPU fewer tokens at once, which would be slower by what nobody knows.
        """
        problems = list(option.problems)
        if not option.memory.known and option.batch * option.length > stated.batch * stated.length:
            problems.append("larger than stated, and the memory is unknown")
        if not option.hours.known and at_once(option) < SMALLER * at_once(stated):
            problems.append("fewer tokens at once than stated, and the time is unknown")
        return replace(option, problems=tuple(problems))

    def _order(self, option: Option) -> tuple[float, float, float]:
        """GPU-hours first (else the tokens computed), then near to the stated tokens a step, then memory."""
        stated = effective_tokens(self.job) or option.nominal
        return (effort(option), abs(option.nominal - stated), option.memory.likely or option.batch)


def _fed_key(job: Job) -> tuple[Any, ...]:
    """What the fed sequences and their padding depend on."""
    training = job.training
    packs = training.packing and training.max_length is not None
    return (training.max_length, packs, 0 if packs else training.per_device_train_batch_size)


def _most(option: Option) -> float:
    return math.inf if option.memory.high is None else option.memory.high


def effort(option: Option) -> float:
    """What settings are compared by: hours where they are known, else the tokens that are computed."""
    return option.computed if option.hours.likely is None else option.hours.likely


def at_once(option: Option) -> float:
    """Real tokens that one device takes at once."""
    return option.real / option.accumulation


def effective_tokens(job: Job) -> int | None:
    """Nominal tokens a step: batch x accumulation x devices x max_length; None without a max_length."""
    training = job.training
    at_once = training.per_device_train_batch_size * devices(job)
    return (
        None
        if training.max_length is None
        else (at_once * training.gradient_accumulation_steps * training.max_length)
    )


def changed(job: Job, length: int, batch: int, accumulation: int, *, packing: bool) -> Job:
    """The job with these settings."""
    training = replace(
        job.training,
        max_length=length,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        packing=packing,
    )
    return replace(job, training=training)


def settings(option: Option) -> Mapping[str, Any]:
    """The training arguments that an option stands for."""
    return {
        "max_length": option.length,
        "packing": option.packing,
        "per_device_train_batch_size": option.batch,
        "gradient_accumulation_steps": option.accumulation,
    }


def _trade_off(stated: Option, good: Sequence[Option]) -> Iterator[Option]:
    """The stated settings, the best, and the best of other kinds; each once."""
    yield stated
    if not good:
        return
    chosen = _chosen(stated, good)
    seen = {_key(stated)} if stated.problems else {_key(stated), _key(chosen)}
    if _key(chosen) != _key(stated):
        yield replace(chosen, role="best")
        seen.add(_key(chosen))
    for role, option in _others(chosen, good):
        if _key(option) not in seen and len(seen) < SHOWN:
            seen.add(_key(option))
            yield replace(option, role=role)


def _chosen(stated: Option, good: Sequence[Option]) -> Option:
    """The best, or the stated settings where they are as good within what is worth a change."""
    best = good[0]
    enough = not stated.problems and effort(stated) <= effort(best) * (1 + WORTH)
    return stated if enough else _mildest(stated, best, good)


def _still_worth(options: Sequence[Option]) -> Iterator[Option]:
    """Without a best that, with the blocks the planner really makes, gains nothing on the stated settings."""
    stated = options[0]
    for one in options:
        gains = stated.problems or effort(one) <= effort(stated) * (1 - LEAST)
        if one.role != "best" or gains:
            yield one


def _mildest(stated: Option, best: Option, good: Sequence[Option]) -> Option:
    """Of options as good as the best, the one that changes the fewest settings, then the smallest."""
    limit = effort(best) * (1 + WORTH)
    if not stated.problems:
        limit = min(limit, effort(stated) * (1 - LEAST))
    near = [one for one in good if effort(one) <= limit] or [best]
    old = settings(stated)

    def change(one: Option) -> tuple[float, float, float]:
        changed_keys = sum(settings(one)[key] != old[key] for key in old)
        return changed_keys, one.memory.likely or one.batch * one.length, effort(one)

    return min(near, key=change)


def _others(chosen: Option, good: Sequence[Option]) -> Iterator[tuple[str, Option]]:
    """What else could be chosen: least time, least memory, no loss, the other way of packing."""
    if effort(good[0]) < effort(chosen):
        yield "fewest GPU-hours" if chosen.hours.known else "fewest tokens", good[0]
    measured = [one for one in good if one.memory.likely is not None]
    if measured and chosen.memory.likely is not None:
        least = min(measured, key=lambda one: (one.memory.likely, effort(one)))
        if (least.memory.likely or 0.0) < chosen.memory.likely:
            yield "least memory", least
    whole = [one for one in good if not one.lost]
    if whole and chosen.lost:
        yield "loses nothing", whole[0]
    other = [one for one in good if one.packing != chosen.packing]
    if other:
        yield "without packing" if chosen.packing else "with packing", other[0]


def _key(option: Option) -> tuple[Any, ...]:
    return tuple(settings(option).values())
