"""How long a second run takes when nothing changed, and that one changed byte is seen.

    python -m tests.benchmarks.second_run [ROWS]        default: 1,000,000 (about 360 MB)

Writes rows, runs a policy with the rules that look at lengths three times through the command line (cold;
unchanged; one byte flipped, same size and mtime), and prints a table. Nothing fails on a clock; it exits 1
if the second run prepared anything, imported transformers, or the flipped byte was not seen. A last run
adds a rule that needs the tokenizer.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.places import CHECKOUT

MODEL = CHECKOUT / "policies" / "samples" / "models" / "mapper-tiny"
RULES = '''
"""Which libraries the worker imported."""
import sys
from collections.abc import Iterator
from typing import Any
from ftcheck import Measurement, Prepared, Tokenizer, rule


@rule("imported")
def imported(prepared: Prepared) -> Iterator[Any]:
    """Something holds.

    Otherwise something goes wrong.
    """
    yield Measurement("transformers", "transformers" in sys.modules)


@rule("tokenizer-opened")
def tokenizer_opened(tokenizer: Tokenizer) -> Iterator[Any]:
    """Something holds.

    Otherwise something goes wrong.
    """
    yield Measurement("size", tokenizer.size)
'''
POLICY = f"""
ftcheck: 1
name: second-run
jobs:
  job:
    model: {{name: {MODEL}}}
    data: {{train: rows.jsonl}}
    training: {{max_length: 512, packing: true, assistant_only_loss: true}}
checks:
  percentile-seq-len: {{}}
  truncation: {{}}
  packing-efficiency: {{}}
  imported: {{}}
"""
TEXT = "the printer on floor four shows a paper jam again and nobody could clear it since this morning"
WORDS = tuple(TEXT.split())


@dataclass(frozen=True)
class Ran:
    """One run: seconds on the clock, seconds of CPU (all processes), its report."""

    wall: float
    cpu: float
    report: dict[str, Any]

    @property
    def cached(self) -> list[str]:
        """What came from the cache."""
        return list(self.report["run"]["cached"])

    def measured(self, check: str) -> Any:
        """The first measurement of a check."""
        found = next(one for one in self.report["results"] if one["id"] == f"job::{check}")
        return found["measurements"][0]["value"]


def main(count: int) -> int:
    """Write the rows, run, print; 1 if the cache did not do what it is for."""
    with tempfile.TemporaryDirectory(prefix="ftcheck-second-") as name:
        folder = Path(name)
        write(folder / "rows.jsonl", count)
        (folder / "rules").mkdir()
        (folder / "rules" / "imported.py").write_text(RULES, encoding="utf-8")
        (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
        size = (folder / "rows.jsonl").stat().st_size
        print(f"{count:,} rows, {size / 1e6:,.0f} MB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        cold = _tell("cold", _run(folder))
        warm = _tell("unchanged", _run(folder))
        _tell("unchanged, once more", _run(folder))
        (folder / "policy.yaml").write_text(POLICY + "  tokenizer-opened: {}\n", encoding="utf-8")
        _tell("with a rule that needs the tokenizer", _run(folder))
        _flip(folder / "rows.jsonl")
        changed = _tell("one byte flipped", _run(folder))
        good = warm.cached == ["job.train"] and not warm.measured("imported")
        good = good and warm.report["jobs"] == cold.report["jobs"]
        seen = changed.cached == [] and changed.report["jobs"] != cold.report["jobs"]
        print(f"unchanged run as it should be: {good}; flipped byte seen: {seen}")
        return 0 if good and seen else 1


def write(path: Path, count: int) -> None:
    """So many rows of two messages, about 360 bytes each."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            words = " ".join(WORDS[(n * 7 + k) % len(WORDS)] for k in range(28 + n % 23))
            turns = [
                {"role": "user", "content": f"request {n}: {words}"},
                {"role": "assistant", "content": json.dumps({"intent": "printer", "team": n % 9, "id": n})},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")


def _run(folder: Path) -> Ran:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "ftcheck", "run", "policy.yaml", "--rules-dir", "rules", "--offline"]
    done = subprocess.run(
        [*command, "-o", "json=r.json"],
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(wall, cpu, json.loads((folder / "r.json").read_text(encoding="utf-8")))


def _environment(folder: Path) -> dict[str, str]:
    """This one's, with a cache of its own; Python keeps its bytecode, as an installed package has it."""
    here = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**here, "FTCHECK_CACHE": str(folder / "cache"), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def _tell(what: str, ran: Ran) -> Ran:
    took = f"{ran.wall:8.2f} s   CPU {ran.cpu:8.2f} s"
    print(f"{what:38} {took}   cached {ran.cached}   transformers {ran.measured('imported')}", flush=True)
    return ran


def _flip(path: Path) -> None:
    """Another letter in the middle of the file: same size, same time of change."""
    was = path.stat()
    with path.open("r+b") as file:
        file.seek(was.st_size // 2)
        start = file.tell()
        place = start + file.read(1 << 16).index(b"printer")
        file.seek(place)
        file.write(b"q")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
