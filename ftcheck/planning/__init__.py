"""What `ftcheck plan` works out before the GPU: lengths, packing, steps, memory, time, better settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ftcheck.errors import FtcheckError, InputError
from ftcheck.estimate.memory.fit import REPLAYS, far
from ftcheck.estimate.run_time import TRAINERS
from ftcheck.estimate.steps import devices, drops_last, shares, steps
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.evaluation import GoldSet
from ftcheck.inputs.machine import Machine
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.modules import Modules
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.probe import Probe
from ftcheck.inputs.role_tokens import RoleTokens
from ftcheck.planning import estimates, targets
from ftcheck.planning.config import training_config
from ftcheck.planning.lengths import lengths
from ftcheck.planning.packing import packing
from ftcheck.planning.records import Figure, JobPlan, Lengths, Option, Packing, Step, Unplanned
from ftcheck.planning.sampled import on_sample
from ftcheck.planning.search import Bounds, Search, effective_tokens, settings
from ftcheck.plurals import agreeing, counted
from ftcheck.records import Change
from ftcheck.settings import Job

GIB = 1 << 30
LARGEST = 256
"""Batch sizes are tried up to this when the largest that fits is sought."""

__all__ = ["Asked", "JobPlan", "Unplanned", "plan", "stated"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the plan may choose: the share of trained tokens it may lose, and the percentile it must hold."""

    max_lost: float = 0.01
    percentile: float = 95.0


def plan(job: Job, inputs: Inputs, asked: Asked = Asked(), probed: Probe | None = None) -> JobPlan:
    """The plan of one job. Raises `InputError` where its training data cannot be read or holds no row.

    With `probed`, real steps of the job on this machine, memory and time are measured ones.
    """
    return _planner(job, inputs, asked, probed, speaks=True).plan()


def stated(job: Job, inputs: Inputs) -> Option:
    """What the job takes as it is stated: memory and hours; nothing better is sought. Raises as `plan`."""
    return _planner(job, inputs, Asked(), None).stated()


def _planner(
    job: Job, inputs: Inputs, asked: Asked, probed: Probe | None, *, speaks: bool = False
) -> "_Planner":
    """`speaks`: whose words the tokens are is told too, which takes another pass over the rows."""
    prepared: Prepared = inputs.get("prepared")
    if not len(prepared.sequences):
        raise InputError(f"job {job.name}: no row is left to train on{_first_trouble(prepared)}")
    model, problem = _opened(inputs, "model")
    machine, _ = _opened(inputs, "machine")
    gold, _ = _opened(inputs, "gold") if job.data.gold is not None else (None, "")
    evaluates = job.evaluates
    evaluated, _ = _opened(inputs, "prepared_eval") if evaluates else (None, "")
    role_tokens = _opened(inputs, "role_tokens") if speaks else (None, "not asked for")
    return _Planner(
        job,
        prepared,
        model,
        problem,
        machine,
        gold,
        evaluated,
        role_tokens,
        asked,
        probed,
        lambda: _opened(inputs, "modules")[0],
    )


def _first_trouble(prepared: Prepared) -> str:
    if not prepared.row_errors:
        return ""
    row = min(prepared.row_errors)
    return f"; {prepared.at(row)}: {prepared.row_errors[row].message}"


def _opened(inputs: Inputs, name: str) -> tuple[Any, str]:
    """An input that the plan can do without, or None and why it cannot be opened."""
    try:
        return inputs.get(name), ""
    except FtcheckError as error:
        return None, str(error.problems[0].message)


