"""A preparation and `duplicates` by tasks on many workers: measured one after the other, then worked out.

`OneByOne` stands in the place of the connection to Ray: it does each task here, lets its result travel
through `pickle`, and takes the time of the task and that of its caller until it asks for the next. `seconds`
then plays the same on any number of workers: tasks begin in order, no more ahead than `Connection.in_order`
allows, and results are taken in order by the one caller. Each worker opens the tokenizer once. What it leaves
out: the network, and Ray's own milliseconds for each task.
"""

import heapq
import pickle
import secrets
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from ftcheck_plugins.cluster import connection, data_shards, tasks, token_tasks
from ftcheck_plugins.cluster.shuffle import PART, ROW
from ftcheck_plugins.cluster.work import Kept
from ftcheck_rules.data.duplicates import Duplicates, duplicates

from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.settings import Data, Job, Model, Training
from tests.benchmarks import ray_engine
from tests.benchmarks.preparation import LOADERS
from tests.benchmarks.second_run import MODEL

SHARDS = 50
"""Tasks that are measured in each pass."""
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CORPORA = (20_000_000, 100_000_000, 1_000_000_000)
RAY: dict[str, Callable[..., Any]] = {
    "get": lambda value: value,
    "is_initialized": lambda: True,
    "get_runtime_context": lambda: SimpleNamespace(get_node_id=lambda: "here"),
}
"""What tasks ask of Ray."""
MOST = data_shards.MOST_ROWS
"""Rows of the largest shard of a preparation; those that are measured here are smaller."""
FEWEST = 3_500
"""Rows of the smallest shard (`data_shards.SMALLEST`, with 300 bytes a row)."""


@dataclass
class Pass:
    """One pass over the shards: seconds of each task and of its caller, and bytes that came back."""

    name: str
    tasks: list[float] = field(default_factory=list)
    caller: list[float] = field(default_factory=list)
    travelled: int = 0


@dataclass
class OneByOne:
    """A connection whose tasks are done here."""

    passes: list[Pass] = field(default_factory=list)
    base: str | None = None
    ray: Any = field(default_factory=lambda: SimpleNamespace(**RAY))

    def processors(self) -> int:
        """One."""
        return 1

    def words(self) -> str:
        """What stands on the line of progress."""
        return "here"

    def shared(self, value: Any) -> Any:
        """The value itself."""
        return value

    def kept(self, value: Any) -> Kept:
        """The value itself, to be kept."""
        return Kept(secrets.token_hex(4), value)

    def begun(self, work: Callable[..., Any], *given: Any) -> Any:
        """A task that is asked for beside others: done at once, its result what another one waits for."""
        return pickle.loads(pickle.dumps(tasks.answered(work, *given[:-1]), protocol=5))

    def in_order(
        self, work: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], alive: Callable[[], None]
    ) -> Iterator[Any]:
        """As `Connection.in_order`; the arguments' own tasks count as a part of each."""
        one = Pass(work.__name__)
        self.passes.append(one)
        given = iter(arguments)
        while True:
            began = time.perf_counter()
            some = next(given, None)
            if some is None:
                return
            sent = pickle.dumps(tasks.answered(work, *some[:-1]), protocol=5)
            done = time.perf_counter()
            one.tasks.append(done - began)
            one.travelled += len(sent)
            yield pickle.loads(sent)
            one.caller.append(time.perf_counter() - done)


def measure(count: int, kept: Path | None) -> None:
    """Print what each pass takes, and how long corpora take on so many workers."""
    with tempfile.TemporaryDirectory(prefix="ftcheck-growth-") as name:
        folder = kept or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        ray_engine.write(folder, count)
        passes, whole, opening = prepared(folder, Path(name), count)
    between = max(0.0, whole - opening - sum(sum(one.tasks) + sum(one.caller) for one in passes))
    print(f"{count:,} rows, one task after the other: {whole:.1f} s, the tokenizer {opening:.1f} s of them")
    for one in passes:
        rates = np.array(one.tasks) * len(one.tasks) / count * 1e6
        spread = f"{np.mean(rates):6.1f} us a row ({rates.min():.1f} to {rates.max():.1f})"
        caller = f"{sum(one.caller) / count * 1e6:5.2f} us and {one.travelled / count:.0f} bytes a row"
        print(f"  {one.name:10}{len(one.tasks):4} tasks  {spread}  its caller {caller}")
    print(f"  between the passes {between / count * 1e6:.2f} us a row")
    _tell(passes, count, opening, between / count)


