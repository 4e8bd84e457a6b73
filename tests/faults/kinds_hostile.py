"""Input that nobody should trust (issue 13, section E): planted for the bench, each told at its place."""

import json
from collections.abc import Callable

from tests.faults.bench import Bench
from tests.faults.catalogue import Fault, Plant

FAULTS: list[Fault] = []
BASES = ("chat", "thinking")
"""Clean jobs of two tokenizers: each kind is planted in both."""


def fault(id: str, rule: str, where: str, severity: str = "error") -> Callable[[Plant], Plant]:
    """List a function that plants a failure in both bases."""

    def listed(plant: Plant) -> Plant:
        FAULTS.extend(Fault(f"{id}-{base}", "hostile", rule, where, plant, base, severity) for base in BASES)
        return plant

    return listed


def _line(bench: Bench, number: int, text: str) -> None:
    """Put another line in the place of a training row (from 1)."""
    lines = (bench.folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    lines[number - 1] = text
    bench.file("train.jsonl", "".join(line + "\n" for line in lines))


@fault("row-nested-deep", "data-readable", "train.jsonl:5")
def _(bench: Bench) -> None:
    """A row nested 100,000 deep, on which a recursive parser ends."""
    bench.then(lambda made: _line(made, 5, '{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}"))


@fault("row-with-a-huge-number", "data-readable", "train.jsonl:7")
def _(bench: Bench) -> None:
    """A number of 5,000 digits, which Python refuses to convert."""
    bench.then(lambda made: _line(made, 7, '{"messages": [], "n": ' + "9" * 5_000 + "}"))


@fault("row-of-broken-bytes", "data-readable", "train.jsonl:9")
def _(bench: Bench) -> None:
    """Bytes that are no UTF-8."""

    def broken(made: Bench) -> None:
        lines = (made.folder / "train.jsonl").read_bytes().splitlines()
        lines[8] = lines[8].replace(b" ", b"\xff", 1)
        made.file("train.jsonl", b"".join(line + b"\n" for line in lines))

    bench.then(broken)


@fault("timestamp-out-of-range", "data-readable", "train.parquet:1")
def _(bench: Bench) -> None:
    """A Parquet file with a time that no calendar holds: converting it raises."""
    bench.set("data.train", "train.parquet")

    def parquet(made: Bench) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        messages = pa.array([row["messages"] for row in made.train])
        late = pa.array([1 << 61] * len(made.train), pa.timestamp("ms"))
        pq.write_table(pa.table({"messages": messages, "made": late}), made.folder / "train.parquet")

    bench.then(parquet)


@fault("rows-are-one-array-and-more", "data-readable", "train.json")
def _(bench: Bench) -> None:
    """Two JSON arrays one after the other: a lenient reader sees the first one only."""
    bench.set("data.train", "train.json")

    def twice(made: Bench) -> None:
        text = json.dumps(made.train)
        made.file("train.json", text + text)

    bench.then(twice)
