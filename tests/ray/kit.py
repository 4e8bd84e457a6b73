"""Data sets in shards, a policy with all recommended checks, and runs of it on either engine."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import preparation

from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.prepared import Prepared
from ftcheck.records import Progress
from ftcheck.settings import Data, Job, Model, Training
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


LIKE = 40
"""Words of a question whose rows have near-duplicates."""


def likened(folder: Path, rows: int, files: int) -> str:
    """Files of JSON lines with planted copies, near-duplicates and other answers, and beside them
    `eval.jsonl` and `gold.jsonl`, of which some is in the rows as it stands, and some nearly; the glob of the
    rows.
    """
    drawn = random.Random(7)
    made: list[tuple[str, str]] = []
    for row in range(rows):
        asked = [drawn.choice(WORDS) + str(drawn.randrange(999)) for _ in range(LIKE)]
        answer = f'{{"id": {row}, "team": {drawn.randrange(9)}}}'
        if row and row % 5 == 0:
            before, answer = made[drawn.randrange(row)]
            asked = before.split()
            if row % 15:
                asked[drawn.randrange(3)] = f"other{row}"
            if row % 2:
                answer = f'{{"id": {row}}}'
        made.append((" ".join(asked), answer))
    for part in range(files):
        some = made[part * rows // files : (part + 1) * rows // files]
        (folder / f"part-{part}.jsonl").write_text("".join(map(_asked, some)), encoding="utf-8")
    tests = [
        (f"{asked} now" if n % 2 else asked, answer) for n, (asked, answer) in enumerate(made[:: rows // 60])
    ]
    (folder / "eval.jsonl").write_text("".join(map(_asked, tests)), encoding="utf-8")
    gold = [{"input": f"{asked} please", "expected": answer} for asked, answer in made[3 :: rows // 40]]
    (folder / "gold.jsonl").write_text("\n".join(map(json.dumps, gold)) + "\n", encoding="utf-8")
    return "part-*.jsonl"


def _asked(row: tuple[str, str]) -> str:
    turns = zip(("user", "assistant"), row, strict=True)
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n"


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


LOADERS = {one.name: one for one in (tokenizer.tokenizer, preparation.prepared, preparation.rows)}
ARRAYS = (
    *("length", "kept", "trained", "trained_lost", "bos", "answer", "boundary", "ends_in_stop"),
    *("stop_trained", "outlier", "used", "sequences"),
)
OF_ROWS = ("file", "line", "offset", "turns", "system", "asked", "said", "answered", "spelled", "ending")
SAID = ("files", "row_errors", "format", "system_prompts", "remarks", "notes", "marks", "key_sets", "opening")


def prepared(folder: Path, train: str, engine: str = "local", **settings: Any) -> Prepared:
    """The rows of a data set, prepared in this process; `settings` are of `Run`, `data` and `training`."""
    data, training = settings.pop("data", {}), settings.pop("training", {})
    job = Job(
        name="job",
        model=Model(name=str(MODEL)),
        data=Data(train=train if "://" in train else str(folder / train), **data),
        training=Training(**{"max_length": 96, "assistant_only_loss": True, **training}),
    )
    work = folder / f"work-{engine}-{time.monotonic_ns()}"
    work.mkdir()
    made: Prepared = Inputs(LOADERS, {"run": Run(folder=work, engine=engine, **settings)}, job).get(
        "prepared"
    )
    return made


def same(here: Prepared, there: Prepared, but: str = "") -> None:
    """Both say the same of every row, and feed the same ids and labels."""
    for name in ARRAYS:
        assert np.array_equal(getattr(here, name), getattr(there, name)), name
    for name in OF_ROWS:
        assert np.array_equal(getattr(here.rows, name), getattr(there.rows, name)), name
    for name in SAID:
        assert name == but or getattr(here.rows, name) == getattr(there.rows, name), name
    assert list(here.rows.records) == list(there.rows.records)
    assert (here.digest, here.engine, here.masked) == (there.digest, there.engine, there.masked)
    for trained in (False, True):
        assert np.array_equal(here.tokens.used_ids(trained=trained), there.tokens.used_ids(trained=trained))
    for row in range(0, len(here), 97):
        assert np.array_equal(here.tokens.ids(row), there.tokens.ids(row))
        assert np.array_equal(here.tokens.mask(row), there.tokens.mask(row))


def on_cluster(made: Prepared) -> bool:
    """Whether tasks made it."""
    return type(made.tokens).__name__ == "MergedRows"


class Once:
    """Does something when the first rows, or parts, of a task are there whose name begins so."""

    def __init__(self, act: Callable[[], None], task: str = "preparing", unit: str = "rows") -> None:
        self._act, self._task, self._unit = act, task, unit
        self.done = False

    def __call__(self, progress: Progress) -> None:
        named = progress.task.startswith(self._task) and progress.unit == self._unit
        if progress.done and named and not self.done:
            self.done = True
            self._act()


def kill_a_worker() -> None:
    """SIGKILL for a process of Ray's that is at a task."""
    for one in psutil.process_iter(["name", "cmdline"]):
        if "ray::answered" in " ".join(one.info["cmdline"] or ()):
            os.kill(one.pid, signal.SIGKILL)
            return
    raise AssertionError("no task is under way")
