"""The engine on Ray beside that of one machine: the same report, rows a second, memory of each process.

    python -m tests.benchmarks.ray_engine [--rows 20000000] [--faults] [--folder DIR] [--only NAME ...]

Writes rows in 64 Parquet files (20 million take about 2 GB, and each preparation 4 GB more while it goes on;
`df` is asked first), then runs one policy through the command line: `local`, and on local clusters of one and
of two nodes with one processor each (`one`, `two`); with `--faults` on two nodes once more while a worker is
killed (`killed`) and while a node is taken away (`removed`). Prints for each the seconds of the whole command
and of the preparation, rows a second, and the peak memory (RSS) of the largest process of each kind; then the
efficiency from one node to two, and whether all reports are the same outside their section `run`. Exits 1 if
one is not, or a process of a run on Ray took more than 1.5 GiB (mapped files included).
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.benchmarks.processes import Peaks, looked_at
from tests.benchmarks.second_run import MODEL, WORDS

SHARDS = 64
GROUPS = 4
"""Row groups of a file."""
GIB = 1 << 30
LIMIT = 1.5
"""GiB that no process may take."""
NEEDS = 350
"""Bytes of disk for each row: its files, and one preparation."""
STORE = 256 << 20
POLICY = f"""
ftcheck: 1
name: ray-engine
jobs:
  job:
    model: {{name: {MODEL}}}
    data: {{train: "rows/*.parquet"}}
    training: {{max_length: 64, assistant_only_loss: true}}
checks:
  data-readable: {{}}
  data-schema: {{}}
  duplicates: {{severity: warning}}
  special-tokens: {{}}
  vocabulary: {{}}
  percentile-seq-len: {{severity: warning}}
  trained-tokens: {{severity: warning}}
  truncation: {{severity: warning}}