@dataclass(frozen=True)
class _Planner:
    """Puts one job's plan together."""

    job: Job
    prepared: Prepared
    model: ModelConfig | None
    problem: str
    machine: Machine | None
    gold: GoldSet | None
    evaluated: Prepared | None
    role_tokens: tuple[RoleTokens | None, str]
    asked: Asked
    probed: Probe | None = None
    modules: Callable[[], Modules | None] = lambda: None

    def stated(self) -> Option:
        found, known = lengths(self.prepared, self.job, self.asked.percentile), self._estimates()
        search = Search(self.job, self.prepared, found, Bounds(1.0, None, None), known.memory, known.hours)
        return search.option(self.job, "stated", {})

    def _estimates(self) -> estimates.Estimates:
        return estimates.Estimates(
            self.model,
            self.problem,
            self.machine,
            self.evaluated,
            self.job,
            self.probed,
            self.prepared,
            self.modules,
        )

    def plan(self) -> JobPlan:
        job = self.job
        found = lengths(self.prepared, job, self.asked.percentile)
        disk, disk_words = self._disk()
        known = self._estimates()
        limit, source = self._memory_limit()
        context = self.model.context if self.model is not None else None
        bounds = Bounds(self.asked.max_lost, limit, context)
        replayed = partial(known.memory, replay=True)
        search = Search(job, self.prepared, found, bounds, known.memory, known.hours, replayed)
        options = search.options()
        stated = options[0]
        chosen = next((one for one in options if one.role == "best"), stated)
        packed = self._packing(found)
        step = self._step(packed, stated)
        cost = estimates.cost(job, stated.hours)
        largest, largest_by = self._largest_batch(known, stated, limit)
        answers = [one.answer_tokens for one in self.gold.items] if self.gold is not None else []
        return JobPlan(
            job=job.name,
            model=job.model.name,
            how=how(job),
            lengths=found,
            role_tokens=self.role_tokens[0],
            role_tokens_problem=self.role_tokens[1],
            packing=packed,
            step=step,
            memory=stated.memory,
            memory_limit=limit,
            memory_source=source,
            largest_batch=largest,
            largest_batch_by=largest_by,
            time=stated.hours,
            cost=cost,
            serving=estimates.serving(job, self.gold),
            disk=disk,
            disk_words=disk_words,
            options=options,
            searched=self._searched(search, options),
            targets=tuple(targets.targets(job, found, step, stated.memory, stated.hours, cost, answers)),
            changes=_changes(job, chosen),
            config=training_config(job, chosen),
            notes=tuple(self._notes(found)),
            probe=_told(self.probed) if self.probed is not None else "",
            card=self._card_name(),
            card_gib=self._card()[0],
            on_sample=on_sample(job, self.prepared),
        )

    def _packing(self, found: Lengths) -> Packing | None:
        length = self.job.training.max_length or found.packed.length
        return packing(self.prepared, self.job, length) if length is not None else None

    def _step(self, packed: Packing | None, stated: Option) -> Step:
        training = self.job.training
        packs = training.packing and packed is not None and training.max_length is not None
        fed = packed.planned if packs and packed is not None else len(self.prepared.sequences)
        scale = self.prepared.rows.total / max(1, len(self.prepared))
        fed, real = (round(one * scale) for one in (fed, int(self.prepared.fed(training.max_length).sum())))
        made = steps(self.job, fed)
        shared = shares(self.job, fed)
        whole = drops_last(self.job) or len(shared) == 1
        missing = 0 if whole else -fed % (training.per_device_train_batch_size * len(shared))
        fills = self.job.trainer.use in TRAINERS
        return Step(
            batch=training.per_device_train_batch_size,
            accumulation=training.gradient_accumulation_steps,
            devices=devices(self.job),
            nominal=effective_tokens(self.job),
            real=round(real / fed * made.batch) if fed else 0,
            target=self.job.targets.tokens_per_step,
            an_epoch=made.an_epoch,
            total=made.total,
            epochs=made.epochs,
            shares=shared,
            filled=missing if fills else 0,
            repeated=0 if fills else missing,
            dropped=fed - sum(shared),
        )

    def _memory_limit(self) -> tuple[float | None, str]:
        """The memory that a device has, or may use, in GiB: the smaller of hardware's and the target's."""
        has, source = self._card()
        asked = self.job.targets.memory_gib
        if asked is not None and (has is None or asked <= has):
            return asked, "targets.memory_gib"
        return has, source

    def _card(self) -> tuple[float | None, str]:
        """The memory of one GPU in GiB, and where that is from."""
        from ftcheck.estimate.gpus import gpu_memory

        return gpu_memory(self.job, self.machine or Machine(system="", cpus=1, memory=0))

    def _card_name(self) -> str:
        here = self.machine.gpus[0].name if self.machine is not None and self.machine.gpus else ""
        return self.job.hardware.gpu or here

    def _largest_batch(
        self, known: estimates.Estimates, stated: Option, limit: float | None
    ) -> tuple[int | None, str]:
        """The largest batch whose whole interval fits, and how it was found (`Figure.by`).

        0 if not even one does, None if it cannot be told.
        """
        if limit is None or stated.memory.high is None:
            return None, ""
        longest = int(self.prepared.fed(stated.length).max(initial=0))
        longest = stated.length if self.job.training.packing else longest

        def at(batch: int, *, replay: bool = False) -> Figure:
            training = replace(self.job.training, per_device_train_batch_size=batch)
            job = replace(self.job, training=training)
            return known.memory(job, longest, max(batch, stated.fed), replay=replay)

        def most(room: float, high: int) -> int:
            low = 0
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if at(middle).fits(room) == "fits" else (low, middle - 1)
            return low

        return _confirmed(at, most, limit)

    def _disk(self) -> tuple[Figure, str]:
        """What the run writes at most, and what that is in words."""
        from ftcheck.estimate.disk import estimate

        found = estimate(self.job)
        if not found.bytes:
            return Figure(unit="GiB", why=f"unknown: {found.problem}"), ""
        size, count = found.bytes / GIB, found.checkpoints
        words = (
            f"in {counted(count, 'checkpoint')}"
            if count is not None
            else "per checkpoint; save_total_limit is not set"
        )
        assumes = ("trained weights in float32 and the optimizer's states, one more than save_total_limit",)
        return Figure(None, size, size, "GiB", assumes=assumes), words

    def _searched(self, search: Search, options: Sequence[Option]) -> str:
        tried = ", ".join(f"{one:,}" for one in search.tried_lengths()) or "none in its range"
        by = "GPU-hours" if options[0].hours.known else "computed tokens (the hours are unknown)"
        said = f"max_length {tried}; batches 1 to 64; with and without packing; chosen by the fewest {by}"
        return f"{said}; at most {100 * self.asked.max_lost:g} % of the trained tokens lost"

    def _notes(self, found: Lengths) -> Sequence[str]:
        notes = [f"prompt and completion are separated by the loss mask: {_split(found)}"]
        broken = len(self.prepared.row_errors)
        if broken:
            are = agreeing(broken, "is", "are")
            which = f"{counted(broken, 'row')} cannot be prepared and {are} not counted"
            notes.append(f"{which}{_first_trouble(self.prepared)}")
        if not found.trained.exact:
            notes.append("the positions of trained tokens were counted in a sample of the rows")
        return notes


