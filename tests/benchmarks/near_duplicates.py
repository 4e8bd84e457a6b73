"""How long `duplicates` and `leakage` take on the 52,002 rows of Alpaca with the Llama-3 tokenizer.

    python -m tests.benchmarks.near_duplicates [ROWS]

Prints a table; nothing fails on a clock. Needs ../shared/data.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import preparation, row_texts
from ftcheck_rules.data.duplicates import duplicates
from ftcheck_rules.data.leakage import leakage

from ftcheck.inputs.container import Run
from ftcheck.testing import gold, inputs, job
from ftcheck.testing import run as run_rule
from tests.places import DATA


def main(count: int | None) -> None:
    """Prepare the rows, run both rules, print seconds and the peak of memory."""
    shards = sorted((DATA / "datasets/alpaca_en_52k_shards").glob("*.json"), key=_start)
    with tempfile.TemporaryDirectory() as folder:
        train, test = Path(folder) / "train.jsonl", Path(folder) / "eval.jsonl"
        rows = [row for shard in shards for row in json.loads(shard.read_text(encoding="utf-8"))][:count]
        train.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        test.write_text("".join(json.dumps(row) + "\n" for row in rows[::100]), encoding="utf-8")
        model = {"name": str(DATA / "tokenizers" / "llama-3-instruct")}
        made = job(model=model, data={"train": str(train), "eval": str(test)})
        work = Run(Path(folder) / "work", offline=True)
        started = time.monotonic()
        side = tokenizer.tokenizer.open(made, work)
        prepared = preparation.prepared.open(made, work, side)
        tests = preparation.prepared_eval.open(made, work, side)
        print(f"{len(prepared):,} rows, {int(prepared.length.sum()):,} tokens")
        _tell("preparation", started)
        started = time.monotonic()
        texts = inputs(row_texts=row_texts.row_texts.open(made, work, prepared.rows))
        ran = run_rule(duplicates, job=made, prepared=prepared, inputs=texts)
        _tell("duplicates", started)
        print(ran.measured, *ran.findings, sep="\n  ")
        started = time.monotonic()
        questions = gold(*((f"What is {n} plus {n} in words?", "x") for n in range(500)))
        ran = run_rule(
            leakage,
            job=made,
            prepared=prepared,
            prepared_eval=tests,
            gold=questions,
            benchmarks=None,
            tokenizer=side,
        )
        _tell("leakage", started)
        print(ran.measured)


def _start(path: Path) -> int:
    return int(path.name.split("-")[1])


def _tell(what: str, started: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:12}  {time.monotonic() - started:6.1f} s   peak {peak:7,.0f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
