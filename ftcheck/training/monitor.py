"""What `ftcheck monitor` shows of a run, worked out of its folder: numbers only, no terminal.

Each number that the folder does not tell is None, never 0: runs of older versions have no times in their
metric lines, and no expectations in run.json.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from ftcheck.inputs.metric_history import (
    Span,
    expected_from_dict,
    middle,
    numbers,
)
from ftcheck.inputs.run_folder import (
    METRICS,
    Metric,
    State,
    TrainingRun,
    checkpoint_step,
    mapping,
    moment,
    number,
    text,
)

MEDIAN_OF = 20
"""Logs of which the running median is taken."""
PACE_OF = 50
"""Logs by which the time to go is told."""
POINTS = 240
"""Points of the loss that are kept for the sparkline."""


@dataclass(frozen=True, slots=True)
class DrySave:
    """The newest checkpoint; `complete` is the newest that was written whole."""

    newest: str
    complete: str | None

    @property
    def is_complete(self) -> bool:
        """Whether the newest was written whole."""
        return self.newest == self.complete


@dataclass(frozen=True, slots=True)
class Watched:
    """What became of a check of stage `during`, so far."""

    name: str
    outcome: str
    reason: str | None = None
    summary: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A finding of such a check, with the first and the last step at which it was seen."""

    check: str
    step: int
    last_step: int
    message: str
    severity: str
    action: str


@dataclass(frozen=True, slots=True)
class View:
    """One run as it is now. Times are seconds; `at` is the moment it was looked at.

    `losses` are at most `POINTS` means of the `logged` losses, oldest first; `whole_pace` are the tokens a
    second of a whole run that has ended. `expected` are the spans of
    `tokens_per_second`, `memory_gib` and `trained_share`, where the run was held against them. `ids` is the
    digest over the ids and labels that were fed.
    """

    folder: Path
    job: str
    model: str | None
    state: State
    reason: str | None
    at: datetime
    step: int
    remedy: str | None = None
    total: int | None = None
    epoch: float | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    gone: float | None = None
    quiet: float | None = None
    to_go: float | None = None
    ends_at: datetime | None = None
    loss: float | None = None
    median: float | None = None
    losses: tuple[float, ...] = ()
    logged: int = 0
    eval_loss: float | None = None
    eval_best: float | None = None
    eval_best_step: int | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens: float | None = None
    tokens_per_second: float | None = None
    whole_pace: float | None = None
    padding_share: float | None = None
    trained_share: float | None = None
    rows: int | None = None
    blocks: int | None = None
    memory_gib: float | None = None
    memory_peak_gib: float | None = None
    device: str | None = None
    device_gib: float | None = None
    expected: Mapping[str, Span] | None = None
    saved: DrySave | None = None
    watched: tuple[Watched, ...] = ()
    found: tuple[Found, ...] = ()
    notes: tuple[str, ...] = ()
    notes_total: int = 0
    ids: str | None = None


@dataclass(frozen=True, slots=True)
class Curves:
    """A run's numbers as (step, value), oldest first, at most `POINTS` of each: means of stretches."""

    loss: tuple[tuple[float, float], ...] = ()
    eval_loss: tuple[tuple[float, float], ...] = ()
    tokens_per_second: tuple[tuple[float, float], ...] = ()
    memory_peak_gib: tuple[tuple[float, float], ...] = ()


def curves(run: TrainingRun) -> Curves:
    """What a run's metric lines tell from its first step to its last."""
    return Curves(
        loss=_curve(run.training, "loss"),
        eval_loss=_curve(run.evaluations, "eval_loss"),
        tokens_per_second=_curve(run.training, "tokens_per_second"),
        memory_peak_gib=_curve(run.training, "memory_peak_gib"),
    )


def _curve(lines: Sequence[Metric], name: str) -> tuple[tuple[float, float], ...]:
    found = [(float(line.step), value) for line in lines if (value := line.number(name)) is not None]
    steps = thinned([step for step, _ in found], POINTS)
    return tuple(zip(steps, thinned([value for _, value in found], POINTS), strict=True))