def _confirmed(at: Callable[..., Figure], most: Callable[[float, int], int], limit: float) -> tuple[int, str]:
    """The largest batch that fits, and how it was found: by a replayed step, from the formulas' batch (`most`
    of a room) downwards. Far from the limit (all batches that are tried fit) the formulas decide."""
    batch = max(1, most(limit, LARGEST))
    first = at(batch)
    if far(first.low or 0.0, first.high or 0.0, limit):
        return batch if first.fits(limit) == "fits" else 0, first.by
    for _ in range(REPLAYS):
        made, formula = at(batch, replay=True), at(batch)
        if made.fits(limit) == "fits":
            return batch, made.by
        if batch == 1:
            return 0, made.by
        needed = made.high if made.needed is None else made.needed[2]
        room = limit * (formula.high or 0.0) / needed if needed else 0.0
        left = most(room, batch - 1)
        batch = max(1, left)
    return left, "formulas"


def _told(probed: Probe) -> str:
    peak = "" if probed.peak_gib is None else f", peak {probed.peak_gib:.2f} GiB"
    batch = f"{probed.sequences} x up to {probed.longest:,} tokens"
    steps = counted(probed.steps, "step")
    return f"{steps} on {probed.device}, {batch}: {probed.tokens_per_second:,.0f} tokens/s{peak}"


def _split(found: Lengths) -> str:
    if found.completion is None:
        return "here the whole row is in the loss"
    return "the completion is the last run of tokens in the loss, the prompt is everything before"


def how(job: Job) -> str:
    """`QLoRA r 16`, `LoRA r 8`, `full fine-tuning`."""
    training = job.training
    if training.lora is None:
        return "full fine-tuning"
    quantised = training.quantization is not None and (
        training.quantization.load_in_4bit or training.quantization.load_in_8bit
    )
    return f"{'QLoRA' if quantised else 'LoRA'} r {training.lora.r}"


def _changes(job: Job, chosen: Option) -> tuple[Change, ...]:
    """What turns the stated settings into the chosen ones."""
    old = {key: getattr(job.training, key) for key in settings(chosen)}
    return tuple(
        Change(f"jobs.{job.name}.training.{key}", old[key], new, safe=False)
        for key, new in settings(chosen).items()
        if old[key] != new
    )
