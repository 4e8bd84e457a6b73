"""`ftcheck monitor`."""

import glob
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftcheck.inputs import bounded

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from ftcheck.cli.pages.monitor_page import Line
    from ftcheck.cli.pages.screen import Screen
    from ftcheck.errors import FtcheckError
    from ftcheck.inputs.run_folder import Reader
    from ftcheck.training.monitor import Curves, View

SCHEMA = "ftcheck.monitor/1"
HEIGHT = 2
"""Lines of a terminal that are left free below the page."""
WIDE = 200
"""Columns of a page that goes to no terminal."""


@click.command(short_help="Follow training runs, or show finished ones.")
@click.argument("folders", nargs=-1, required=True, metavar="RUN_FOLDER...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, at each refresh.")
@click.option("--once", is_flag=True, help="Show the current state, and exit.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between refreshes.",
)
@click.option(
    "--html",
    "html",
    metavar="PATH",
    help="Write the runs as an HTML page too, anew at each refresh: loss, speed, memory, checks.",
)
def monitor(folders: tuple[str, ...], as_json: bool, once: bool, interval: float, html: str | None) -> int:
    """Follow training runs, or show finished ones: loss, speed, memory, checkpoints, findings.

    RUN_FOLDER is a run's folder, a folder above several, or a glob. On a terminal the page is redrawn until
    all runs have ended, or Ctrl-C; elsewhere each change is a line. A folder that does not exist yet is
    waited for (not with --once). Exits 2 for a folder without a run; the outcome of a run does not change the
    exit code.
    """
    from ftcheck.exit_codes import ExitCode

    board = Board(folders, page=html)
    board.look()
    if once or board.over:
        _refuse_missing(board, once=once)
        _show_once(board, as_json=as_json)
    elif as_json:
        _follow_json(board, interval)
    else:
        _follow(board, interval)
    return ExitCode.USAGE if board.broken or board.waiting else ExitCode.OK


