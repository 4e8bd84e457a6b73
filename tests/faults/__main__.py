"""Prints the bench's table: `python -m tests.faults [FAULT…]`.

`--clean` and `--real` look at healthy jobs instead: `python -m tests.faults --real [PART OF A NAME…]`.
"""

import sys
import tempfile
from pathlib import Path

from tests.faults.bench import BASES
from tests.faults.catalogue import FAULTS, Fault
from tests.faults.clean import SMALL, combinations
from tests.faults.examine import Verdict, examine, quiet, table


def main(arguments: list[str]) -> int:
    """Plant all faults, or those named; exit 1 if one is not caught as it must be."""
    if "--clean" in arguments or "--real" in arguments:
        return _clean(real="--real" in arguments, names=[one for one in arguments if one[0] != "-"])
    wanted = [one for one in FAULTS if not arguments or one.id in arguments]
    verdicts: list[Verdict] = []
    for fault in wanted:
        with tempfile.TemporaryDirectory(prefix="ftcheck-fault-") as folder:
            verdicts.append(_examined(fault, Path(folder)))
    print(table(verdicts))
    for one in verdicts:
        if arguments or not one.right:
            print(f"\n{one.fault.id} (must be {one.fault.rule} at {one.fault.where}):\n{one.said}")
    return 0 if all(one.right for one in verdicts) else 1


def _examined(fault: Fault, folder: Path) -> Verdict:
    """A fault that cannot even be planted is a line of the table, too."""
    try:
        return examine(fault, folder)
    except Exception as error:
        said = f"cannot be planted: {type(error).__name__}: {error}"
        return Verdict(fault, False, False, False, (), None, 0.0, said)


def _clean(real: bool, names: list[str]) -> int:
    """Look at healthy jobs and print what is said above `info`."""
    loud = 0
    jobs = {one.name: one.bench for one in combinations()} if real else {}
    if not real:
        for name, (base, change) in SMALL.items():

            def made(folder: Path, base: str = base, change: object = change) -> object:
                bench = BASES[base](folder)
                change(bench)  # type: ignore[operator]
                return bench

            jobs[name] = made  # type: ignore[assignment]
    for name, make in jobs.items():
        if names and not any(part in name for part in names):
            continue
        with tempfile.TemporaryDirectory(prefix="ftcheck-clean-") as folder:
            bench = make(Path(folder))
            bench.write()
            looked = bench.look()
        if not quiet(looked):
            loud += 1
            print(f"\n{name}\n{looked.said()}")
    print(f"{len(jobs)} healthy jobs, {loud} with findings")
    return 1 if loud else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
