"""The one place where the plan asks for estimates: peak memory, time, cost, and the load of serving."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from ftcheck.errors import InputError
from ftcheck.estimate import run_time, serving_load
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.memory.formulas import Memory, estimate
from ftcheck.estimate.memory.lower_bound import lower_bound
from ftcheck.estimate.memory.prediction import ALIKE, predict, scale, scaled
from ftcheck.estimate.memory.shapes import usual_length
from ftcheck.estimate.steps import devices, every
from ftcheck.inputs.evaluation import GoldSet
from ftcheck.inputs.machine import Machine
from ftcheck.inputs.model import ModelConfig
from ftcheck.inputs.modules import Modules
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.probe import Probe
from ftcheck.planning import probe
from ftcheck.planning.records import Figure
from ftcheck.planning.search import Work
from ftcheck.plurals import counted
from ftcheck.report.wording import MEMORY_PARTS
from ftcheck.settings import Job

GIB = 1 << 30
OTHERS = "other settings are faster or slower than the probed ones by as much as the tables say"


def unknown(why: str) -> str:
    """`unknown: no GPU …`; a reason that says so itself stands alone."""
    return why if why.startswith("unknown") else f"unknown: {why}"


@dataclass(frozen=True)
class Estimates:
    """Estimates for variants of one job. `model` is its config.json, or None with the reason in `problem`.

    `evaluated` are the rows of data.eval, None where nobody evaluates. `probed` are real steps of `stated`,
    the job as the policy has it: it is to be asked for before its variants, which are held against it.
    `trained` are the rows that are trained on; `modules` opens the model's modules, for the least that it
    needs where its memory is not modelled.
    """

    model: ModelConfig | None
    problem: str = ""
    machine: Machine | None = None
    evaluated: Prepared | None = None
    stated: Job | None = None
    probed: Probe | None = None
    trained: Prepared | None = None
    modules: Callable[[], Modules | None] = lambda: None
    _paces: list[Interval | None] = field(default_factory=list)
    _replayed: list[tuple[object, Memory, Interval]] = field(default_factory=list)
    _bounds: list[float | None] = field(default_factory=list)

    def memory(self, job: Job, longest: int, sequences: int, *, replay: bool = False) -> Figure:
        """Peak memory in GiB of the largest batch of `sequences` (blocks) of at most `longest` tokens.

        By a replayed step for the first that is asked for, the job as it is stated, and for those that are
        to be replayed; else by the formulas, scaled to that first one.
        """
        found = self._memory(job, longest, sequences, replay=replay and not self._measured)
        if self.probed is None or self.stated is None:
            return found
        stated = self._memory(self.stated, self.probed.longest, self.probed.sequences)
        return probe.memory(found, stated, self.probed, same=_same(job, self.stated))

    @property
    def _measured(self) -> bool:
        return self.probed is not None and self.probed.peak_gib is not None

    def _memory(self, job: Job, longest: int, sequences: int, *, replay: bool = False) -> Figure:
        if self.model is None:
            return Figure(unit="GiB", why=f"unknown: {self.problem}")
        try:
            found = self._scaled(self.model, job, longest, sequences, replay=replay)
        except InputError as error:
            return Figure(unit="GiB", why=f"unknown: {error}", at_least=self._at_least(self.model, job))
        low, likely, high = (one / GIB for one in (found.low, found.likely, found.high))
        least = found.least
        needed = None if least is None else (least.low / GIB, least.likely / GIB, least.high / GIB)
        parts = _parts(found.parts)
        return Figure(
            low,
            likely,
            high,
            "GiB",
            parts=parts,
            assumes=found.assumptions,
            needed=needed,
            by="formulas" if least is None else "replay",
        )

    def _at_least(self, model: ModelConfig, job: Job) -> float | None:
        """GiB that are needed in any case; they depend on nothing that the plan would change."""
        if not self._bounds:
            found = lower_bound(job, model.config, self.modules())
            self._bounds.append(None if found is None else found.total / GIB)
        return self._bounds[0]

    def _scaled(self, model: ModelConfig, job: Job, longest: int, sequences: int, *, replay: bool) -> Memory:
        key = (job.training, longest, sequences)
        formula = partial(estimate, job, model.config, longest=longest, sequences=sequences)
        if replay or not self._replayed:
            found = self._predicted(model, job, longest, sequences)
            if not self._replayed:
                by = ALIKE if found.least is None else scale(found, formula(traced=True))
                self._replayed.append((key, found, by))
            return found
        stated, memory, by = self._replayed[0]
        return memory if key == stated else scaled(formula(traced=by != ALIKE), by)

    def _predicted(self, model: ModelConfig, job: Job, longest: int, sequences: int) -> Memory:
        rows = self.trained
        usual = None if rows is None else usual_length(job, rows.fed(job.training.max_length))
        return predict(
            job, model.config, longest=longest, sequences=sequences, usual=usual, machine=self.machine
        )

    def hours(self, job: Job, work: Work) -> Figure:
        """Hours of all steps, with checkpoints; `parts` are hours too, `rates` tokens a second."""
        if self.model is None:
            return Figure(unit="h", why=unknown(self.problem))
        found = self._duration(self.model, job, work)
        if self.probed is not None and self.stated is not None:
            same = _same(job, self.stated)
            if same:
                self._paces.append(found.tokens_per_second)
            own = self._paces[0] if self._paces else None
            pace = probe.pace(found.tokens_per_second, own, self.probed, same=same)
            found = self._duration(self.model, job, work, pace)
            found = found if same else replace(found, assumes=(*found.assumes, OTHERS))
        if found.hours is None:
            return Figure(unit="h", why=unknown(found.problem))
        parts = {name: one.likely / 3600 for name, one in found.seconds.items() if one.likely}
        return _figure(
            found.hours,
            "h",
            parts=parts,
            rate=found.tokens_per_second,
            of=found.gpu or "",
            assumes=found.assumes,
        )

    def _duration(
        self, model: ModelConfig, job: Job, work: Work, measured: Interval | None = None
    ) -> run_time.Duration:
        gpus = self.machine.gpus if self.machine is not None else ()
        return run_time.estimate(
            job,
            model.config,
            steps=work.steps,
            tokens_per_step=work.real_a_step,
            longest=work.longest,
            padding=1 - work.real / work.computed if work.computed else 0.0,
            mean_length=work.mean,
            evaluation=_evaluation(job, work, self.evaluated),
            saves=_saves(job, work),
            checkpoint_bytes=checkpoint_bytes(job, model),
            gpu=self.probed.device if self.probed is not None else run_time.gpu_name(job, gpus),
            measured=measured,
        )


def _same(job: Job, other: Job) -> bool:
    """Whether two jobs make the same batches."""
    names = ("max_length", "packing", "per_device_train_batch_size", "gradient_checkpointing")
    return all(getattr(job.training, name) == getattr(other.training, name) for name in names)


def _figure(
    found: Interval,
    unit: str,
    *,
    parts: dict[str, float],
    rate: Interval | None,
    of: str,
    assumes: tuple[str, ...],
) -> Figure:
    speed = (rate.low, rate.likely, rate.high) if rate is not None else None
    return Figure(found.low, found.likely, found.high, unit, parts=parts, rate=speed, of=of, assumes=assumes)


def _parts(parts: Mapping[str, float]) -> dict[str, float]:
    """GiB by what people call them; parts that have no such name keep their own."""
    named = {one for names in MEMORY_PARTS.values() for one in names}
    shown = {name: sum(parts.get(one, 0.0) for one in names) / GIB for name, names in MEMORY_PARTS.items()}
    return shown | {name: value / GIB for name, value in parts.items() if name not in named}


def _saves(job: Job, work: Work) -> int:
    """How often a checkpoint is written, and the adapter at the end."""
    training = job.training
    if training.save_strategy == "epoch":
        return math.ceil(work.epochs) + 1
    if training.save_strategy == "steps" and work.steps:
        return work.steps // every(training.save_steps, work.steps) + 1
    return 1


def checkpoint_bytes(job: Job, model: ModelConfig) -> int:
    """Bytes of a checkpoint: trained weights and two states of the optimizer; 0 where it cannot be told."""
    from ftcheck.estimate.disk import STATES, trained_weights

    return STATES * (trained_weights(model.config, job.training.lora) or 0)


def _evaluation(job: Job, work: Work, rows: Prepared | None) -> run_time.Evaluation | None:
    """What evaluations compute, with the padding to be expected."""
    from ftcheck.packing.padding import padding

    training = job.training
    if rows is None or not len(rows.sequences) or training.eval_strategy == "no" or not work.steps:
        return None
    times = math.ceil(work.epochs)
    if training.eval_strategy == "steps":
        times = work.steps // every(training.eval_steps or training.logging_steps, work.steps)
    lengths, batch = rows.fed(training.max_length), training.per_device_eval_batch_size
    scale = rows.rows.total / len(rows)
    tokens = float(lengths.sum()) * scale / max(1e-9, 1 - padding(lengths, batch))
    batches = -(-round(len(lengths) * scale) // (batch * devices(job)))
    return run_time.Evaluation(times, tokens, batches, int(lengths.max()))


def cost(job: Job, hours: Figure) -> Figure:
    """Hours at hardware.price_per_hour, which is the price of all GPUs together."""
    price = job.hardware.price_per_hour
    if hours.low is None or hours.likely is None or hours.high is None:
        return Figure(why=hours.why)
    if price is None:
        return Figure(why="unknown: hardware.price_per_hour is not set")
    said = (f"{price:g} per hour for all GPUs together (hardware.price_per_hour)",)
    return Figure(price * hours.low, price * hours.likely, price * hours.high, assumes=said)


def serving(job: Job, gold: GoldSet | None) -> tuple[str, ...]:
    """What the server must bear, by the gold questions: tokens of a request, replicas, what they cost."""
    found = serving_load.load(job, gold)
    if found is None:
        return ()
    said = [
        f"a request has {found.prompt:,.0f} + {found.answer:,.0f} tokens on average,"
        f" p95 {found.prompt_p95:,} + {found.answer_p95:,} ({counted(found.requests, 'gold question')})"
    ]
    asked = job.targets.requests_per_second
    if found.replicas is not None and asked is not None:
        replicas = counted(found.replicas, "replica")
        said.append(f"{asked:,g} requests/s need {replicas} at the average load, without reserve")
    elif asked is not None:
        missing = ", ".join(one for one in found.unknown if one.startswith("serving"))
        needed = asked * found.answer
        said.append(
            f"{asked:,g} requests/s are {needed:,.0f} output tokens/s;"
            f" replicas are unknown: {missing} is not set"
        )
    if found.cost_per_1000 is not None:
        said.append(f"1,000 requests cost {found.cost_per_1000:,.4g}")
    return tuple(said)
