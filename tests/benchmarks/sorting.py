"""What sorts the records of MinHash bands: numpy with runs on the disk, pyarrow, or DuckDB.

    python -m tests.benchmarks.sorting [ROWS ...]        default: 1,000,000 and 10,000,000

Makes 16 records a row, as `ftcheck.dedup.minhash` does, one in 50 with the key of another; brings those with
one key together in the order of the rows, and counts the pairs. Each way in a process of its own, on one
thread, with 256 MiB where it takes a limit. pyarrow has no sort that uses the disk. Without DuckDB (`pip
install duckdb`) its lines are missing.
"""

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ftcheck.dedup.minhash import BANDS, ROW_BITS, bucket_pairs
from ftcheck.dedup.records import Sorter

if TYPE_CHECKING:
    from ftcheck.dedup.records import Records

MEMORY = 256 << 20
BATCH = 5_000


def made(rows: int) -> "Iterator[Records]":
    """The records of some rows at a time."""
    random = np.random.default_rng(0)
    bands = np.arange(BANDS, dtype=np.uint64) << np.uint64(ROW_BITS)
    for first in range(0, rows, BATCH):
        keys = random.integers(0, 2**64 - 1, size=(BATCH, BANDS), dtype=np.uint64)
        copies = random.random(BATCH) < 0.02
        keys[copies] = keys[random.integers(0, BATCH, size=int(copies.sum()))]
        numbers = np.arange(first, first + BATCH, dtype=np.uint64)
        yield np.stack([keys.ravel(), (numbers[:, None] | bands).ravel()], axis=1)


def by_numpy(rows: int) -> int:
    """Sorted runs on the disk, merged."""
    with Sorter(MEMORY) as sorter:
        for records in made(rows):
            sorter.add(records)
        return sum(len(pairs) for pairs in bucket_pairs(sorter.pieces()))


def by_pyarrow(rows: int) -> int:
    """One table, sorted in memory."""
    import pyarrow as pa

    pa.set_cpu_count(1)
    table = pa.Table.from_batches(_batches(rows))
    table = table.sort_by([("key", "ascending"), ("tag", "ascending")])
    return sum(len(pairs) for pairs in bucket_pairs(_records(table.to_batches(1 << 20))))


def _batches(rows: int) -> Iterator[Any]:
    import pyarrow as pa

    for one in made(rows):
        yield pa.record_batch([pa.array(one[:, 0]), pa.array(one[:, 1])], ["key", "tag"])


def _records(batches: Iterable[Any]) -> "Iterator[Records]":
    for one in batches:
        yield np.stack([one.column(0).to_numpy(), one.column(1).to_numpy()], axis=1)


def by_duckdb(rows: int) -> int:
    """One table, ordered on the disk, read back in batches."""

    def ordered(db: Any) -> Any:
        return db.execute("SELECT key, tag FROM records ORDER BY key, tag").to_arrow_reader(1 << 20)

    return _duckdb(rows, lambda db: sum(map(len, bucket_pairs(_records(ordered(db))))))


def by_duckdb_windows(rows: int) -> int:
    """The same by its window functions: pairs come out of SQL."""
    query = f"""
        SELECT count(*) + count(*) FILTER (first <> before) FROM (
            SELECT lag(tag) OVER one AS before, first_value(tag) OVER one AS first
            FROM records WINDOW one AS (PARTITION BY key, tag >> {ROW_BITS} ORDER BY tag)
        ) WHERE before IS NOT NULL
    """
    return _duckdb(rows, lambda db: int(db.execute(query).fetchone()[0]))


def _duckdb(rows: int, pairs: Callable[[Any], int]) -> int:
    import duckdb
    import pyarrow as pa

    with tempfile.TemporaryDirectory() as folder:
        db = duckdb.connect(f"{folder}/records.db")
        db.execute(f"SET memory_limit='{MEMORY >> 20}MiB'; SET threads=1; SET preserve_insertion_order=false")
        schema = pa.schema([(name, pa.uint64()) for name in ("key", "tag")])
        db.register("given", pa.RecordBatchReader.from_batches(schema, _batches(rows)))
        db.execute("CREATE TABLE records AS SELECT * FROM given")
        return pairs(db)


WAYS = {one.__name__: one for one in (by_numpy, by_pyarrow, by_duckdb, by_duckdb_windows)}


def alone(way: str, rows: int) -> None:
    """Sort in this process."""
    started = time.monotonic()
    pairs = WAYS[way](rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([pairs, time.monotonic() - started, peak]))


def main(arguments: list[str]) -> None:
    """Print the table."""
    if arguments[:1] == ["--alone"]:
        alone(arguments[1], int(arguments[2]))
        return
    print(f"{'rows':>12}  {'way':<20}{'seconds':>8}{'peak MiB':>10}{'pairs':>12}")
    for rows in [int(one) for one in arguments] or [1_000_000, 10_000_000]:
        for way in WAYS:
            if "duckdb" in way and importlib.util.find_spec("duckdb") is None:
                continue
            command = [sys.executable, "-m", "tests.benchmarks.sorting", "--alone", way, str(rows)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(
                    f"{rows:>12,}  {way:<20}  {(done.stderr.splitlines() or [str(done.returncode)])[-1][:80]}"
                )
                continue
            pairs, seconds, peak = json.loads(done.stdout.splitlines()[-1])
            print(f"{rows:>12,}  {way:<20}{seconds:>8.1f}{peak:>10,.0f}{pairs:>12,}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
