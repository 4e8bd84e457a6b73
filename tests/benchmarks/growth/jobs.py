"""More and more jobs in one command, over ten data sets."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import many_jobs
from tests.benchmarks.growth.fit import fitted, told

SETS = 10
ROWS = 4_000


def measure(counts: Sequence[int]) -> None:
    """Print a line for each number of jobs, then the formula."""
    print(f"{'jobs':>6}{'data sets':>11}{'seconds':>9}{'CPU s':>8}{'s a job':>9}")
    found: list[tuple[int, many_jobs.Ran]] = []
    with tempfile.TemporaryDirectory(prefix="ftcheck-growth-") as name:
        for count in counts:
            ran = many_jobs.run(written(Path(name), count), "auto")
            found.append((count, ran))
            spent = f"{ran.seconds:>9.1f}{ran.cpu:>8.1f}{ran.seconds / count:>9.2f}"
            print(f"{count:>6}{min(count, SETS):>11}{spent}", flush=True)
    terms = [(1.0, float(min(count, SETS)), float(count)) for count, _ in found]
    factors = fitted(terms, [ran.seconds for _, ran in found])
    print(f"seconds = {factors[0]:.2f} + {factors[1]:.2f} * data sets + {factors[2]:.2f} * jobs")
    for (count, ran), some in zip(found, terms, strict=True):
        print(f"{count:>6}{ran.seconds:>20.1f}{told(factors, some, ran.seconds)}")


def written(folder: Path, count: int) -> Path:
    """The folder of so many policies, the data sets beside it."""
    policies = folder / f"jobs-{count}"
    for number in range(count):
        data = folder / f"data{number % SETS}.jsonl"
        if not data.exists():
            many_jobs.write_rows(data, ROWS, number)
        made = {f"job{number}": many_jobs.job(data, number // SETS, tiny=False)}
        many_jobs.write_policy(policies / f"job{number}.yaml", made)
    return policies
