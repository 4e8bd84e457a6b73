"""Kill a training at random moments, go on with `--resume`, and compare with the run that nobody killed.

    python -m tests.trainers.kills --kills 20 [--seed 0] [--forked] [--folder F]

Half of the kills wait for a checkpoint (or the adapter) to be in the making, two of five for a step, and
the others come at any time after the start. Exits 1 unless every resumed run ends as the whole one did:
each logged loss, each evaluation, the tokens, and the adapter to the bit.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck_trainers import checkpoint

from tests.commands import Started
from tests.trainers import small

SAVES = 9
"""Times that the small job saves: eight checkpoints, and what was trained."""

STEPS = 24
"""Steps of the small job."""

SAVING, STEP = 0.06, 0.3
"""Seconds within which a kill comes once something is in the making, or once a step is logged."""

NOISE = 1e-6
"""What two losses may differ by, in nats."""

HEAD = f"{'kill':>4}  {'moment':<24}{'killed at':<24}{'went on':<20}{'lines':>6}{'difference':>12}  adapter"


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill: so many seconds after the process began, or the n-th save, or a step was logged."""

    seconds: float
    save: int | None = None
    step: int | None = None

    def __str__(self) -> str:
        """In words."""
        if self.save is not None:
            return f"{self.seconds * 1000:.0f} ms into save {self.save}"
        if self.step is not None:
            return f"{self.seconds * 1000:.0f} ms after step {self.step}"
        return f"{self.seconds:.2f} s after the start"


@dataclass(frozen=True, slots=True)
class Kill:
    """What a kill left behind, and what became of the run."""

    moment: Moment
    left: str
    went_on: str
    lines: int
    difference: float
    same_adapter: bool
    trouble: str = ""

    @property
    def good(self) -> bool:
        """Whether the run ended as the whole one did."""
        return not self.trouble and self.same_adapter and self.difference <= NOISE

    def row(self, number: int) -> str:
        """The kill as a line of the table."""
        adapter = "same" if self.same_adapter else "other"
        words = f"{number:>4}  {self.moment!s:<24}{self.left:<24}{self.went_on:<20}{self.lines:>6}"
        return f"{words}{self.difference:>12.2g}  {adapter}{'  ' + self.trouble if self.trouble else ''}"


