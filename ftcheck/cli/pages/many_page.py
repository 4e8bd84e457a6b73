"""What people see of many policies in one command: a bar meanwhile, then a table that fits a screen."""

import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftcheck import hookimpl
from ftcheck.cli.pages.progress_bars import Bars
from ftcheck.cli.pages.screen import Screen
from ftcheck.plurals import counted
from ftcheck.records import Progress, Result
from ftcheck.report.job_verdicts import Alike, JobVerdict, Verdict, grouped
from ftcheck.report.redact import redact, visible
from ftcheck.report.verdict_lines import duration

if TYPE_CHECKING:
    from rich.console import Console

SIGNS = {
    Verdict.UNREADABLE: ("!", "bold red"),
    Verdict.NOT_RUN: ("!", "bold red"),
    Verdict.INCOMPLETE: ("!", "bold red"),
    Verdict.FAILED: ("✗", "red"),
    Verdict.SHUT: ("!", "yellow"),
    Verdict.NOTHING: ("!", "yellow"),
    Verdict.WARNED: ("✓", "yellow"),
    Verdict.PASSED: ("✓", "green"),
}
ABOUT = 7
"""Lines of a screen that the table does not take: what was asked, the tally, the reports, the prompt."""
FEWEST = 8
FEW_PATHS = 4
ASCII = {"✓": "+", "✗": "x"}


@dataclass(eq=False)
class ManyShown:
    """Several policies on the terminal: `watch` each, then `end` all. Prints from one thread at a time."""

    console: "Console"
    verbose: bool = False
    _done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Nothing has been seen yet."""
        self._screen = Screen(self.console)
        self._bars = Bars(self._screen)

    def begin(self, policies: int, at_once: int) -> None:
        """Say what is about to be done."""
        from importlib import metadata

        lead = f"ftcheck {metadata.version('ftcheck')} · {counted(policies, 'policy', 'policies')}"
        self._screen.put([], f"{lead} · {at_once} at a time", "bold")

    @hookimpl
    def ftcheck_check_finished(self, result: Result) -> None:
        """Move the bar."""
        with self._lock, self._bars.lock:
            self._done += 1
            self._bars.show(Progress("checking", self._done, None, "checks"))

    def close(self) -> None:
        """Take the bar away; harmless to call twice."""
        self._bars.stop()

    def reports(self, paths: Sequence[str], index: str | None) -> None:
        """Name the index page, and the reports if they are few."""
        listed = reports_line([path for path in paths if path != index], index)
        if listed:
            self._screen.put([("reports: ", "dim")], visible("  ".join(listed)), hang=9)

    def table(self, verdicts: Sequence[JobVerdict], seconds: float) -> None:
        """The verdicts, worst first, in no more lines than a screen has; those that passed are counted."""
        self.close()
        self._screen.blank()
        alike = grouped(verdicts)
        listed = [one for one in alike if self.verbose or not one.first.verdict.is_good]
        room = len(listed) if self.verbose else max(FEWEST, shutil.get_terminal_size((120, 40)).lines - ABOUT)
        shown = listed if len(listed) <= room else listed[: room - 1]
        width = max((len(one.shown) for one in shown), default=0)
        for one in shown:
            self._line(one, min(width, 48))
        rest = sum(len(one.verdicts) for one in listed[len(shown) :])
        if rest:
            self._screen.put([("  ", "")], f"and {rest:,} more that did not pass (-v lists all)")
        if shown:
            self._screen.blank()
        self._screen.put([], f"{tally(verdicts)} in {duration(seconds)}")

    def _line(self, one: Alike, width: int) -> None:
        sign, style = SIGNS[one.first.verdict]
        lead = [(f"{self._screen.fit(sign, ASCII)} ", style), (f"{visible(one.shown):<{width}}  ", "")]
        word = "" if one.first.verdict is Verdict.PASSED else f"{one.first.verdict.value}: "
        text = _fitted(visible(redact(one.first.why)), self._screen.width, width + len(word) + 4)
        self._screen.put([*lead, (word, style)], text or "", hang=width + 4)


def _fitted(text: str, width: int | None, taken: int) -> str:
    """A text that ends at the screen's width: one line a job."""
    room = max(24, (width or 1_000) - taken)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def tally(verdicts: Iterable[JobVerdict]) -> str:
    """`2 unreadable, 3 failed, 95 passed (4 with warnings) of 100 jobs · gate open for 95`."""
    found = list(verdicts)
    counts = Counter(one.verdict for one in found if one.job is not None or not one.verdict.is_good)
    passed = counts[Verdict.PASSED] + counts[Verdict.WARNED]
    bad = [f"{counts[one]:,} {one.value}" for one in Verdict if counts[one] and not one.is_good]
    aside = f" ({counts[Verdict.WARNED]:,} with warnings)" if counts[Verdict.WARNED] else ""
    jobs = [one for one in found if one.job is not None]
    is_open = sum(one.gate == "open" for one in jobs)
    gate = f"gate open for {is_open:,} of {counted(len(jobs), 'job')}"
    return f"{', '.join([*bad, f'{passed:,} passed{aside}'])} · {gate}"


def reports_line(paths: Sequence[str], index: str | None) -> list[str]:
    """The index page, and the other files: of many their number and folders."""
    first = [] if index is None else [index]
    if len(paths) <= FEW_PATHS:
        return [*first, *paths]
    folders = sorted({os.path.dirname(path) or "." for path in paths})
    where = f" in {', '.join(folders)}" if len(folders) < FEW_PATHS else ""
    return [*first, f"{counted(len(paths), 'file')}{where}"]