def view(run: TrainingRun, now: datetime) -> View:
    """What there is to show of a run at this moment."""
    planned, device = run.planned, mapping(run.values.get("device"))
    shown = View(
        folder=run.folder,
        job=run.job,
        model=run.model,
        state=run.state,
        reason=run.reason,
        at=now,
        step=run.steps,
        total=run.total,
        remedy=text(run.values.get("remedy")),
        started_at=run.started_at,
        rows=_whole(planned.get("rows")),
        blocks=_whole(planned.get("blocks")),
        device=text(device.get("name")),
        device_gib=number(device.get("memory_gib")),
        expected=expected_from_dict(run.values.get("expected")).known,
        saved=_saved(run.folder),
        watched=tuple(_watched(run)),
        found=tuple(_found(run)),
        notes=tuple(map(str, run.notes)),
        notes_total=len(run.notes),
        ids=run.ids,
    )
    return _with_times(_with_numbers(shown, run), run, now)


def _with_numbers(shown: View, run: TrainingRun) -> View:
    """The newest of each number that was logged; of a finished run its own last word where there is one."""
    lines, evaluated = run.training, [one for one in run.evaluations if one.eval_loss is not None]
    best = min(evaluated, key=lambda one: one.eval_loss or 0.0, default=None)
    peak = max(numbers(lines[-MEDIAN_OF:], "memory_peak_gib"), default=run.number("memory_peak_gib"))
    return replace(
        shown,
        epoch=_newest(lines, "epoch"),
        loss=lines[-1].loss if lines else run.number("final_loss"),
        median=middle(numbers(lines[-MEDIAN_OF:], "loss")),
        losses=tuple(thinned(numbers(lines, "loss"), POINTS)),
        logged=len(lines),
        eval_loss=evaluated[-1].eval_loss if evaluated else run.number("final_eval_loss"),
        eval_best=best.eval_loss if best is not None else None,
        eval_best_step=best.step if best is not None else None,
        learning_rate=_newest(lines, "learning_rate"),
        grad_norm=_newest(lines, "grad_norm"),
        tokens=_newest(lines, "tokens"),
        tokens_per_second=_newest(lines, "tokens_per_second"),
        whole_pace=run.number("tokens_per_second"),
        padding_share=_mean(lines, "padding_share"),
        trained_share=_mean(lines, "trained_share"),
        memory_gib=_newest(lines, "memory_gib"),
        memory_peak_gib=peak,
    )


def _newest(lines: Sequence[Metric], name: str) -> float | None:
    return next((value for line in reversed(lines) if (value := line.number(name)) is not None), None)


def _mean(lines: Sequence[Metric], name: str) -> float | None:
    values = numbers(lines[-MEDIAN_OF:], name)
    return sum(values) / len(values) if values else None