@dataclass
class Board:
    """The runs that are asked for: those that are there, those that are waited for, those that are broken."""

    asked: tuple[str, ...]
    clock: Callable[[], datetime] = lambda: datetime.now().astimezone()
    page: str | None = None
    views: list["View"] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    broken: dict[str, "FtcheckError"] = field(default_factory=dict)
    curves: list["Curves"] = field(default_factory=list)
    _readers: dict[Path, "Reader"] = field(default_factory=dict)
    _awaited: set[str] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return not self.waiting and all(view.state.over for view in self.views)

    def look(self) -> None:
        """Read everything anew, and write the page where one is asked for. Raises `UsageError`."""
        from ftcheck.errors import InputError
        from ftcheck.inputs.run_folder import Reader
        from ftcheck.training.monitor import curves, view

        now = self.clock()
        self.views, self.curves, self.waiting, self.broken = [], [], [], {}
        for folder in self._folders():
            try:
                run = self._readers.setdefault(folder, Reader(folder)).read()
            except InputError as error:
                self.broken[str(folder)] = error
                continue
            self.views.append(view(run, now))
            self.curves.append(curves(run))
        if self.page is not None:
            self._write(self.page, now)

    def _write(self, path: str, now: datetime) -> None:
        from ftcheck.atomic import replace_file
        from ftcheck.cli.pages import monitor_html
        from ftcheck.errors import UsageError

        runs = tuple(zip(self.views, self.curves, strict=True))
        shown = monitor_html.Runs(runs, tuple(self.waiting), tuple(map(str, self.broken.values())))
        text = monitor_html.page(shown, now.isoformat(timespec="seconds"))
        try:
            replace_file(Path(bounded.expanded(path)), text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise UsageError(f"--html {path}: {error.strerror or error}") from error

    def _folders(self) -> Iterator[Path]:
        """The run folders, each once; what is not there is waited for."""
        from ftcheck.errors import InputError
        from ftcheck.inputs.run_folder import RUN, find

        seen: set[Path] = set()
        for name in self.asked:
            places = _places(name)
            found = {place: find(place.parent if place.name == RUN else place) for place in places}
            if not places or (name in self._awaited and not any(found.values())):
                self._awaited.add(name)
                self.waiting.append(name)
                continue
            for place, runs in found.items():
                if not runs:
                    message = f"{place}: not a run folder: it contains no {RUN}, nor do the folders below"
                    self.broken[str(place)] = InputError(message)
                yield from (one for one in runs if one.resolve() not in seen)
                seen |= {one.resolve() for one in runs}


def _places(name: str) -> list[Path]:
    """What a name or a glob stands for, as far as it is there."""
    path = Path(bounded.expanded(name))
    if path.exists():
        return [path]
    return [Path(one) for one in sorted(glob.glob(str(path)))] if glob.has_magic(name) else []


def _refuse_missing(board: Board, *, once: bool) -> None:
    from ftcheck.errors import Problem, UsageError
    from ftcheck.report.redact import visible

    problems = [str(error) for error in board.broken.values()]
    problems += [f"{name}: no such folder" for name in board.waiting if once]
    if problems and not board.views:
        raise UsageError(problems[0], [Problem(one) for one in problems])
    for problem in problems:
        click.echo(visible(problem), err=True)


def _show_once(board: Board, *, as_json: bool) -> None:
    if as_json:
        click.echo(_json(board))
        return
    screen = _screen()
    for line in _page(board, screen):
        _put(screen, line)


def _json(board: Board) -> str:
    from ftcheck.report.redact import redact_json
    from ftcheck.training.monitor import to_dict

    runs = [to_dict(view) for view in board.views]
    errors = {name: str(error) for name, error in board.broken.items()}
    said: Mapping[str, Any] = {"schema": SCHEMA, "runs": runs, "waiting": board.waiting, "errors": errors}
    return json.dumps(redact_json(said), default=str)


def _follow_json(board: Board, interval: float) -> None:
    while True:
        click.echo(_json(board))
        if board.over:
            return
        time.sleep(interval)
        board.look()


def _follow(board: Board, interval: float) -> None:
    """Draw the page anew on a terminal; print what has changed elsewhere."""
    screen = _screen()
    if screen.live:
        _follow_live(board, screen, interval)
    else:
        _follow_plain(board, screen, interval)


def _screen() -> "Screen":
    from rich.console import Console

    from ftcheck.cli.pages.screen import Screen

    return Screen(Console(highlight=False, emoji=False, markup=False))


def _follow_plain(board: Board, screen: "Screen", interval: float) -> None:
    """A line for each run that has gone on, one for each new finding; at the end the whole page."""
    told: dict[str, object] = {}
    while True:
        for news in _news(board, told):
            _put(screen, news)
        if board.over:
            break
        time.sleep(interval)
        board.look()
    for text in _page(board, screen):
        _put(screen, text)


def _news(board: Board, told: dict[str, object]) -> Iterator[str]:
    """What was not told yet."""
    from ftcheck.cli.pages import monitor_page

    for view in _clean(board.views):
        name = str(view.folder)
        if told.get(name) != (view.state, view.step):
            told[name] = (view.state, view.step)
            yield monitor_page.plain(view)
        for found in view.found:
            key = f"{name}:{found.check}:{found.step}"
            if key not in told:
                told[key] = True
                yield f"{view.job}  {monitor_page.found_words(found)}"
    for text in (*_waiting(board), *map(str, board.broken.values())):
        if text not in told:
            told[text] = True
            yield text


def _follow_live(board: Board, screen: "Screen", interval: float) -> None:
    """The page, drawn over itself; it stays on the screen when all is over."""
    from rich.live import Live

    try:
        with Live(
            console=screen.console, auto_refresh=False, transient=True, vertical_overflow="crop"
        ) as live:
            while not board.over:
                live.update(frame(board, screen), refresh=True)
                time.sleep(interval)
                board.look()
    finally:
        for line in _page(board, screen):
            _put(screen, line)


def frame(board: Board, screen: "Screen") -> "Group":
    """One picture of the board: whole blocks where the terminal is high enough, else a line a run."""
    from rich.console import Group

    lines = _page(board, screen)
    if len(lines) > screen.console.height - HEIGHT:
        lines = _page(board, screen, brief=True)
    return Group(*(_text(screen, line) for line in lines))


def _page(board: Board, screen: "Screen", *, brief: bool = False) -> "list[Line | str]":
    """The blocks of all runs, what is waited for, and what could not be read."""
    from ftcheck.cli.pages import monitor_page
    from ftcheck.cli.pages.plan_page import BARS

    width, ascii_only = _width(screen), screen.fit(BARS) != BARS
    lines: list[Line | str] = []
    for view in _clean(board.views):
        made = monitor_page.brief if brief else monitor_page.block
        lines += [""] if lines and not brief else []
        lines += made(view, width, ascii_only=ascii_only)
    return [*lines, *_waiting(board), *map(str, board.broken.values())]


def _clean(views: "Sequence[View]") -> "list[View]":
    from ftcheck.report.clean import clean

    return [clean(view) for view in views]


def _waiting(board: Board) -> Iterator[str]:
    for name in board.waiting:
        yield f"waiting for a run in {name}"


def _width(screen: "Screen") -> int:
    """Columns of the terminal; in a log what COLUMNS says, else room enough."""
    stated = os.environ.get("COLUMNS", "")
    if screen.console.is_terminal or stated.isdecimal():
        return max(40, screen.console.width)
    return WIDE


def _put(screen: "Screen", line: "Line | str") -> None:
    screen.console.print(_text(screen, line), soft_wrap=True, highlight=False)


def _text(screen: "Screen", line: "Line | str") -> "Text":
    """A line for rich: never broken, in characters that the terminal has."""
    from rich.text import Text

    from ftcheck.cli.pages.monitor_page import LABEL
    from ftcheck.cli.pages.screen import TIE
    from ftcheck.report.redact import visible

    made, text = Text(no_wrap=True, overflow="crop"), line if isinstance(line, str) else line.text
    if not isinstance(line, str) and not line.head:
        made.append(screen.fit(f"{line.label:<{LABEL}} "), "bold")
    style = "" if isinstance(line, str) else line.style
    return made.append(screen.fit(visible(text)).replace(TIE, " "), style)
