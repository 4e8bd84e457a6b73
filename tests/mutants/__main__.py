"""`python -m tests.mutants [--count 3000] [--seed N] [KIND…]`: break files at random, and look."""

import argparse
import tempfile
from pathlib import Path

from tests.mutants.bench import examine
from tests.mutants.kinds import KINDS
from tests.mutants.world import made


def main() -> int:
    """Exit 1 if a mutant made a traceback, hung, or opened the gate."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"one of: {', '.join(KINDS)}")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--first", type=int, default=0, help="the number of the first mutant")
    parser.add_argument("--shown", type=int, default=10, help="how many stories are printed")
    asked = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="mutants-world-") as folder:
        world = made(Path(folder) / "world", report="report" in (asked.kinds or KINDS))
        for kind in asked.kinds or KINDS:
            tally = examine(
                kind, world, seed=asked.seed, numbers=range(asked.first, asked.first + asked.count)
            )
            print(tally, flush=True)
            for number, story in tally.wrong[: asked.shown]:
                print(f"\n--- {kind} --seed {asked.seed} --first {number} --count 1\n{story}", flush=True)
            wrong += len(tally.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
