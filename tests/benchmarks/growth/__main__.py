"""How time, memory and bytes read grow: measured, with the formula that fits and where it bends.

    python -m tests.benchmarks.growth rows [10000 100000 ...] [--folder DIR]
    python -m tests.benchmarks.growth jobs [1 10 30 100]
    python -m tests.benchmarks.growth workers [--rows 1000000] [--folder DIR]

`rows` runs one policy on generated rows in Parquet files, each number in a process of its own. `jobs` runs so
many jobs over ten data sets, a policy each, in one command. `workers` prepares rows as the tasks of a cluster
do, one task after the other on this machine, takes the time of each and of what its caller does with what it
made, and works out from these times how long it takes on 1 to 256 workers; what was measured on one and two
(`python -m tests.benchmarks.ray_engine`) can be held against it.
"""

import argparse
from pathlib import Path

from tests.benchmarks.growth import jobs, rows, workers


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_rows = kinds.add_parser("rows")
    of_rows.add_argument("counts", type=int, nargs="*", default=[10_000, 100_000, 1_000_000, 10_000_000])
    of_jobs = kinds.add_parser("jobs")
    of_jobs.add_argument("counts", type=int, nargs="*", default=[1, 3, 10, 30, 100])
    of_workers = kinds.add_parser("workers")
    of_workers.add_argument("--rows", type=int, default=1_000_000)
    for one in (of_rows, of_workers):
        one.add_argument("--folder", type=Path, help="keeps the rows for another time")
    given = parser.parse_args()
    if given.kind == "rows":
        rows.measure(given.counts, given.folder)
    elif given.kind == "jobs":
        jobs.measure(given.counts)
    else:
        workers.measure(given.rows, given.folder)


if __name__ == "__main__":
    main()
