"""A hundred jobs in one command: `python -m tests.benchmarks.many_jobs`.

    python -m tests.benchmarks.many_jobs [--sets 10] [--jobs 10] [--rows 4000] [--repeat 3] [-n N] [--tiny]

Writes data sets, and jobs over each that differ in learning rate, batch size and packing, with the
recommended checks. A round is, each with an empty cache: one job of each data set (every data set is
prepared once, and all rules run on it); then all jobs, as one policy of each data set, as a policy of each
job, and all in one policy. Each is one `ftcheck run POLICIES -o html=DIR/ -o json=DIR/`, timed as a whole
process. Within a round machine and tokenizer are the same; the ratio to the first is to be at most 1.3.

The model is Llama 3.2 1B's shape with Llama 3's tokenizer, from the shared data; `--tiny` takes the small one
that ftcheck ships. `CPU` are seconds of all processes together, which other programs change little.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.places import DATA, SAMPLES

MOST = 1.3
"""Times the first, at most."""
BASE = "one job of each data set"
SYLLABLES = ("ka", "lo", "mi", "ter", "ban", "su", "ra", "ne", "ti", "os", "ul", "dor", "vik", "lem")
RATES = (1e-4, 2e-4, 5e-5, 3e-4, 1.5e-4)
BATCHES = ((1, 32), (2, 16), (4, 8), (8, 4))


@dataclass(frozen=True, slots=True)
class Ran:
    """One command: seconds of the clock, seconds of all cores, its exit code, its index page."""

    seconds: float
    cpu: float
    code: int
    index: bool


def write_rows(file: Path, count: int, seed: int) -> None:
    """A data set of its own words: no row is like one of another."""
    drawn = random.Random(seed)
    words = ["".join(drawn.choices(SYLLABLES, k=drawn.randint(1, 4))) for _ in range(500)]
    with file.open("w", encoding="utf-8") as out:
        for _ in range(count):
            asked = " ".join(drawn.choices(words, k=drawn.randint(5, 60)))
            said = " ".join(drawn.choices(words, k=drawn.randint(5, 80)))
            turns = [{"role": "user", "content": f"{asked}?"}, {"role": "assistant", "content": f"{said}."}]
            out.write(json.dumps({"messages": turns}) + "\n")


def job(data: Path, number: int, *, tiny: bool) -> dict[str, Any]:
    """The job of a number over a data set."""
    batch, steps = BATCHES[number % len(BATCHES)]
    small = {"name": str(SAMPLES / "models" / "mapper-tiny")}
    llama = {
        "name": str(DATA / "model-configs" / "Llama-3.2-1B-Instruct"),
        "tokenizer": str(DATA / "tokenizers" / "llama-3-instruct"),
    }
    return {
        "model": small if tiny else llama,
        "data": {"train": str(data)},
        "training": {
            "max_length": 1024,
            "assistant_only_loss": True,
            "packing": number % 2 == 0,
            "learning_rate": RATES[number % len(RATES)],
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": steps,
            "output_dir": f"out/{data.stem}-{number}",
            "save_total_limit": 1,
            "lora": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
        },
    }


def write_policy(file: Path, jobs: Mapping[str, Any]) -> None:
    """A policy of jobs with the recommended checks."""
    file.parent.mkdir(exist_ok=True)
    stated = {"ftcheck": 1, "name": file.stem, "extends": ["recommended"], "jobs": jobs}
    file.write_text(json.dumps(stated), encoding="utf-8")


def write_all(folder: Path, sets: int, jobs: int, rows: int, *, tiny: bool) -> Iterator[tuple[str, Path]]:
    """Data and policies; what each folder of policies is, the base first."""
    made: dict[str, Any] = {}
    for number in range(sets):
        data = folder / f"data{number}.jsonl"
        write_rows(data, rows, number)
        mine = {f"data{number}-job{n}": job(data, n, tiny=tiny) for n in range(jobs)}
        first = next(iter(mine))
        write_policy(folder / "base" / f"data{number}.yaml", {first: mine[first]})
        write_policy(folder / "by-data" / f"data{number}.yaml", mine)
        for name, one in mine.items():
            write_policy(folder / "by-job" / f"{name}.yaml", {name: one})
        made |= mine
    write_policy(folder / "together" / "all.yaml", made)
    yield BASE, folder / "base"
    yield f"{sets * jobs} jobs, a policy of each data set", folder / "by-data"
    yield f"{sets * jobs} jobs, a policy of each job", folder / "by-job"
    yield f"{sets * jobs} jobs in one policy", folder / "together"


def run(policies: Path, at_once: str) -> Ran:
    """The command with an empty cache, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="ftcheck-many-") as name:
        out, here = Path(name), {key: v for key, v in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        words = ["run", str(policies), "--offline", "-n", at_once, "-o", f"html={out}/", "-o", f"json={out}/"]
        started, before = time.perf_counter(), _cpu()
        done = subprocess.run(
            [sys.executable, "-m", "ftcheck", *words],
            env={**here, "FTCHECK_CACHE": str(out / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds, cpu = time.perf_counter() - started, _cpu() - before
        if done.returncode:
            print(done.stdout + done.stderr)
        return Ran(seconds, cpu, done.returncode, (out / "index.html").is_file())


def _cpu() -> float:
    """CPU seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print each round, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, count in (("--sets", 10), ("--jobs", 10), ("--rows", 4_000), ("--repeat", 3)):
        parser.add_argument(name, type=int, default=count)
    parser.add_argument("-n", "--numprocesses", default="auto")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    found: dict[str, list[Ran]] = {}
    with tempfile.TemporaryDirectory(prefix="ftcheck-many-") as name:
        cases = list(write_all(Path(name), given.sets, given.jobs, given.rows, tiny=given.tiny))
        for number in range(given.repeat):
            for what, policies in cases:
                one = run(policies, given.numprocesses)
                found.setdefault(what, []).append(one)
                said = f"exit {one.code}, {'an index' if one.index else 'NO INDEX'}"
                print(
                    f"  round {number + 1}  {what:40}{one.seconds:7.2f} s  CPU {one.cpu:6.2f} s  {said}",
                    flush=True,
                )
    _tell(found)


def _tell(found: Mapping[str, list[Ran]]) -> None:
    """The table: medians, and the ratio to the base of the same round."""
    print(f"{'':42}{'seconds':>9}{'times':>8}{'CPU':>9}{'times':>8}   to reach")
    for what, rans in found.items():
        clock = median(one.seconds / base.seconds for one, base in zip(rans, found[BASE], strict=True))
        cpu = median(one.cpu / base.cpu for one, base in zip(rans, found[BASE], strict=True))
        seconds, of_cpu = median(one.seconds for one in rans), median(one.cpu for one in rans)
        goal = "" if what == BASE else f"   <= {MOST}x"
        print(f"{what:42}{seconds:9.2f}{clock:7.2f}x{of_cpu:9.2f}{cpu:7.2f}x{goal}")


if __name__ == "__main__":
    main()
