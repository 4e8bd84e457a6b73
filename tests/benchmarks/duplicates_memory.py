"""Time and memory of `duplicates` and `leakage` against the number of rows.

    python -m tests.benchmarks.duplicates_memory [ROWS ...]        default: 100,000, 1,000,000 and 10,000,000

Writes prepared rows as the preparation does (84 tokens on average; one row in 100 is an exact duplicate, two
in 100 are an earlier row with another last token), maps them in a process of its own, and runs both rules.
Prints the peak of anonymous memory (Linux: `Pss_Anon`), that of everything resident, with mapped files
(`Rss`), and the largest size of temporary files. FTCHECK_SORT_MEMORY limits what sorting holds. Ten million
rows take 4 GB in the folder of temporary files.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ftcheck_plugins.preparation.arrow_store import RowFile, RowWriter
from ftcheck_plugins.preparation.batches import Batch
from ftcheck_plugins.preparation.token_engines import Ids
from ftcheck_plugins.preparation.trl_tokenize import Tokens
from ftcheck_rules.data.duplicates import duplicates
from ftcheck_rules.data.leakage import leakage

from ftcheck.inputs.prepared import Prepared, Rows, TokenStore
from ftcheck.testing import gold, inputs, job, prepared, rows, tokenizer
from ftcheck.testing import run as run_rule

BATCH, ANSWER, SHARED = 10_000, 40, 10
COPIES, NEAR = 0.01, 0.02
VOCABULARY = 50_000
FILES = ("Pss_Anon", "Rss")


def write(path: Path, count: int, seed: int) -> None:
    """Rows with planted duplicates: of a row among the 10,000 that are written with it."""
    random = np.random.default_rng(seed)
    with RowWriter(path) as writer:
        for first in range(0, count, BATCH):
            writer.add(_batch(random, first, min(BATCH, count - first)))


def _batch(random: np.random.Generator, first: int, count: int) -> Batch:
    lengths = random.integers(59, 110, size=count)
    texts = [random.integers(SHARED, VOCABULARY, size=length, dtype=np.int32) for length in lengths.tolist()]
    said = random.integers(1, 2**62, size=count)
    asked = said.copy()
    for row, kind in enumerate(random.random(count).tolist()):
        texts[row][:SHARED] = range(SHARED)
        if row and kind < COPIES + NEAR:
            other = int(random.integers(row))
            texts[row] = texts[other].copy()
            if kind < COPIES:
                said[row], asked[row] = said[other], asked[other]
            else:
                texts[row][-1] = 0
    starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    mask = np.concatenate([np.arange(len(text)) >= len(text) - ANSWER for text in texts])
    names = ("file", "offset", "answered", "spelled", "ending")
    columns = {name: np.zeros(count, dtype=np.int64) for name in names}
    columns |= {"line": np.arange(first + 1, first + count + 1), "asked": asked, "said": said}
    columns |= {"turns": np.full(count, 2), "system": np.full(count, -1)}
    tokens = Tokens(Ids(np.concatenate(texts), starts), mask, np.zeros(count, dtype=np.int32), {})
    return Batch(columns, bytes(32 * count), tokens, "text", {}, {}, {}, (), "tokenizers", (), {}, None)


@dataclass(frozen=True)
class Said:
    """What rows say: their ids as words."""

    tokens: TokenStore

    def said(self, rows: Sequence[int]) -> list[str]:
        return [" ".join(map(str, self.tokens.ids(row).tolist())) for row in rows]


def mapped(path: Path) -> Prepared:
    """The rows as a loader would map them."""
    file = RowFile(path)
    names = ("file", "line", "offset", "turns", "system", "asked", "said", "answered", "spelled", "ending")
    made: Any = rows(0)
    table = Rows(**{**vars(made), **{name: file.column(name) for name in names}, "records": file.records()})
    one: Any = prepared([])
    length = file.column("length")
    columns = {"rows": table, "length": length, "kept": length, "tokens": file}
    return Prepared(**{**vars(one), **columns})


def alone(path: Path) -> None:
    """Run both rules in this process; a line of JSON for each."""
    train = mapped(path)
    texts = inputs(row_texts=Said(train.tokens))
    given: dict[str, dict[str, Any]] = {
        "duplicates": {"inputs": texts},
        "leakage": {
            "prepared_eval": mapped(path.parent / "eval" / "rows.arrow"),
            "gold": gold(*((f"What is {n} plus {n} in words?", "x") for n in range(500))),
            "benchmarks": None,
            "tokenizer": tokenizer(),
        },
    }
    for rule in (duplicates, leakage):
        started, before = time.monotonic(), time.process_time()
        ran = run_rule(rule, job=job(), prepared=train, **given[rule.id])
        seconds, cpu = time.monotonic() - started, time.process_time() - before
        made = {"rule": rule.id, "seconds": seconds, "cpu": cpu, "measured": ran.measured}
        print(json.dumps(made), flush=True)


def memory(pid: int) -> dict[str, int]:
    """Bytes by kind that a process has now."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return {}
    lines = (line.split() for line in text.splitlines()[1:])
    return {line[0].rstrip(":"): int(line[1]) << 10 for line in lines if line[0].rstrip(":") in FILES}


def spilled(pid: int) -> int:
    """Bytes of files without a name that a process has open."""
    size = 0
    try:
        for one in Path(f"/proc/{pid}/fd").iterdir():
            if str(one.readlink()).endswith("(deleted)"):
                size += one.stat().st_size
    except OSError:
        return size
    return size


def measure(count: int) -> None:
    """Print two lines of the table."""
    with tempfile.TemporaryDirectory(prefix="ftcheck-duplicates-") as folder:
        path = Path(folder) / "rows.arrow"
        (path.parent / "eval").mkdir()
        write(path, count, 0)
        write(path.parent / "eval" / "rows.arrow", min(count // 100, 10_000), 1)
        command = [sys.executable, "-m", "tests.benchmarks.duplicates_memory", "--alone", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            _follow(process, count)


def _follow(process: "subprocess.Popen[str]", count: int) -> None:
    """Peaks of memory and disk until a rule tells that it is done."""
    import threading

    told: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: told.extend(map(json.loads, process.stdout or ())))
    reader.start()
    seen, peaks = 0, {"Pss_Anon": 0, "Rss": 0, "disk": 0}
    while seen < 2 and (process.poll() is None or seen < len(told)):
        now = {**memory(process.pid), "disk": spilled(process.pid)}
        peaks = {name: max(peak, now.get(name, 0)) for name, peak in peaks.items()}
        for made in told[seen:]:
            times = f"{made['seconds']:>8.1f}{made['cpu']:>8.1f}"
            figures = "".join(f"{peak / (1 << 20):>10,.0f}" for peak in peaks.values())
            print(f"{count:>12,}  {made['rule']:<12}{times}{figures}", flush=True)
            print(f"    {made['measured']}")
            seen, peaks = seen + 1, dict.fromkeys(peaks, 0)
        time.sleep(0.1)
    reader.join()


def main(arguments: list[str]) -> None:
    """Print the table."""
    if arguments[:1] == ["--alone"]:
        alone(Path(arguments[1]))
        return
    figures = "".join(f"{name:>10}" for name in ("anon MiB", "RSS MiB", "disk MiB"))
    print(f"{'rows':>12}  {'rule':<12}{'seconds':>8}{'CPU s':>8}{figures}")
    for count in [int(one) for one in arguments] or [100_000, 1_000_000, 10_000_000]:
        measure(count)


if __name__ == "__main__":
    main(sys.argv[1:])
