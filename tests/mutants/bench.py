"""Runs mutants one after the other in a process of their own, which is killed when one of them hangs."""

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue

from ftcheck.exit_codes import ExitCode
from tests.mutants.kinds import KINDS, Place
from tests.mutants.world import World

LIMIT = 90.0
"""Seconds for one mutant, on a machine that does other things too."""


@dataclass
class Tally:
    """What became of the mutants of a kind. `wrong` holds number and story of each that must not be so."""

    kind: str
    count: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """One line of the table."""
        most = ", ".join(f"{what} {n:,}" for what, n in self.outcomes.most_common(5))
        counts = f"{self.count:>6,} mutants  {len(self.wrong):>4} wrong  {self.seconds:>6.0f} s"
        return f"{self.kind:<17} {counts}  {most}"


def examine(kind: str, world: World, *, seed: int, numbers: Sequence[int], limit: float = LIMIT) -> Tally:
    """Look at these mutants of a kind; the same seed and number make the same mutant."""
    tally, waiting, began = Tally(kind), list(numbers), time.monotonic()
    while waiting:
        waiting = _some(kind, world, seed, waiting, tally, limit)
    tally.seconds = time.monotonic() - began
    return tally


def _some(kind: str, world: World, seed: int, numbers: list[int], tally: Tally, limit: float) -> list[int]:
    """One process for as many as it does; those that are left when it hung or died."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        command = [sys.executable, "-m", "tests.mutants.bench", kind, str(world.folder), folder, str(seed)]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "FTCHECK_CACHE": str(Path(folder) / "cache"), "HF_HUB_OFFLINE": "1"},
            )
        lines: Queue[str | None] = Queue()
        reader = threading.Thread(target=_lines, args=(process, lines), daemon=True)
        reader.start()
        for place, number in enumerate(numbers):
            story = _asked(process, lines, number, limit)
            if story[0] == "died" and _told(Path(folder)):
                story = "died, told", ""
            tally.count += 1
            tally.outcomes[story[0]] += 1
            if story[0] in ("traceback", "hang", "died"):
                last = (Path(folder) / "log").read_bytes()[-2000:].decode("utf-8", "replace")
                tally.wrong.append((number, f"{story[0]}: {story[1] or last}"))
            if story[0] in ("hang", "died", "died, told"):
                process.kill()
                _end(process, reader)
                return numbers[place + 1 :]
        _end(process, reader)
    return []


def _told(folder: Path) -> bool:
    """Whether the command line says of the mutant at hand that reading it ended the worker.

    A library crashed. Here it is read in one process; a user's run reads it in a worker, whose end is told.
    """
    policies = sorted(folder.rglob("policy.yaml"), key=lambda one: one.stat().st_mtime)
    if not policies:
        return False
    command = [sys.executable, "-m", "ftcheck", "run", str(policies[-1]), "--offline", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * LIMIT, check=False)
    said = done.stdout + done.stderr
    return done.returncode == ExitCode.INCOMPLETE and "worker" in said and "Traceback" not in said


def _end(process: "subprocess.Popen[str]", reader: threading.Thread) -> None:
    """Let the process go, and close both pipes."""
    with contextlib.suppress(OSError):
        process.stdin.close() if process.stdin else None
    process.wait(timeout=60)
    reader.join(timeout=10)
    process.stdout.close() if process.stdout else None


def _lines(process: "subprocess.Popen[str]", lines: "Queue[str | None]") -> None:
    for line in process.stdout or ():
        if line.startswith("{"):
            lines.put(line)
    lines.put(None)


def _asked(
    process: "subprocess.Popen[str]", lines: "Queue[str | None]", number: int, limit: float
) -> tuple[str, str]:
    try:
        assert process.stdin is not None
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        line = lines.get(timeout=limit)
    except Empty:
        return "hang", f"no answer within {limit:g} s"
    except OSError:
        line = None
    if line is None:
        return "died", ""
    said = json.loads(line)
    return said["outcome"], said["story"]


def main(kind: str, world: str, folder: str, seed: str) -> None:
    """The process: a number a line comes in, an outcome a line goes out."""
    place = Place(World(Path(world)), Path(folder), {})
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        number = int(line)
        outcome, story = one(kind, place, int(seed), number)
        print(json.dumps({"outcome": outcome, "story": story}), file=out, flush=True)


def one(kind: str, place: Place, seed: int, number: int) -> tuple[str, str]:
    """One mutant: its outcome, and the story where that is `traceback`."""
    source = random.Random(f"{seed}:{kind}:{number}")
    try:
        return KINDS[kind](place, source), ""
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "traceback", traceback.format_exc()[-6000:]


if __name__ == "__main__":
    main(*sys.argv[1:])
