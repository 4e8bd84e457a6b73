"""The whole command against TRL's preparation alone: `python -m tests.benchmarks.whole_command`.

    python -m tests.benchmarks.whole_command [--rows N] [--repeat N] [--tokenizer FOLDER] [--checks few]

Rows are Alpaca's 52,002 (`datasets/alpaca_en_52k_shards` of the shared data), as `messages`. A round is, in
turn: `ftcheck run` with an empty cache (the first time with this tokenizer); with the first row put last,
so that all are cold, and the tokenizer known; once more, nothing changed; and TRL's
`_prepare_dataset` of the same rows in one process, its default, with trainer and tokenizer open before the
clock starts. ftcheck's times are those of the whole process, imports and all rules included; for TRL those of
its preparation alone. The checks are all recommended ones; `--checks few` takes those of lengths only.

Each ratio is TRL's time by ftcheck's of the same round; the table gives medians over the rounds. `CPU` are
seconds of all cores together, which other programs on the machine change little.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.preparation import alpaca, theirs, write
from tests.places import DATA

REACHED = {"known tokenizer": 8.0, "first time with this tokenizer": 5.0}
"""Times TRL's preparation, at least."""
TRAINING = {"max_length": 1024, "assistant_only_loss": True}
FEW = (
    "data-readable",
    "data-schema",
    "percentile-seq-len",
    "truncation",
    "trained-tokens",
    "packing-efficiency",
)
JOB = {
    "data": {"train": "train.jsonl"},
    "training": {
        **TRAINING,
        "packing": True,
        "learning_rate": 2e-4,
        "output_dir": "out",
        "save_total_limit": 1,
        "lora": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
    },
}


def policy(folder: Path, tokenizer: Path, *, few: bool) -> None:
    """The job, with its model's shape beside it."""
    shape = DATA / "model-configs" / "Llama-3.2-1B-Instruct"
    chosen: dict[str, dict[str, Any]] = {name: {} for name in FEW}
    checks: dict[str, Any] = {"checks": chosen} if few else {"extends": ["recommended"]}
    job = {"model": {"name": str(shape), "tokenizer": str(tokenizer)}, **JOB}
    stated = {"ftcheck": 1, "name": "whole", "jobs": {"job": job}, **checks}
    (folder / "policy.yaml").write_text(json.dumps(stated), encoding="utf-8")


def ran(folder: Path) -> tuple[float, float, list[str]]:
    """Seconds and CPU seconds of one `ftcheck run`, and what its report says came out of the cache."""
    command = [sys.executable, "-m", "ftcheck", "run", "policy.yaml", "--offline", "-o", "json=report.json"]
    here = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started, before = time.perf_counter(), _cpu()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**here, "FTCHECK_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds, cpu = time.perf_counter() - started, _cpu() - before
    try:
        report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except OSError:
        raise SystemExit(done.stdout + done.stderr) from None
    wrong = [one["id"] for one in report["results"] if one["outcome"] == "errored"]
    if wrong:
        raise SystemExit(f"checks that could not run: {', '.join(wrong)}\n{done.stdout}")
    return seconds, cpu, list(report["run"]["cached"])


def _cpu() -> float:
    """CPU seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def trl(rows: Path, tokenizer: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of TRL's preparation, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.whole_command", "--trl", str(rows), str(tokenizer)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, cpu = json.loads(done.stdout.splitlines()[-1])
    return seconds, cpu


def _trl_here(rows: Path, tokenizer: Path) -> tuple[float, float]:
    from transformers import AutoTokenizer

    taken = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    backend, before = AutoTokenizer.from_pretrained(tokenizer), time.process_time()
    seconds = len(taken) / theirs(backend, taken, TRAINING, 1)
    return seconds, time.process_time() - before


def a_round(
    rows: list[dict[str, Any]], tokenizer: Path, *, few: bool
) -> Iterator[tuple[str, float, float, list[str]]]:
    """What was run, its seconds, its CPU seconds, and what was cached."""
    with tempfile.TemporaryDirectory(prefix="ftcheck-whole-") as name:
        folder = Path(name)
        data = write(folder / "train.jsonl", rows, 1)
        policy(folder, tokenizer, few=few)
        yield ("first time with this tokenizer", *ran(folder))
        write(data, [*rows[1:], rows[0]], 1)
        yield ("known tokenizer", *ran(folder))
        yield ("nothing changed", *ran(folder))
        yield ("TRL", *trl(data, tokenizer), [])


def main() -> None:
    """Print each round, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=52_002)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tokenizer", type=Path, default=DATA / "tokenizers" / "llama-3-instruct")
    parser.add_argument("--checks", choices=("recommended", "few"), default="recommended")
    parser.add_argument("--trl", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.trl:
        print(json.dumps(_trl_here(*given.trl)))
        return
    rows = list(alpaca(given.rows))
    print(f"{len(rows):,} rows, {given.tokenizer.name}, {given.checks} checks, {os.cpu_count()} cores")
    times: dict[str, list[tuple[float, float]]] = {}
    for number in range(given.repeat):
        for what, seconds, cpu, cached in a_round(rows, given.tokenizer, few=given.checks == "few"):
            times.setdefault(what, []).append((seconds, cpu))
            kept = f"  cached: {', '.join(cached)}" if cached else ""
            print(f"  round {number + 1}  {what:32}{seconds:7.2f} s  CPU {cpu:6.2f} s{kept}", flush=True)
    _tell(times)


def _tell(times: dict[str, list[tuple[float, float]]]) -> None:
    """The table: medians, and TRL's time by ftcheck's of the same round."""
    print(f"{'':34}{'seconds':>8}{'TRL':>8}{'times':>9}{'CPU':>8}{'TRL':>8}{'times':>9}   to reach")
    theirs = times.pop("TRL")
    for what, mine in times.items():
        line = f"{what:34}"
        for kind in (0, 1):
            ratio = median(trl[kind] / one[kind] for trl, one in zip(theirs, mine, strict=True))
            both = [median(one[kind] for one in some) for some in (mine, theirs)]
            line += f"{both[0]:8.2f}{both[1]:8.2f}{ratio:8.1f}x"
        print(line + (f"   >= {REACHED[what]:.0f}x" if what in REACHED else ""))


if __name__ == "__main__":
    main()
