"""Memory rule: does the largest batch fit the GPU, according to the memory model?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ftcheck import Change, Finding, Job, Machine, Measurement, Severity, Skip, Summary, rule
from ftcheck.errors import FtcheckError
from ftcheck.estimate.gpus import gpu_memory
from ftcheck.estimate.interval import Interval, Verdict
from ftcheck.estimate.memory.fit import (
    Largest,
    Remedy,
    cheapest,
    confirmed_batch,
    largest_batch,
    verdict,
    worst,
)
from ftcheck.estimate.memory.formulas import GIB, Memory
from ftcheck.estimate.memory.lower_bound import LowerBound, lower_bound
from ftcheck.estimate.memory.prediction import predict
from ftcheck.estimate.memory.shapes import CannotTell, usual_length
from ftcheck.extension.rules import Yield
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.model_shape import well_known
from ftcheck.inputs.modules import Modules
from ftcheck.inputs.prepared import Prepared

STATED = ("hardware.gpu", "hardware.memory_gib", "targets.memory_gib")
BATCH = "training.per_device_train_batch_size"


@rule("memory-fit", family="budget", cases="ftcheck_rules.budget.cases.memory_fit", only=STATED)
def memory_fit(job: Job, machine: Machine, inputs: Inputs) -> Iterator[Yield]:
    """The largest batch fits into the memory of the GPU, and within the target.

    A run that does not fit ends at the longest row, minutes or hours in; one that leaves half of the memory
    unused takes twice the steps it needs, and is paid for by the hour.

    Predicted from config.json, without a GPU: a step of the model's own code is traced on tensors without
    memory, and its blocks are replayed through a model of PyTorch's caching allocator, with loading and
    optimizer; as an interval with its assumptions. (By closed formulas where the limit is far away, torch and
    transformers are not installed, or the model's code cannot be traced: `predicted_by` says which it was,
    the assumptions of `ftcheck plan` why.) What is proposed instead is replayed, too; `(by formulas)` says
    where it was not. Compared with the smaller of targets.memory_gib and the GPU's
    memory (hardware.memory_gib; hardware.gpu's as torch reports it, or 9 % less than its name says; else this
    machine's). It is an error if the run goes out of memory there by the likely value, a warning if it does
    by the upper end; what PyTorch would give back is not counted. Of several GPUs it is what one holds, with
    DDP, FSDP2 or ZeRO (hardware.count, training.fsdp, training.deepspeed). Where the model or the training
    method is not modelled, its weights as they are loaded are the least it needs (bitsandbytes does not
    quantise fused experts): an error if they alone exceed the memory, else the check is skipped. No
    parameters.
    """
    limit, words = _limit(job, machine)
    if limit is None:
        yield Skip(words)
        return
    try:
        case = _Case.of(job, machine, inputs, limit)
        memory, said = case.memory, verdict(case.memory, limit)
        most = case.largest(said)
    except FtcheckError as error:
        yield from _at_least(job, inputs, limit, words, error)
        return
    yield from _measured(memory, limit, most)
    yield from _card(job, machine)
    how = _by(replayed=most.replayed)
    largest = f"the largest batch that fits is {most.batch}" if most.batch else "no batch fits"
    yield Summary(f"{_interval(memory)} GiB, {said} {limit:g} GiB; {largest} {how}{case.fed.assumed}")
    if said != "fits":
        yield from _found(job, memory, limit, words, case.remedy())


@dataclass(frozen=True, slots=True)
class _Fed:
    """Tokens of the longest row after truncation, the number of rows or blocks (None: unknown), what was
    assumed, and the rows themselves, where they could be read."""

    longest: int
    sequences: int | None
    assumed: str = ""
    prepared: Prepared | None = None

    def usual(self, job: Job) -> int | None:
        """Tokens of the longest row of a usual batch."""
        if self.prepared is None:
            return None
        return usual_length(job, self.prepared.fed(job.training.max_length))


@dataclass(frozen=True, slots=True)
class _Case:
    """A job on a GPU of `limit` GiB: what it needs, and what would fit there."""

    job: Job
    config: Mapping[str, Any]
    limit: float
    fed: _Fed
    machine: Machine
    memory: Memory
    by: Interval

    @classmethod
    def of(cls, job: Job, machine: Machine, inputs: Inputs, limit: float) -> "_Case":
        """Raises `FtcheckError` where the memory is unknown."""
        config, fed = _config(job, inputs), _fed(job, inputs)
        memory, by = worst(
            job,
            config,
            limit,
            longest=fed.longest,
            sequences=fed.sequences,
            usual=fed.usual(job),
            machine=machine,
        )
        return cls(job, config, limit, fed, machine, memory, by)

    def largest(self, said: Verdict) -> Largest:
        """The largest batch that fits, by a replayed step where the stated one was."""
        stated = self.job.training.per_device_train_batch_size
        longest, by = self.fed.longest, self.by
        if self.memory.least is None:
            most = largest_batch(self.job, self.config, self.limit, longest=longest, by=by)
            return Largest(most, False)
        found = confirmed_batch(self.job, self.config, self.limit, self._replays, longest=longest, by=by)
        # The stated batch was replayed, unless there are fewer rows.
        if said != "fits" and found.batch >= stated:
            return Largest(stated - 1, False)
        whole = self.fed.sequences is None or self.fed.sequences >= stated
        return Largest(stated, True) if said == "fits" and whole and found.batch < stated else found

    def remedy(self) -> Remedy | None:
        """The cheapest change that makes it fit; None where nothing does."""
        return cheapest(
            self.job,
            self.config,
            self.limit,
            longest=self.fed.longest,
            sequences=self.fed.sequences,
            by=self.by,
            replays=None if self.memory.least is None else self._replays,
        )

    def _replays(self, job: Job, longest: int, sequences: int | None) -> Memory:
        return predict(
            job,
            self.config,
            longest=longest,
            sequences=sequences,
            usual=self.fed.usual(job),
            machine=self.machine,
        )


def _by(*, replayed: bool) -> str:
    return "(replayed)" if replayed else "(by formulas)"


def _at_least(job: Job, inputs: Inputs, limit: float, source: str, error: FtcheckError) -> Iterator[Yield]:
    """The lower bound, where the memory is not modelled."""
    least = _lower_bound(job, inputs)
    if least is None:
        yield Skip(f"the memory is unknown: {error}")
        return
    total, experts = least.total / GIB, least.experts / GIB
    if total <= limit:
        yield Skip(f"the memory is unknown, but at least {total:.1f} of {limit:g} GiB: {error}")
        return
    yield Measurement("peak_gib_at_least", round(total, 2), unit="GiB", limit=f"<= {limit:g}")
    yield Measurement("unquantised_experts_gib", round(experts, 2), unit="GiB")
    yield Summary(f"at least {total:.1f} GiB, does not fit {limit:g} GiB")
    whole = job.training.lora is None
    what = "weights, gradients and optimizer states" if whole else "weights"
    message = f"the model's {what} alone need at least {total:.1f} GiB, but {source} is {limit:g} GiB:"
    message += " it does not fit"
    if experts:
        message += f"; {experts:.1f} GiB of them are fused experts, which bitsandbytes does not quantise"
    fix = "use a larger GPU or a smaller model" + (
        ", or train an adapter (training.lora)" if whole else ": no training setting makes it fit"
    )
    yield Finding(message, at=job.at("model.name"), fix=fix, why="The run ends while the model loads.")


def _lower_bound(job: Job, inputs: Inputs) -> LowerBound | None:
    try:
        config = _config(job, inputs)
    except FtcheckError:
        return None
    try:
        modules: Modules | None = inputs.get("modules")
    except FtcheckError:
        modules = None
    return lower_bound(job, config, modules)


def predicted(job: Job, inputs: Inputs) -> Memory:
    """The predicted memory of the largest batch. Raises `FtcheckError` where it is unknown."""
    fed = _fed(job, inputs)
    return predict(
        job, _config(job, inputs), longest=fed.longest, sequences=fed.sequences, usual=fed.usual(job)
    )


def batch_that_fits(job: Job, machine: Machine, inputs: Inputs) -> int | None:
    """The batch that `memory-fit` proposes; None where it proposes none. Another rule that asks for a
    smaller batch names no larger one.
    """
    limit, _ = _limit(job, machine)
    if limit is None:
        return None
    try:
        case = _Case.of(job, machine, inputs, limit)
        if verdict(case.memory, limit) == "fits":
            return None
        remedy = case.remedy()
    except FtcheckError:
        return None
    changes = remedy.changes if remedy is not None else ()
    return next((one.new for one in changes if _key(job, one) == BATCH), None)


def _limit(job: Job, machine: Machine) -> tuple[float | None, str]:
    """The smaller of target and hardware in GiB, and what it is; None with a reason."""
    have, source = gpu_memory(job, machine)
    target = job.targets.memory_gib
    known = [(have, source)] if have is not None else []
    if target is not None:
        known.append((target, "targets.memory_gib"))
    return min(known) if known else (None, source)


def _config(job: Job, inputs: Inputs) -> Mapping[str, Any]:
    """config.json; where it is not available, the dimensions of a well-known model of that name."""
    try:
        config: Mapping[str, Any] = inputs.get("model").config
    except FtcheckError:
        known = well_known(job.model.name)
        if known is None:
            raise
        return known
    return config


def _fed(job: Job, inputs: Inputs) -> _Fed:
    length = job.training.max_length
    try:
        prepared: Prepared = inputs.get("prepared")
    except FtcheckError:
        if length is None:
            raise
        return _Fed(length, None, " (rows could not be read: computed for training.max_length)")
    if not len(prepared.sequences):
        raise CannotTell("there are no rows to measure")
    fed = prepared.fed(length)
    count = len(fed)
    if job.training.packing and length is not None:
        count = -(-int(fed.sum()) // length)
    return _Fed(int(fed.max()), count, prepared=prepared)


def _measured(memory: Memory, limit: float, most: Largest) -> Iterator[Measurement]:
    yield Measurement("peak_gib", _gib(memory.likely), unit="GiB", limit=f"<= {limit:g}")
    yield Measurement("peak_gib_low", _gib(memory.low), unit="GiB")
    yield Measurement("peak_gib_high", _gib(memory.high), unit="GiB")
    yield Measurement("largest_batch", most.batch)
    yield Measurement("largest_batch_by", "replay" if most.replayed else "formulas")
    yield Measurement("predicted_by", "formulas" if memory.least is None else "replay")
    for name, size in memory.parts.items():
        yield Measurement(f"{name}_gib", _gib(size), unit="GiB")


def _card(job: Job, machine: Machine) -> Iterator[Measurement]:
    """What the GPU has, beside what the policy allows of it."""
    have, _ = gpu_memory(job, machine)
    name = job.hardware.gpu or next((one.name for one in machine.gpus), None)
    if have is not None:
        yield Measurement("card_gib", round(have, 2), unit="GiB")
    if name is not None:
        yield Measurement("card", name)


def _found(job: Job, memory: Memory, limit: float, source: str, remedy: Remedy | None) -> Iterator[Finding]:
    over = verdict(memory, limit) == "does not fit"
    message = (
        f"a batch of {memory.feed.rows} x {memory.feed.length} tokens needs {_interval(memory)} GiB, but"
        f" {source} is {limit:g} GiB: it {'does not fit' if over else 'may not fit'}"
    )
    severity = Severity.ERROR if over else Severity.WARNING
    if remedy is None:
        fix = "use a larger GPU or a smaller model: no training setting makes it fit"
        yield Finding(message, severity, at=job.at(BATCH), fix=fix)
        return
    first, *rest = remedy.changes
    how = _by(replayed=remedy.memory.least is not None)
    fix = f"{', '.join(map(_words, remedy.changes))}: {_interval(remedy.memory)} GiB {how}"
    yield Finding(message, severity, at=job.at(_key(job, first)), fix=fix, change=first)
    for one in rest:
        together = f"to be changed together with {_words(first)}"
        yield Finding(together, Severity.INFO, at=job.at(_key(job, one)), fix=_words(one), change=one)


def _key(job: Job, change: Change) -> str:
    return change.path.removeprefix(f"jobs.{job.name}.")


def _words(change: Change) -> str:
    new = str(change.new).lower() if isinstance(change.new, bool) else change.new
    return f"{change.path.rpartition('.')[2]}: {new}"


def _interval(memory: Memory) -> str:
    return f"{memory.likely / GIB:.1f} ({memory.low / GIB:.1f} to {memory.high / GIB:.1f})"


def _gib(size: float) -> float:
    return round(size / GIB, 2)
