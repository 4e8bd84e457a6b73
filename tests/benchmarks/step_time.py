"""Measured step times against the interval that `ftcheck plan` states: a line a card.

    python -m tests.benchmarks.step_time [--rows] [--file memory.jsonl]
"""

import argparse
from pathlib import Path

from tests.benchmarks import measured_time
from tests.places import SHARED

MEASURED = SHARED / "data" / "measured" / "memory.jsonl"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", action="store_true", help="every row as well")
    parser.add_argument("--file", type=Path, default=MEASURED, help="measurements (JSON lines)")
    given = parser.parse_args()
    found = [measured_time.judged(one) for one in measured_time.rows(given.file)]
    for known in (True, False):
        print("programs that are known:" if known else "other programs (fused or compiled, GPTQ, not stated):")
        for card in dict.fromkeys(one.row.card for one in found if one.row.known is known):
            these = [one for one in found if one.row.known is known and one.row.card == card]
            print(measured_time.line(card, these))
            for one in these if given.rows else ():
                print(measured_time.detail(one))


if __name__ == "__main__":
    main()
