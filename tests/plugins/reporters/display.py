"""A console that writes to memory, and a very small terminal that shows what was written."""

import io
import re
from dataclasses import dataclass, field
from typing import Any

from ftcheck.cli.pages.run_page import TerminalReporter
from ftcheck.records import Location, Outcome, Progress
from ftcheck.report.record import Report
from tests.plugins.reporters import fakes

SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\n)|(\r)|([^\x1b\n\r]+)")
WHY = {
    "truncation": "A row without trained tokens costs compute and teaches nothing; TRL drops it.",
    "template-parity": "The tuned model sees a prompt at serving that it never saw in training.",
}


@dataclass
class Display:
    """Lines as a terminal of endless width shows them after all cursor movements."""

    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    colours: set[str] = field(default_factory=set)

    def show(self, text: str) -> list[str]:
        """Apply the text and return what stands there then, without the empty end."""
        for code, letter, new_line, start, plain in SEQUENCE.findall(text):
            if new_line:
                self._down()
            elif start:
                self.column = 0
            elif plain:
                self._write(plain)
            else:
                self._control(code, letter)
        return "\n".join(line.rstrip() for line in self.lines).rstrip().split("\n")

    def _down(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")

    def _write(self, plain: str) -> None:
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + plain + line[self.column + len(plain) :]
        self.column += len(plain)

    def _control(self, code: str, letter: str) -> None:
        if letter == "m":
            self.colours |= set(code.split(";"))
        elif letter == "A":
            self.row -= int(code or 1)
        elif letter == "K":
            self.lines[self.row] = ""
        else:
            assert letter in "hl", f"unknown sequence {code}{letter}"


def console(**options: Any) -> Any:
    """A console as in a pipe; `width` and `force_terminal` make it a terminal."""
    from rich.console import Console

    return Console(file=io.StringIO(), **options)


def terminal(width: int = 80, **options: Any) -> Any:
    """A console as on a terminal."""
    return console(width=width, force_terminal=True, **options)


def reporter(on: Any, **options: Any) -> TerminalReporter:
    """A reporter with what the command line tells it."""
    known: dict[str, Any] = {
        "header": "ftcheck 0.1.0 · policy night-before · 2 jobs, 34 checks · no GPU here",
        "job_order": ("mapper", "analyst"),
        "why": WHY,
        "place_of": lambda path: Location(fakes.POLICY, 58, 19, path),
    }
    return TerminalReporter(on, **(known | options))


def play(watching: TerminalReporter, report: Report) -> None:
    """A whole run, as the session tells it: what was not run is told only at the end."""
    watching.ftcheck_run_started(tuple(result.check for result in report.results))
    for job, rows, detail in (("mapper", 13784, "1.02 M tokens"), ("analyst", 7473, "1.62 M tokens  1.4 s")):
        watching.ftcheck_progress(Progress(f"preparing {job}", 100))
        watching.ftcheck_progress(Progress(f"preparing {job}", rows, None, "rows", True, detail))
    for result in report.results:
        if result.outcome is not Outcome.NOT_RUN:
            watching.ftcheck_check_finished(result)
    watching.ftcheck_run_finished(report)


def written(on: Any) -> str:
    """Everything that was written to a console of `console` or `terminal`."""
    return str(on.file.getvalue())


def shown(report: Report, on: Any = None, **options: Any) -> list[str]:
    """What stands on the screen after a run."""
    on = on or console()
    play(reporter(on, **options), report)
    return Display().show(written(on))