def prepared(folder: Path, work: Path, count: int) -> tuple[list[Pass], float, float]:
    """The passes of a preparation, its seconds, and those until the first task has opened the tokenizer."""
    here = OneByOne(base=str(work))
    connection._connections.append(here)  # type: ignore[arg-type]
    sys.modules["ray"] = here.ray
    data_shards.MOST_ROWS = -(-count // SHARDS)
    job = Job(
        name="job",
        model=Model(name=str(MODEL)),
        data=Data(train=str(folder / "rows" / "*.parquet")),
        training=Training(max_length=64, assistant_only_loss=True),
    )
    inputs = Inputs(LOADERS, {"run": Run(folder=work, engine="ray", cache=False)}, job)
    inputs.get("tokenizer")
    opening = _opening()
    began = time.perf_counter()
    made: Prepared = inputs.get("prepared")
    deque(duplicates(job, made, inputs, Duplicates()), maxlen=0)
    return here.passes, time.perf_counter() - began, opening[0]


def _opening() -> list[float]:
    """Takes the seconds in which a worker opens the tokenizer and chooses the engine."""
    taken, opened = [0.0], tasks._open

    def timed(work: Any) -> Any:
        began = time.perf_counter()
        made = opened(work)
        taken[0] += time.perf_counter() - began
        return made

    tasks._open = timed
    return taken


def seconds(
    passes: Sequence[Pass], measured: int, rows: int, workers: int, opening: float, between: float
) -> float:
    """How long `rows` rows take on so many workers, by the times of `measured` rows."""
    drawn = np.random.default_rng(0)
    total = rows * between
    for number, one in enumerate(passes):
        count = _count(one, rows, workers)
        scale = rows / count * len(one.tasks) / measured
        which = drawn.integers(len(one.tasks), size=count)
        took, taking = np.array(one.tasks)[which] * scale, np.array(one.caller)[which] * scale
        if number == 0:
            took[: min(workers, count)] += opening
        total += played(took.tolist(), taking.tolist(), workers)
    return total


def _count(one: Pass, rows: int, workers: int) -> int:
    """The tasks of a pass: a shard each, or a part of a shuffle."""
    if one.name == token_tasks.reduce.__name__:
        return max(workers, -(-rows * ROW // PART))
    return -(-rows // min(MOST, max(FEWEST, rows // (workers * data_shards.EACH))))


def played(tasks_: Sequence[float], caller: Sequence[float], workers: int) -> float:
    """The seconds until the caller has taken the last of these tasks: see the module's docstring."""
    free, now = [0.0] * workers, 0.0
    ends: list[float] = []
    for place in range(len(tasks_)):
        while len(ends) < len(tasks_) and len(ends) - place < connection.AHEAD * workers + 1:
            end = max(now, heapq.heappop(free)) + tasks_[len(ends)]
            heapq.heappush(free, end)
            ends.append(end)
        now = max(now, ends[place]) + caller[place]
    return now


def _tell(passes: Sequence[Pass], measured: int, opening: float, between: float) -> None:
    """Seconds on each number of workers, and the efficiency against one."""
    print(f"{'workers':>9}" + "".join(f"{rows / 1e6:>16,.0f} M rows" for rows in CORPORA))
    alone = [seconds(passes, measured, rows, 1, opening, between) for rows in CORPORA]
    for workers in COUNTS:
        line = f"{workers:>9}"
        for rows, one in zip(CORPORA, alone, strict=True):
            taken = seconds(passes, measured, rows, workers, opening, between)
            line += f"{taken:>15,.0f} s {one / taken / workers:5.2f}"
        print(line)
    tasks_ = sum(sum(one.tasks) for one in passes) / measured
    caller = sum(sum(one.caller) for one in passes) / measured
    print(
        f"seconds = {opening:.1f} + million rows * max({tasks_ * 1e6:.1f} / workers, {caller * 1e6:.2f})"
        f" + million rows * {between * 1e6:.2f}; bends at {tasks_ / (caller + between):.0f} workers"
    )
