"""What people see of a run: a line per check while it runs, the findings and the tally at its end."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ftcheck import hookimpl
from ftcheck.cli.pages import run_summary
from ftcheck.cli.pages.progress_bars import BAR_WIDTH, Bars, progress_text
from ftcheck.cli.pages.screen import Screen, tied_parts
from ftcheck.plurals import counted
from ftcheck.records import Check, Location, Outcome, Progress, Result
from ftcheck.report import verdict_lines, wording
from ftcheck.report.clean import clean
from ftcheck.report.record import Report
from ftcheck.report.redact import redact, visible

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "red",
    Outcome.WAIVED: "yellow",
    Outcome.SKIPPED: "yellow",
    Outcome.ERRORED: "bold red",
    Outcome.TIMEOUT: "bold red",
    Outcome.NOT_RUN: "yellow",
}
CHECKING = "checking"
WIDEST_NAME = 28
MANY_SKIPPED = 4
"""From this many on, the skipped checks of a section share a line."""


@dataclass(eq=False)
class TerminalReporter:
    """Watches a run and prints it on a console. `close` it when the run is over, however it ended.

    `header` is printed first; `why` says, for each rule, what goes wrong if it does not hold;
    `place_of` finds the place of a YAML path (`Policy.at`); `max_age` is how long the gate stays open.
    Results are printed host first, then job by job in `job_order`, whatever order they come in.
    """

    console: "Console"
    _: KW_ONLY
    header: str = ""
    quiet: bool = False
    verbose: bool = False
    job_order: Sequence[str] = ()
    durations: int | None = None
    why: Mapping[str, str] = field(default_factory=dict)
    place_of: Callable[[str], Location] | None = None
    max_age: timedelta | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Nothing has been seen yet."""
        self._screen = Screen(self.console)
        self._bars = Bars(self._screen)
        self._waiting: list[Check] = []
        self._results: dict[str, Result] = {}
        self._printed: set[str] = set()
        self._skipped: list[Result] = []
        self._reasons: dict[tuple[Outcome, str], str] = {}
        self._began: dict[str, float] = {}
        self._section: tuple[str | None] | None = None
        self._told_tasks = False
        self._name_width = 0
        self._planned = 0

    @hookimpl
    def ftcheck_run_started(self, checks: tuple[Check, ...]) -> None:
        """Print the header; from now on it is known in which order results are printed."""
        self._waiting = sorted(checks, key=self._rank)
        self._planned = len(checks)
        self._name_width = min(max((len(check.name) for check in checks), default=0), WIDEST_NAME)
        with self._bars.lock:
            if self.header:
                self._screen.put([], visible(redact(self.header)), "bold")
                self._screen.blank()
            self._tell_checks()

    @hookimpl
    def ftcheck_progress(self, progress: Progress) -> None:
        """Move a bar; when the task is done, one line stays, if one is to."""
        if progress.task not in self._began:
            self._began[progress.task] = self.clock()
        with self._bars.lock:
            self._bars.show(progress)
            if progress.finished:
                self._finished_task(progress, self.clock() - self._began.pop(progress.task))

    @hookimpl
    def ftcheck_check_finished(self, result: Result) -> None:
        """Print the result, and those that waited for it."""
        self._results[result.check.id] = clean(result)
        with self._bars.lock:
            while self._waiting and self._waiting[0].id in self._results:
                next_one = self._results[self._waiting.pop(0).id]
                if next_one.outcome is not Outcome.NOT_RUN:
                    self._line(next_one)
            self._tell_checks()

    @hookimpl
    def ftcheck_run_finished(self, report: Report) -> None:
        """Print what is left, then findings, tally and the gate's state."""
        self.close()
        report = clean(report)
        self._rest([one for one in report.results if one.check.id not in self._printed])
        told = run_summary.Telling(self.verbose, self.durations, self.why, self.place_of, self.max_age)
        run_summary.print_aftermath(self._screen, report, told)

    def close(self) -> None:
        """Take the progress bars away; harmless to call twice."""
        self._bars.stop()

    def show_reports(self, paths: Iterable[str]) -> None:
        """Name the report files, once they are written."""
        listed = "  ".join(visible(path) for path in paths)
        if listed:
            self._screen.put([("reports: ", "dim")], listed, hang=9)

    def _rank(self, check: Check) -> tuple[int, str]:
        if check.job is None:
            return (-1, "")
        order = list(self.job_order)
        return (order.index(check.job), "") if check.job in order else (len(order), check.job)

    def _tell_checks(self) -> None:
        done = len(self._results)
        if self._planned:
            finished = done >= self._planned
            self._bars.show(Progress(CHECKING, done, self._planned, "checks", finished))

    def _finished_task(self, progress: Progress, seconds: float) -> None:
        if self.quiet or not progress.line or not (self._screen.live or self.verbose):
            return
        self._told_tasks = True
        detail = progress.detail or ""
        timed = re.search(r"\d s$", detail) is not None
        text = progress_text(progress) + ("" if timed else f"  {verdict_lines.duration(seconds)}")
        indent = "    " if self._section is not None else ""
        longest = max((len(f"preparing {job}") for job in self.job_order), default=0)
        task = f"{indent}{visible(progress.task):<{longest}} "
        self._screen.put([(task, ""), ("━" * BAR_WIDTH + " ", "green")], visible(redact(text)))

    def _rest(self, results: Sequence[Result]) -> None:
        """What never ran comes as one line a section and reason, unless everything is wanted."""
        results = sorted(results, key=lambda one: self._rank(one.check))
        idle: dict[tuple[str | None, str], list[Result]] = {}
        for result in results:
            if result.outcome is Outcome.NOT_RUN and not self.verbose:
                idle.setdefault((result.check.job, wording.reason_of(result)), []).append(result)
        for result in results:
            together = idle.get((result.check.job, wording.reason_of(result)), [result])
            if len(together) == 1:
                self._line(result)
            elif result is together[0]:
                name = counted(len(together), "check")
                self._line(replace(result, check=replace(result.check, name=name)))
        self._tell_skipped()

    def _line(self, result: Result) -> None:
        self._printed.add(result.check.id)
        if self._skipped and self._skipped[0].check.job != result.check.job:
            self._tell_skipped()
        if result.outcome is Outcome.SKIPPED and not self.verbose:
            self._skipped.append(result)
        elif not (self.quiet and result.outcome is Outcome.PASSED):
            self._one_line(result)

    def _tell_skipped(self) -> None:
        """What a section skipped, at its end: a line each, or one together where it is much."""
        skipped, self._skipped = self._skipped, []
        if len(skipped) < MANY_SKIPPED:
            for result in skipped:
                self._one_line(result)
            return
        self._heading(skipped[0].check.job)
        said = list(_by_reason(skipped))
        count = f"{len(skipped)} skipped"
        symbol = (f"  {self._screen.symbol(Outcome.SKIPPED)} ", STYLES[Outcome.SKIPPED])
        self._screen.put(
            [symbol, (f"{count:<{self._name_width}}  ", "")], " · ".join(said), hang=self._name_width + 6
        )

    def _one_line(self, result: Result) -> None:
        self._heading(result.check.job)
        style = "yellow" if wording.is_warning(result) else STYLES[result.outcome]
        prefix = [
            (f"  {self._screen.symbol(result.outcome)} ", style),
            (f"{result.check.name:<{self._name_width}}  ", ""),
        ]
        word, said = self._said(result)
        self._screen.put([*prefix, (word, style)], said, hang=self._name_width + 6)
        if self.verbose:
            self._more(result)

    def _heading(self, job: str | None) -> None:
        if self._section == (job,):
            return
        if self._section is None and self._told_tasks:
            self._screen.blank()
        self._section = (job,)
        self._screen.put([("host" if job is None else job, "bold")])

    def _said(self, result: Result) -> tuple[str, str]:
        """The outcome's word where there is more to say than `passed`, and what is said."""
        if result.outcome is Outcome.PASSED:
            return "", tied_parts(wording.telling(result))
        word = wording.outcome_word(result)
        if result.outcome is Outcome.FAILED:
            return f"{word}: ", tied_parts(wording.telling(result)) or "no finding was given"
        if result.outcome is Outcome.WAIVED:
            return "", verdict_lines.waived_because(result)
        reason = wording.reason_of(result)
        first = self._reasons.setdefault((result.outcome, reason), result.check.id)
        same = first != result.check.id and result.outcome in wording.UNFINISHED
        return f"{word}: ", f"for the same reason as {first}" if same else wording.first_line(reason)

    def _more(self, result: Result) -> None:
        """For -v: every measurement, and what the rule only remarked."""
        for measurement in result.measurements:
            self._screen.put([("      ", ""), (wording.measured(measurement), "dim")])
        if result.outcome is Outcome.PASSED:
            for finding in wording.shown_findings(result):
                where = wording.place(finding.at)
                self._screen.put(
                    [(f"      {where}  " if where else "      ", "dim")], finding.message, "dim", 6
                )


def _by_reason(skipped: Sequence[Result]) -> Iterator[str]:
    """`one, other (the reason of both)`, reason by reason."""
    names: dict[str, list[str]] = {}
    for one in skipped:
        names.setdefault(wording.first_line(wording.reason_of(one)), []).append(one.check.name)
    return (f"{', '.join(those)} ({reason})" for reason, those in names.items())
