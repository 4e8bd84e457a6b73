"""How many blocks each packer makes, and how long it takes: ftcheck's planner against its peers.

    python -m tests.benchmarks.packing_planner

The sequences of two real jobs (as the preparation feeds them), and 400,000 and 20 million drawn lengths.
Time is given by the clock and of the CPU, which a busy machine does not stretch. TRL's own `pack_dataset`
runs on the same lengths; axolotl and LLaMA-Factory are counted as their code says (`ftcheck.packing.plans`).
Nothing fails on a clock. Needs trl, highspy and ../shared/data.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import preparation

from ftcheck.inputs.container import Run
from ftcheck.packing.lengths import histogram
from ftcheck.packing.plans import (
    _best_fit,
    _optimal,
    as_axolotl,
    as_llama_factory,
    as_trl,
    best_fit,
    lower_bound,
    optimal,
)
from ftcheck.testing import job
from tests.places import DATA

JOBS = (("mapper", "llama-3-instruct", 768), ("analyst", "phi-3-mini-instruct", 1024))
CAPACITY, MANY, MILLIONS = 2048, 400_000, 20_000_000
LINE = "{:34}  {:>10}  {:>7}  {:>10}  {:>10}"


def main() -> None:
    """Print the tables."""
    for name, model, capacity in JOBS:
        _print(
            f"{name}, {capacity} tokens a block ({model})", _packers(_fed(name, model, capacity), capacity)
        )
    lengths = _drawn(MANY)
    _print(f"{MANY:,} drawn lengths, {CAPACITY} tokens a block", _packers(lengths, CAPACITY))
    _print(f"{MILLIONS:,} drawn lengths, {CAPACITY} tokens a block", _counted(_drawn(MILLIONS)))


def _fed(name: str, model: str, capacity: int) -> Any:
    """Tokens of each sequence that a job feeds, in data order."""
    with tempfile.TemporaryDirectory() as folder:
        made = job(
            model={"name": str(DATA / "tokenizers" / model)},
            data={"train": str(DATA / "jobs" / name / "train.jsonl")},
            training={"max_length": capacity, "packing": True},
        )
        work = Run(Path(folder), offline=True)
        prepared = preparation.prepared.open(made, work, tokenizer.tokenizer.open(made, work))
        return prepared.fed(capacity)


def _drawn(count: int) -> Any:
    """Lengths as instruction data has them: lognormal, median 180 tokens."""
    drawn = np.random.default_rng(0).lognormal(np.log(180), 0.7, count)
    return drawn.astype(np.int32).clip(1, CAPACITY)


Row = tuple[str, int, tuple[float, float] | None]
"""What packed, how many blocks it made, seconds it took on the clock and of the CPU."""


def _packers(lengths: Any, capacity: int) -> Iterator[Row]:
    yield "TRL 1.16, its own packer", *_timed(_trl(lengths, capacity))
    yield "TRL, as ftcheck counts it", *_timed(lambda: as_trl(lengths, capacity))
    shuffled = np.random.default_rng(0).permutation(lengths)
    yield "LLaMA-Factory, as its code says", *_timed(lambda: as_llama_factory(lengths, capacity))
    yield "axolotl, as its code says", *_timed(lambda: as_axolotl(shuffled, capacity))
    yield "ftcheck, best-fit", *_timed(lambda: best_fit(lengths, capacity).blocks)
    _optimal.cache_clear()
    yield "ftcheck, optimal", *_timed(lambda: optimal(lengths, capacity).blocks)
    plan = optimal(lengths, capacity)
    yield f"  by {plan.by}, bound", plan.bound, None
    yield "L2 lower bound", *_timed(lambda: lower_bound(lengths, capacity))


def _trl(lengths: Any, capacity: int) -> Callable[[], int]:
    """TRL's `pack_dataset` on rows of these lengths, made beforehand."""
    import datasets
    import pyarrow as pa
    from trl import pack_dataset

    datasets.disable_progress_bars()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = pa.array(np.zeros(int(offsets[-1]), dtype=np.int32))
    column = pa.LargeListArray.from_arrays(pa.array(offsets), ids)
    rows = datasets.Dataset(pa.table({"input_ids": column}))
    return lambda: len(pack_dataset(rows, capacity, "bfd", map_kwargs={"load_from_cache_file": False}))


def _counted(lengths: Any) -> Iterator[Row]:
    """Counting and planning apart: only the counting grows with the number of sequences."""
    yield "counting", *_timed(lambda: int(histogram(lengths).sum()))
    counts = histogram(lengths)
    yield "ftcheck, best-fit on the counts", *_timed(lambda: _best_fit(counts, CAPACITY).blocks)
    _optimal.cache_clear()
    yield "ftcheck, optimal, counting too", *_timed(lambda: optimal(lengths, CAPACITY).blocks)
    yield "L2 lower bound", *_timed(lambda: lower_bound(lengths, CAPACITY))


def _timed(packer: Callable[[], int]) -> tuple[int, tuple[float, float]]:
    started, worked = time.perf_counter(), time.process_time()
    blocks = packer()
    return blocks, (time.perf_counter() - started, time.process_time() - worked)


def _print(title: str, rows: Iterator[Row]) -> None:
    found = list(rows)
    least = found[-1][1]
    print(f"\n{title}\n" + LINE.format("", "blocks", "over", "time", "CPU"))
    for what, blocks, seconds in found:
        over = "" if what == "counting" else f"{100 * (blocks / least - 1):.2f} %"
        times = ("", "") if seconds is None else (f"{1000 * one:,.0f} ms" for one in seconds)
        print(LINE.format(what, f"{blocks:,}", over, *times))


if __name__ == "__main__":
    main()
