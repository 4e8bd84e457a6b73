"""Files that are not what they seem (issue 13, section E): a finding says so, and nothing hangs."""

import json
from collections.abc import Callable

from tests.faults.bench import Bench
from tests.faults.catalogue import Fault, Plant

FAULTS: list[Fault] = []
BASES = ("chat", "thinking")
"""Clean jobs of two templates: each kind is planted in both."""


def fault(id: str, rule: str, where: str, severity: str = "error") -> Callable[[Plant], Plant]:
    """List a function that plants a failure in both bases."""

    def listed(plant: Plant) -> Plant:
        FAULTS.extend(Fault(f"{id}-{base}", "hostile", rule, where, plant, base, severity) for base in BASES)
        return plant

    return listed


@fault("row-nested-without-end", "data-readable", "train.jsonl:3")
def _(bench: Bench) -> None:
    """A row is nested deeper than any JSON reader goes."""

    def nest(bench: Bench) -> None:
        lines = [json.dumps(row) for row in bench.train]
        lines[2] = '{"messages": ' + "[" * 200_000 + "]" * 200_000 + "}"
        bench.file("train.jsonl", "".join(line + "\n" for line in lines))

    bench.then(nest)


@fault("number-of-5000-digits", "data-readable", "train.jsonl:3")
def _(bench: Bench) -> None:
    """A row has a number of more digits than Python reads."""

    def write(bench: Bench) -> None:
        lines = [json.dumps(row) for row in bench.train]
        lines[2] = lines[2][:-1] + ', "id": ' + "9" * 5_000 + "}"
        bench.file("train.jsonl", "".join(line + "\n" for line in lines))

    bench.then(write)
