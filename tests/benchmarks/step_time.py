"""Measured step times against the interval that `ftcheck plan` states: a line a card.

python -m tests.benchmarks.step_time [--rows] [--file memory.jsonl]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import measured_time
from tests.benchmarks.measured_time import Judged, Timed, judged
from tests.places import SHARED

MEASURED = SHARED / "data" / "measured" / "memory.jsonl"
FOLDS: tuple[tuple[str, str, Callable[[Timed], str]], ...] = (
    ("T4 by model", "T4", lambda one: one.model),
    ("T4 by session", "T4", lambda one: one.session),
    ("T4 by bits and attention", "T4", lambda one: f"{one.bits} {one.attention}"),
    ("A100 by program", "A100", lambda one: one.group),
    ("A100 by model", "A100", lambda one: one.model),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", action="store_true", help="every row as well")
    parser.add_argument("--file", type=Path, default=MEASURED, help="measurements (JSON lines)")
    given = parser.parse_args()
    rows = measured_time.rows(given.file)
    known = [one for one in rows if one.known]
    print("programs that are known, as they compute:")
    show([judged(one) for one in known], details=given.rows)
    print("the same rows as jobs of the qlora trainer (TRL), as `ftcheck plan` says of them:")
    show([judged(one, as_trl=True) for one in known], details=given.rows)
    print("rows that utilisation, attention and start of kernels were not fitted to, but to the rest:")
    for name, card, fold in FOLDS:
        these = [one for one in known if one.name == card]
        print(measured_time.line(name, measured_time.held_out(these, fold)))
    only = measured_time.starting("L40S")
    print(
        measured_time.line(
            "L40S by A100's rates", [judged(one, here=only) for one in known if one.name == "L40S"]
        )
    )
    print("other programs (fused, compiled, GPTQ weights, not stated), as a `command`:")
    show([judged(one) for one in rows if not one.known], details=given.rows)


def show(found: list[Judged], *, details: bool) -> None:
    """A line a card, and one a row."""
    for card in dict.fromkeys(one.row.name for one in found):
        these = [one for one in found if one.row.name == card]
        print(measured_time.line(card, these))
        for one in these if details else ():
            print(measured_time.detail(one))


if __name__ == "__main__":
    main()