class Bench:
    """A project, its stored report, and the run that nobody killed."""

    def __init__(
        self,
        folder: Path,
        model: Path | None = None,
        *,
        start: small.Start = small.started,
        settings: Sequence[str] = (),
    ) -> None:
        """Checks the job and trains it once, whole. `settings` are `--set` arguments for all commands."""
        self.folder, self.run, self.log = folder, folder / "run", folder / "log.txt"
        self._start, self._settings = start, tuple(settings)
        if model is None:
            model = folder / "llama-tiny"
            small.make_model(model)
        small.make_project(folder, model)
        self.demand(small.ftcheck("run", "policy.yaml", *self._settings, "-o", "json=r.json"))
        began = time.monotonic()
        self.demand(self.training())
        self.seconds = time.monotonic() - began
        self.whole = folder / "whole"
        self.run.rename(self.whole)

    def training(self, *, resume: bool = False) -> list[str]:
        """The command that starts the run, or goes on with it."""
        how = ["--resume"] if resume else ["--report", "r.json"]
        return small.ftcheck("train", "policy.yaml", "--job", "small", *self._settings, *how)

    def demand(self, words: list[str]) -> None:
        """Run a command; it must succeed."""
        code = self.call(words)
        if code:
            raise SystemExit(f"{' '.join(words)} ended with {code}: see {self.log}")

    def call(self, words: list[str]) -> int:
        """Run a command to its end."""
        return self._start(words, self.folder, self.log).wait()

    def start(self, words: list[str]) -> Started:
        """Start a command and do not wait for it."""
        return self._start(words, self.folder, self.log)

    def kill(self, moment: Moment) -> Kill | None:
        """Train, kill, go on; None where the run ended before the moment came."""
        self.clear()
        process = self.start(self.training())
        if not self._killed(process, moment):
            return None
        found = checkpoint.last(self.run)
        left = f"{_steps(self.run)} steps, {found.path.name if found.path else 'none'}"
        if found.passed_over:
            return Kill(moment, left, "-", 0, 0.0, False, "; ".join(found.passed_over))
        code = self.call(self.training(resume=found.path is not None))
        went_on = f"from {found.path.name}" if found.path else "anew"
        if code:
            return Kill(moment, left, went_on, 0, 0.0, False, f"exit code {code}: see {self.log}")
        return self.compared(moment, left, went_on)

    def said(self) -> str:
        """What all commands printed."""
        return self.log.read_text(encoding="utf-8")

    def clear(self) -> None:
        """Take away the run that lies there."""
        shutil.rmtree(self.run, ignore_errors=True)

    def _killed(self, process: Started, moment: Moment) -> bool:
        for _ in self._waiting(process, moment):
            pass
        if process.poll() is not None:
            return False
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True

    def _waiting(self, process: Started, moment: Moment) -> Iterator[None]:
        """Until the moment has come, or the process is gone."""
        saves, saving = 0, False
        at_once = moment.save is None and moment.step is None
        until = time.monotonic() + moment.seconds if at_once else None
        while process.poll() is None and (until is None or time.monotonic() < until):
            here = (self.run / checkpoint.STAGING).exists()
            saves += here and not saving
            saving = here
            reached = saves == moment.save if moment.step is None else _steps(self.run) >= moment.step
            if until is None and reached:
                until = time.monotonic() + moment.seconds
            time.sleep(0.001)
            yield

    def compared(self, moment: Moment, left: str, went_on: str) -> Kill:
        """How the run that lies there differs from the whole one."""
        ours, theirs = small.metrics(self.run), small.metrics(self.whole)
        name = "adapter_model.safetensors"
        same = (self.run / name).read_bytes() == (self.whole / name).read_bytes()
        trouble = self._trouble(ours, theirs)
        difference = max(
            (abs(a - b) for a, b in zip(_losses(ours), _losses(theirs), strict=False)), default=0.0
        )
        return Kill(moment, left, went_on, len(ours), difference, same, trouble)

    def _trouble(self, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
        about, whole = small.run_json(self.run), small.run_json(self.whole)
        if [_kind(line) for line in ours] != [_kind(line) for line in theirs]:
            return "other lines in metrics.jsonl"
        for key in ("status", "steps", "tokens", "final_loss", "final_eval_loss"):
            if about[key] != whole[key]:
                return f"{key} is {about[key]}, was {whole[key]}"
        rubbish = [path.name for path in self.run.iterdir() if path.name.startswith(("_", "."))]
        return f"left behind: {', '.join(rubbish)}" if rubbish else ""


def _steps(run: Path) -> int:
    """Steps that were logged before the kill."""
    path = run / "metrics.jsonl"
    return path.read_text(encoding="utf-8").count('"loss"') if path.exists() else 0


def _kind(line: dict[str, Any]) -> tuple[int, bool]:
    return line["step"], "loss" in line


def _losses(lines: list[dict[str, Any]]) -> list[float]:
    return [line["loss"] if "loss" in line else line["eval_loss"] for line in lines]


def moments(seed: int, seconds: float) -> Iterator[Moment]:
    """Random moments of a run that takes so many seconds, without end."""
    dice = random.Random(seed)
    while True:
        for _ in range(5):
            yield Moment(dice.uniform(0, SAVING), save=dice.randint(1, SAVES))
        for _ in range(4):
            yield Moment(dice.uniform(0, STEP), step=dice.randint(1, STEPS))
        yield Moment(dice.uniform(0, 1) * seconds)


def main() -> int:
    """The table, and how many kills changed nothing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--forked", action="store_true", help="fork from a process with the libraries imported"
    )
    parser.add_argument("--folder", type=Path, help="an empty folder for the runs; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder.resolve(), start=small.forked if options.forked else small.started)
        print(
            f"the whole run: {bench.seconds:.1f} s, {len(small.metrics(bench.whole))} lines\n{HEAD}",
            flush=True,
        )
        done: list[Kill] = []
        for moment in moments(options.seed, bench.seconds):
            kill = bench.kill(moment)
            if kill is not None:
                done.append(kill)
                print(kill.row(len(done)), flush=True)
            if len(done) == options.kills:
                break
    good = sum(kill.good for kill in done)
    print(f"{len(done)} kills: {good} runs ended as the whole one did")
    return 0 if good == len(done) else 1


if __name__ == "__main__":
    sys.exit(main())
