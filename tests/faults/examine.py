"""Plants a fault in its clean job and says whether the right rule found it, where, and with which remedy."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ftcheck.errors import PolicyError
from ftcheck.records import Change, Finding, Result, Severity
from ftcheck.runner.load import load
from tests.cli.project import Project
from tests.faults.bench import BASES, Bench, Looked, place
from tests.faults.catalogue import Fault

MOST = 2
NUMBER = re.compile(r"\b([a-z]+(?:_[a-z]+)+)\b(?:: [\d,.]+ ->)?[^\d;]{0,40}?(\d[\d,]*)")
"""A setting and the number that a remedy names for it: `max_length: 320 -> 1344`, `set save_steps: 7`."""
"""So many rules may speak above `info` on one fault."""


@dataclass(frozen=True)
class Verdict:
    """What became of one planted fault. `mended` is None where the finding carries no change."""

    fault: Fault
    caught: bool
    placed: bool
    first: bool
    loud: tuple[str, ...]
    mended: bool | None
    seconds: float
    said: str
    odd_changes: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Caught by the rule that must, in the right place, first, with at most one other rule beside it.

        Its changes and those of all other rules agree.
        """
        found = self.caught and self.placed and self.first and len(self.loud) <= MOST
        return found and self.mended is not False and not self.odd_changes


def examine(fault: Fault, folder: Path) -> Verdict:
    """Plant a fault in a folder and look."""
    if fault.rule == "gate":
        return _at_the_gate(fault, folder)
    bench = BASES[fault.base](folder)
    fault.plant(bench)
    bench.write()
    if fault.rule == "policy":
        return _refused(fault, bench)
    looked = bench.look()
    result = looked.of(fault.rule)
    loud = tuple(one.check.rule for one in looked.loud)
    worst = result.findings[0] if result is not None and result.findings else None
    caught = worst is not None and worst.severity.rank >= Severity(fault.severity).rank
    return Verdict(
        fault,
        caught,
        placed=caught and worst is not None and _is_at(worst, fault.where),
        first=bool(loud) and loud[0] == fault.rule,
        loud=loud,
        mended=_mended(bench, fault.rule, result) if caught else None,
        seconds=looked.seconds,
        said=looked.said(),
        odd_changes=(*_odd_changes(looked), *_odd_numbers(looked)),
    )


def _odd_changes(looked: Looked) -> Iterator[str]:
    """Changes that contradict one another (one key, two values), and those that change nothing."""
    proposed: dict[str, dict[str, str]] = {}
    for result in looked.results:
        for one in (finding.change for finding in result.findings):
            if one is None:
                continue
            proposed.setdefault(one.path, {})[json.dumps(one.new)] = result.check.rule
            if one.old == one.new:
                yield f"{result.check.rule}: {one.path} is {one.new} already"
    for path, values in proposed.items():
        if len(values) > 1:
            yield f"{path}: {' and '.join(f'{new} ({rule})' for new, rule in values.items())}"


def _odd_numbers(looked: Looked) -> Iterator[str]:
    """Settings for which the remedies of two rules name different numbers."""
    named: dict[str, dict[str, str]] = {}
    for result in looked.results:
        for finding in result.findings:
            for key, number in NUMBER.findall(finding.fix or ""):
                named.setdefault(key, {}).setdefault(result.check.rule, number)
    for key, numbers in named.items():
        if len(set(numbers.values())) > 1:
            yield f"{key}: {' and '.join(f'{number} ({rule})' for rule, number in numbers.items())}"


def _is_at(finding: Finding, where: str) -> bool:
    """Whether a finding points where the list says: a row, a setting, a file, or words about the machine."""
    if where.startswith("~"):
        return where[1:] in finding.message
    found = place(finding)
    return found == where or found.startswith(f"{where}:")


def _mended(bench: Bench, rule: str, result: Result | None) -> bool | None:
    """Whether the changes that the findings carry make the check pass; None if there are none."""
    changes = {one.change.path: one.change for one in (result.findings if result else ()) if one.change}
    if not changes:
        return None
    after = bench.look([_override(change) for change in changes.values()])
    found = after.of(rule)
    return found is not None and not any(one is found for one in after.loud)


def _override(change: Change) -> str:
    return f"{change.path}={json.dumps(change.new)}"


def _refused(fault: Fault, bench: Bench) -> Verdict:
    """A policy that cannot be used: exit 2, at its line, with the word to write instead."""
    started = time.monotonic()
    try:
        load(bench.path)
        problems = []
    except PolicyError as error:
        problems = list(error.problems)
    said = "\n".join(map(str, problems))
    caught = len(problems) == 1 and "eval_strategy" in said
    placed = caught and problems[0].line is not None and Path(problems[0].path or "").name == fault.where
    seconds = time.monotonic() - started
    return Verdict(fault, caught, placed, caught, ("policy",) * caught, None, seconds, said)


def _at_the_gate(fault: Fault, folder: Path) -> Verdict:
    """A report of the clean job, then the fault: the gate must refuse, with the reason's code."""
    started = time.monotonic()
    bench = BASES[fault.base](folder)
    bench.write()
    report, call = folder / "r.json", Project(folder).call
    made = call("run", str(bench.path), "-o", f"json={report}", "-q")
    before = call("gate", str(report), "--policy", str(bench.path), "--job", "job")
    fault.plant(bench)
    bench.write()
    after = call("gate", str(report), "--policy", str(bench.path), "--job", "job")
    said = made.out + before.out + before.err + after.out + after.err
    caught = (made.code, before.code, after.code) == (0, 0, 5)
    placed = caught and fault.where in after.out + after.err
    return Verdict(fault, caught, placed, caught, ("gate",) * caught, None, time.monotonic() - started, said)


def table(verdicts: list[Verdict]) -> str:
    """The bench's table: one line a fault, and the count."""
    yes = {True: "yes", False: "NO", None: "-"}
    wide = max((len(one.fault.area) for one in verdicts), default=1) + 1
    head = f"{'fault':<32}{'rule':<24}{'caught':<8}{'place':<7}{'first':<7}{'remedy':<8}{'s':>5}  others"
    lines = [" " * wide + head]
    for one in verdicts:
        others = ", ".join(rule for rule in one.loud if rule != one.fault.rule)
        lines.append(
            f"{one.fault.area:{wide}}{one.fault.id:<32}{one.fault.rule:<24}{yes[one.caught]:<8}"
            f"{yes[one.placed]:<7}{yes[one.first]:<7}{yes[one.mended]:<8}{one.seconds:5.1f}  {others}"
        )
    right = sum(one.right for one in verdicts)
    caught = sum(one.caught and one.placed for one in verdicts)
    mended = [one.mended for one in verdicts if one.mended is not None]
    lines.append(
        f"{len(verdicts)} faults: {caught} caught in the right place, {right} of them named first and by at"
        f" most {MOST} rules; {sum(mended)} of {len(mended)} changes make the check pass"
    )
    return "\n".join(lines)


def quiet(looked: Looked) -> bool:
    """Whether nothing above `info` was found, and something was looked at."""
    return not looked.loud and any(one.outcome == "passed" for one in looked.results)