def _whole(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None else None


def thinned(values: Sequence[float], most: int) -> Iterable[float]:
    """At most so many values: means of stretches of equal length."""
    count = len(values)
    if count <= most:
        return values
    ends = [round(n * count / most) for n in range(most + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(ends)]


# --- times --------------------------------------------------------------------------------------------


def _with_times(shown: View, run: TrainingRun, now: datetime) -> View:
    last = next((line.at for line in reversed(run.metrics) if line.at is not None), None) or _written(run)
    ended = run.finished_at or (last if run.state.over else now)
    gone = _seconds(run.started_at, ended)
    shown = replace(shown, ended_at=ended if run.state.over else None)
    quiet = _seconds(last, now)
    if run.state.over or run.total is None or shown.step >= run.total:
        return replace(shown, gone=gone, quiet=quiet)
    pace = _seconds_a_step(run, last)
    if pace is None:
        return replace(shown, gone=gone, quiet=quiet)
    whole = pace * (run.total - shown.step)
    to_go = max(0.0, whole - (quiet or 0.0))
    return replace(shown, gone=gone, quiet=quiet, to_go=to_go, ends_at=now + timedelta(seconds=to_go))


def _written(run: TrainingRun) -> datetime | None:
    """When metrics.jsonl was written last, for runs whose lines do not say."""
    try:
        return datetime.fromtimestamp((run.folder / METRICS).stat().st_mtime, UTC)
    except OSError:
        return None


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return max(0.0, (end - begin).total_seconds()) if begin is not None and end is not None else None


def _seconds_a_step(run: TrainingRun, last: datetime | None) -> float | None:
    """Seconds a step by the newest lines since the run was last started; evaluations and saving count in."""
    begun, first_step = _last_start(run)
    timed = [(line.step, line.at) for line in run.training if line.at is not None and line.step > first_step]
    timed = [(step, at) for step, at in timed if begun is None or at >= begun][-PACE_OF:]
    if len(timed) > 1 and timed[-1][0] > timed[0][0]:
        (first, began), (newest, ended) = timed[0], timed[-1]
        return (ended - began).total_seconds() / (newest - first)
    took = _seconds(begun, last)
    return took / (run.steps - first_step) if took and run.steps > first_step else None


def _last_start(run: TrainingRun) -> tuple[datetime | None, int]:
    """When the run was last started or resumed, and from which step."""
    resumed = run.values.get("resumed")
    if isinstance(resumed, list) and resumed and isinstance(resumed[-1], Mapping):
        return moment(resumed[-1].get("at")), int(number(resumed[-1].get("step")) or 0)
    return run.started_at, 0


# --- checkpoints and checks ---------------------------------------------------------------------------


def _saved(folder: Path) -> DrySave | None:
    steps = {path: _step_of(path) for path in folder.glob("checkpoint-*") if path.is_dir()}
    known = sorted((step, path) for path, step in steps.items() if step is not None)
    if not known:
        return None
    whole = next((path.name for _, path in reversed(known) if checkpoint_step(path) is not None), None)
    return DrySave(known[-1][1].name, whole)


def _step_of(path: Path) -> int | None:
    said = path.name.rpartition("-")[2]
    return int(said) if said.isdecimal() else None


def _watched(run: TrainingRun) -> Iterable[Watched]:
    for one in _results(run):
        yield Watched(
            _short(one.get("id")),
            str(one.get("outcome")),
            text(one.get("reason")),
            text(one.get("summary")),
        )


def _results(run: TrainingRun) -> list[Mapping[str, Any]]:
    results = run.values.get("during")
    return [one for one in results if isinstance(one, Mapping)] if isinstance(results, list) else []


def _found(run: TrainingRun) -> Iterable[Found]:
    """Findings of run.json, and those that only a metric line tells of yet; oldest first."""
    found = {
        (name, step): Found(
            name,
            step,
            int(number(one.get("last_step")) or step),
            str(one.get("message")),
            str(one.get("severity")),
            str(result.get("action")),
        )
        for result in _results(run)
        for one in result.get("findings") or []
        if isinstance(one, Mapping)
        for name, step in [(_short(result.get("id")), int(number(one.get("step")) or 0))]
    }
    for line in run.metrics:
        told = line.values.get("during")
        for one in told if isinstance(told, list) else []:
            if isinstance(one, Mapping):
                name = _short(one.get("check"))
                words = str(one.get("message")), str(one.get("severity")), str(one.get("action"))
                found.setdefault((name, line.step), Found(name, line.step, line.step, *words))
    return sorted(found.values(), key=lambda one: one.step)


def _short(check: Any) -> str:
    """A check's name without its job."""
    return str(check).rpartition("::")[2]


def to_dict(shown: View) -> dict[str, Any]:
    """A view as JSON: times as ISO 8601, the folder as text."""
    from dataclasses import asdict

    made = asdict(shown)
    times = {
        name: value.isoformat(timespec="seconds")
        for name, value in made.items()
        if isinstance(value, datetime)
    }
    saved = {**made["saved"], "is_complete": shown.saved.is_complete} if shown.saved is not None else None
    return {**made, **times, "folder": str(shown.folder), "state": shown.state.value, "saved": saved}