"""
PREPARED = re.compile(r"preparing job\s.*?([\d.]+) s$", re.MULTILINE)


def table(first: int, stop: int) -> pa.Table:
    """Conversations of these numbers; one question in eleven repeats another, the longest are cut off."""
    number, count = np.arange(first, stop, dtype=np.int64), stop - first
    asked = np.where(number % 11 == 0, number % 9_973, number)
    written = pa.array(asked).cast(pa.string())
    tails = [" ".join(WORDS[(7 * k + n) % len(WORDS)] for n in range(2 + k)) for k in range(19)]
    tail = pa.array(tails).take(pa.array(asked % 19))
    team = pa.array(asked % 9).cast(pa.string())
    question = pc.binary_join_element_wise("request", written, tail, " ")
    answer = pc.binary_join_element_wise('{"team": ', team, ', "id": ', written, "}", "")
    places = np.stack([np.arange(count), np.arange(count) + count], axis=1).reshape(-1)
    content = pa.concat_arrays([question, answer]).take(pa.array(places))
    role = pa.array(["user", "assistant"]).take(pa.array(np.tile([0, 1], count)))
    turns = pa.StructArray.from_arrays([role, content], names=["role", "content"])
    edges = np.arange(0, 2 * count + 1, 2, dtype=np.int32)
    return pa.table({"messages": pa.ListArray.from_arrays(edges, turns)})


def write(folder: Path, rows: int) -> None:
    """So many rows in `SHARDS` files; what is there already stays."""
    edges = [rows * n // SHARDS for n in range(SHARDS + 1)]
    (folder / "rows").mkdir(exist_ok=True)
    for n, (first, stop) in enumerate(pairwise(edges)):
        path = folder / "rows" / f"{n:03}.parquet"
        if not path.exists():
            size = -(-(stop - first) // GROUPS)
            making = path.with_suffix(".part")
            pq.write_table(table(first, stop), making, row_group_size=size, compression="zstd")
            making.rename(path)
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")


@dataclass(frozen=True)
class Ran:
    """A run that has ended."""

    name: str
    seconds: float
    preparing: float
    memory: Peaks
    report: dict[str, Any]


@contextmanager
def nodes(count: int) -> Iterator[Any]:
    """A cluster of so many nodes with one processor each; None for none."""
    if not count:
        yield None
        return
    from ray.cluster_utils import Cluster

    given = {"num_cpus": 1, "object_store_memory": STORE}
    made = Cluster(initialize_head=True, head_node_args={**given, "include_dashboard": False})
    for _ in range(count - 1):
        made.add_node(**given)
    yield made
    made.shutdown()


def run(folder: Path, name: str, count: int, fault: str | None, after: float) -> Ran:
    """One run of the command; `fault` happens so many seconds after its start."""
    with nodes(count) as cluster:
        on_ray = ["--engine", "ray", "--ray-address", cluster.address] if cluster is not None else []
        command = [sys.executable, "-m", "ftcheck", "run", "policy.yaml", "-v", "--no-cache", *on_ray]
        started = time.monotonic()
        with subprocess.Popen(
            [*command, "-o", f"json={name}.json"], cwd=folder, stdout=subprocess.PIPE, text=True
        ) as process:
            if fault is not None:
                timer = threading.Timer(after, _fault, (fault, cluster))
                timer.daemon = True
                timer.start()
            with looked_at() as memory:
                out = process.stdout.read() if process.stdout else ""
        seconds = time.monotonic() - started
    report = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    report.pop("run")
    found = PREPARED.search(out)
    if found is None:
        raise SystemExit(out)
    return Ran(name, seconds, float(found[1]), memory, report)


def _fault(kind: str, cluster: Any) -> None:
    """Kill a worker at a task, or take the second node away."""
    if kind == "removed":
        cluster.remove_node(list(cluster.worker_nodes)[-1], allow_graceful=False)
        print("a node was removed", flush=True)
        return
    while True:
        for one in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "ray::answered" in " ".join(one.cmdline()):
                    os.kill(one.pid, signal.SIGKILL)
                    print(f"worker {one.pid} was killed", flush=True)
                    return
        time.sleep(0.1)


def tell(ran: Ran, rows: int) -> None:
    """One line of the table."""
    peaks, own = ran.memory.peaks, ran.memory.own
    sizes = "  ".join(f"{kind} {peak / GIB:.2f} ({own[kind] / GIB:.2f})" for kind, peak in peaks.items())
    rate = rows / ran.preparing
    print(f"{ran.name:9}{ran.seconds:9.1f}{ran.preparing:11.1f}{rate:10,.0f}   {sizes}")
    spent = "  ".join(f"{kind} {ran.memory.spent(kind):.0f}" for kind in peaks)
    print(f"{'':39}   CPU seconds: {spent}", flush=True)


RUNS = {
    "local": (0, None),
    "one": (1, None),
    "two": (2, None),
    "killed": (2, "killed"),
    "removed": (2, "removed"),
}


def measure(folder: Path, rows: int, names: list[str]) -> int:
    """Print the table; 1 if something is not as it must be."""
    print(f"{'':9}{'command s':>9}{'prepare s':>11}{'rows/s':>10}   GiB of the largest: RSS (without files)")
    done: dict[str, Ran] = {}
    for name in names:
        count, fault = RUNS[name]
        after = done["two"].preparing / 2 if fault and "two" in done else 20.0
        done[name] = run(folder, name, count, fault, after)
        tell(done[name], rows)
    first = next(iter(done.values()))
    other = {name: where for name, ran in done.items() if (where := _differing(first.report, ran.report))}
    print(f"reports the same outside `run`: {not other}", other or "")
    if {"one", "two"} <= done.keys():
        one, two = done["one"], done["two"]
        print(f"efficiency from one node to two, preparation: {one.preparing / two.preparing / 2:.2f}")
        print(f"efficiency from one node to two, command: {one.seconds / two.seconds / 2:.2f}")
    on_ray = [ran for name, ran in done.items() if RUNS[name][0]]
    small = all(peak <= LIMIT * GIB for ran in on_ray for peak in ran.memory.peaks.values())
    print(f"no process of a run on Ray above {LIMIT} GiB: {small}")
    return 0 if small and not other else 1


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The parts of two reports that are not the same."""
    return [part for part in one.keys() | other.keys() if json.dumps(one[part]) != json.dumps(other[part])]


def main() -> int:
    """Write the rows and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--folder", type=Path, help="keeps the rows for another time")
    parser.add_argument("--only", nargs="*", choices=list(RUNS))
    given = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    names = given.only or [name for name, (_, fault) in RUNS.items() if given.faults or fault is None]
    with tempfile.TemporaryDirectory(prefix="ftcheck-bench-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < given.rows * NEEDS:
            raise SystemExit(f"{folder}: {given.rows * NEEDS / 1e9:.0f} GB of disk are needed")
        started = time.monotonic()
        write(folder, given.rows)
        size = sum(one.stat().st_size for one in (folder / "rows").iterdir())
        took = time.monotonic() - started
        print(f"{given.rows:,} rows, {size / 1e6:,.0f} MB in {SHARDS} files, {took:.0f} s", flush=True)
        return measure(folder, given.rows, names)


if __name__ == "__main__":
    raise SystemExit(main())
