"""Rows to ids, labels and columns: ftcheck's preparation beside TRL's own, in one run.

`python -m tests.benchmarks.preparation [--rows 5000] [--data FILE.jsonl] [--tokenizer FOLDER ...]`

Rows are Alpaca's (as `messages`); both sides have the tokenizer open and the trainer built before the
clock starts. Seconds of wall time and of CPU are printed: on a busy machine the CPU's are the steadier.
TRL prepares `--trl-rows` of them, which is enough for its rate. Ids and labels are compared row by row.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck_plugins import preparation, tokenizer

from ftcheck.inputs import Inputs, Prepared, Run
from ftcheck.settings import Data, Job, Model, Training
from tests.preparation.test_against_trl import fed
from tests.preparation.trl_side import quiet, trainer_of

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LOADERS = {one.name: one for one in (tokenizer.tokenizer, preparation.prepared, preparation.rows)}
SETTINGS: tuple[dict[str, Any], ...] = (
    {"max_length": 1024},
    {"max_length": 1024, "assistant_only_loss": True},
)


@dataclass(frozen=True)
class Timed:
    """What some work gave, and its seconds of wall time and of this process's CPU."""

    result: Any
    wall: float
    cpu: float


def timed(work: Callable[[], Any]) -> Timed:
    """Do some work on the clock."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Timed(result, time.perf_counter() - wall, time.process_time() - cpu)


def alpaca(count: int) -> Iterator[dict[str, Any]]:
    """Alpaca's rows as conversations of two messages."""
    taken = 0
    for path in sorted((SHARED / "datasets" / "alpaca_en_52k_shards").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            if taken == count:
                return
            asked = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
            yield {"messages": turns}
            taken += 1


def compare(model: Path, data: Path, trl_rows: int, training: dict[str, Any]) -> dict[str, Any]:
    """Both sides on the same rows: rows a second, and how many rows differ."""
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()[:trl_rows]]
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            name="job",
            model=Model(name=str(model)),
            data=Data(train=str(data)),
            training=Training(**training),
        )
        inputs = Inputs(LOADERS, {"run": Run(folder=Path(folder))}, job)
        with quiet():
            backend = inputs.get("tokenizer").backend
            theirs_way = trainer_of(backend, rows, Path(folder), **training)
            mine = timed(lambda: inputs.get("prepared"))
            theirs = timed(lambda: theirs_way(rows))
        prepared: Prepared = mine.result
        same = fed(prepared, training)[: len(theirs.result)] == theirs.result
    return {
        "tokenizer": model.name,
        "loss": "assistant" if training.get("assistant_only_loss") else "all",
        "engine": prepared.engine,
        "rows_s": len(prepared) / mine.wall,
        "rows_cpu_s": len(prepared) / mine.cpu,
        "trl_rows_s": len(rows) / theirs.wall,
        "trl_rows_cpu_s": len(rows) / theirs.cpu,
        "identical": same,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=52_002)
    parser.add_argument("--trl-rows", type=int, default=3_000)
    parser.add_argument("--data", type=Path, help="JSON lines of conversations, instead of Alpaca")
    parser.add_argument("--tokenizer", type=Path, nargs="*", help="tokenizer folders")
    given = parser.parse_args()
    names = [SHARED / "tokenizers" / name for name in ("llama-3-instruct", "phi-3-mini-instruct")]
    print(
        f"{'tokenizer':22}{'loss':11}{'engine':19}{'rows/s':>8}{'TRL':>7}{'ratio':>7}"
        f"{'rows/CPU s':>12}{'TRL':>7}{'ratio':>7}  ids and labels"
    )
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or Path(folder) / "alpaca.jsonl"
        if given.data is None:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in alpaca(given.rows))
            data.write_text("".join(lines), encoding="utf-8")
        for model in given.tokenizer or names:
            for training in SETTINGS:
                one = compare(model, data, given.trl_rows, training)
                print(
                    f"{one['tokenizer']:22}{one['loss']:11}{one['engine']:19}"
                    f"{one['rows_s']:8,.0f}{one['trl_rows_s']:7,.0f}{one['rows_s'] / one['trl_rows_s']:6.1f}x"
                    f"{one['rows_cpu_s']:12,.0f}{one['trl_rows_cpu_s']:7,.0f}"
                    f"{one['rows_cpu_s'] / one['trl_rows_cpu_s']:6.1f}x"
                    f"  {'identical' if one['identical'] else 'DIFFERENT'}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
