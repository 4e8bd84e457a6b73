"""Data sets in shards, a policy with all recommended checks, and runs of it on either engine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.second_run import WORDS
from tests.places import CHECKOUT

MODEL = CHECKOUT / "policies" / "samples" / "models" / "mapper-tiny"
WAITS = 300
"""Seconds after which a command is taken for hung."""


def turns(number: int) -> list[dict[str, str]]:
    """A conversation. Some repeat an earlier question, some are long, one in five has a system prompt."""
    asked = number % 997 if number % 11 == 0 else number
    words = " ".join(WORDS[(asked * 7 + k) % len(WORDS)] for k in range(4 + asked % 53))
    made = [
        {"role": "user", "content": f"request {asked}: {words}"},
        {"role": "assistant", "content": json.dumps({"intent": "printer", "team": asked % 9, "id": asked})},
    ]
    system = [{"role": "system", "content": f"prompt {number % 15}"}] if number % 5 == 0 else []
    return [*system, *made]


def line(number: int) -> str:
    """The row as a line of JSON: now and then a blank one, a broken one, and one without an answer."""
    if number % 409 == 7:
        return "   "
    if number % 531 == 11:
        return '{"messages": [{"role"'
    made = turns(number)
    if number % 301 == 1:
        made[-1]["content"] = ""
    return json.dumps({"messages": made})


def json_lines(folder: Path, rows: int, files: int) -> str:
    """Files of JSON lines; the glob that names them."""
    for part in range(files):
        numbers = range(part * rows // files, (part + 1) * rows // files)
        (folder / f"part-{part}.jsonl").write_text("\n".join(map(line, numbers)) + "\n", encoding="utf-8")
    return "part-*.jsonl"


def parquet(folder: Path, rows: int, files: int, groups: int = 2) -> str:
    """Parquet files of some row groups each; the glob that names them."""
    for part in range(files):
        numbers = range(part * rows // files, (part + 1) * rows // files)
        table = pa.table({"messages": [turns(number) for number in numbers]})
        pq.write_table(table, folder / f"part-{part}.parquet", row_group_size=-(-len(numbers) // groups))
    return "part-*.parquet"


def policy(folder: Path, train: str, *, data: str = "", training: str = "") -> Path:
    """A policy with all recommended checks on one job."""
    path = folder / "policy.yaml"
    path.write_text(
        f"""
ftcheck: 1
name: shards
extends: [recommended]
jobs:
  job:
    model: {{name: {MODEL}}}
    data: {{train: "{train}"{data}}}
    training: {{max_length: 96, assistant_only_loss: true{training}}}
""",
        encoding="utf-8",
    )
    return path


@dataclass(frozen=True)
class Ran:
    """A run that has ended: its exit code, what it printed, its report."""

    code: int
    out: str
    report: dict[str, Any]

    @property
    def told(self) -> str:
        """The report but for its section `run`, as text that can be compared."""
        kept = {name: value for name, value in self.report.items() if name != "run"}
        return json.dumps(kept, indent=1)

    def result(self, check: str) -> dict[str, Any]:
        """The result of a check."""
        return next(one for one in self.report["results"] if one["id"] == f"job::{check}")


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """That of a command: a cache of its own, nothing from a network."""
    return {
        **os.environ,
        "FTCHECK_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "RAY_ADDRESS": "",
        **(more or {}),
    }


def start(folder: Path, *flags: str, more: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """`ftcheck run` on the folder's policy, with its report in `r.json`."""
    command = [sys.executable, "-m", "ftcheck", "run", "policy.yaml", "-o", "json=r.json", *flags]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder, more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: "subprocess.Popen[str]", folder: Path) -> Ran:
    """What became of it."""
    out, _ = process.communicate(timeout=WAITS)
    report = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    return Ran(process.returncode, out, report)


def run(folder: Path, *flags: str, more: Mapping[str, str] | None = None) -> Ran:
    """`ftcheck run` from start to end."""
    return ended(start(folder, *flags, more=more), folder)


def places(ran: Ran) -> Iterator[tuple[str, int]]:
    """File and line of each finding on rows that cannot be read."""
    for one in ran.result("data-readable")["findings"]:
        yield one["location"]["path"], one["location"]["line"]
