"""One policy on more and more rows."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import ray_engine
from tests.benchmarks.growth.fit import fitted, told
from tests.benchmarks.processes import Peaks, looked_at

KINDS = ("command", "checks")
MIB, MB = 1 << 20, 1e6


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of the command: its seconds, those of its rules by name, and what its processes took."""

    rows: int
    size: int
    seconds: float
    rules: dict[str, float]
    peaks: Peaks


def measure(counts: Sequence[int], kept: Path | None) -> None:
    """Print a line for each number of rows, then the formula."""
    print(f"{'rows':>12}{'MB':>8}{'seconds':>9}{'CPU s':>8}{'rules s':>9}{'of duplicates':>15}", end="")
    print(f"{'memory MiB':>12}{'RSS MiB':>9}{'MB read':>9}{'times':>7}")
    ran: list[Ran] = []
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="ftcheck-growth-") as name:
            folder = (kept or Path(name)) / str(count)
            folder.mkdir(parents=True, exist_ok=True)
            ran.append(run(folder, count))
        _tell(ran[-1])
    terms = [(1.0, one.rows / MB) for one in ran]
    factors = fitted(terms, [one.seconds for one in ran])
    print(f"seconds = {factors[0]:.1f} + {factors[1]:.1f} * million rows")
    for one, some in zip(ran, terms, strict=True):
        print(f"{one.rows:>12,}{one.seconds:>17.1f}{told(factors, some, one.seconds)}")


def run(folder: Path, count: int) -> Ran:
    """Write so many rows and check them."""
    ray_engine.write(folder, count)
    command = [sys.executable, "-m", "ftcheck", "run", "policy.yaml", "--no-cache", "-o", "json=r.json"]
    started = time.monotonic()
    with looked_at() as peaks:
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
    seconds = time.monotonic() - started
    report = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    rules = {name.partition("::")[2]: taken for name, taken in report["run"]["seconds"].items()}
    size = sum(one.stat().st_size for one in (folder / "rows").iterdir())
    return Ran(count, size, seconds, rules, peaks)


def _tell(ran: Ran) -> None:
    peaks, rules = ran.peaks, sum(ran.rules.values())
    read = sum(done for (kind, _), done in peaks.read.items() if kind in KINDS)
    spent = f"{ran.seconds:>9.1f}{peaks.spent(*KINDS):>8.1f}{rules:>9.1f}{ran.rules['duplicates']:>15.1f}"
    memory = f"{peaks.together / MIB:>12,.0f}{max(peaks.peaks.values()) / MIB:>9,.0f}"
    print(
        f"{ran.rows:>12,}{ran.size / MB:>8,.1f}{spent}{memory}{read / MB:>9,.0f}{read / ran.size:>7.1f}",
        flush=True,
    )
