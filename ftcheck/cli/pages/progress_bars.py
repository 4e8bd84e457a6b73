"""Progress bars while long work goes on, on a terminal only; they leave nothing behind.

rich redraws its bars from a thread of its own, and then two threads may count the lines to go up
differently: half a bar stays on the screen. So the ticking is done here, under a lock that whoever
prints holds too.
"""

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftcheck.cli.pages.screen import Screen
from ftcheck.records import Progress
from ftcheck.report.redact import redact, visible

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

BAR_WIDTH = 20
TICK = 0.1


@dataclass(eq=False)
class Bars:
    """One bar for the checks, one for each task that is under way. Print only while holding `lock`."""

    screen: Screen
    lock: "threading.RLock" = field(default_factory=threading.RLock)
    _shown: "RichProgress | None" = None
    _tasks: "dict[str, TaskID]" = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def show(self, progress: Progress) -> None:
        """Move a task's bar, or take it away when the task has finished."""
        if not self.screen.live:
            return
        shown = self._started()
        name, text = visible(redact(progress.task)), visible(redact(progress_text(progress)))
        if progress.task not in self._tasks:
            self._tasks[progress.task] = shown.add_task(name, total=progress.total, text=text)
        task = self._tasks[progress.task]
        shown.update(task, completed=progress.done, total=progress.total, text=text)
        if progress.finished:
            shown.remove_task(self._tasks.pop(progress.task))

    def stop(self) -> None:
        """Take all bars away; harmless to call twice."""
        self._over.set()
        with self.lock:
            if self._shown is not None:
                if not self._tasks:
                    # without a bar to take away, rich 13 leaves an empty line behind
                    self._shown.add_task("", text="")
                self._shown.stop()
            self._shown = None
            self._tasks.clear()

    def _started(self) -> "RichProgress":
        if self._shown is None:
            self._shown = _made(self.screen)
            self._shown.start()
            self._over = threading.Event()
            threading.Thread(target=self._tick, args=(self._shown, self._over), daemon=True).start()
        return self._shown

    def _tick(self, shown: "RichProgress", over: threading.Event) -> None:
        while not over.wait(TICK):
            with self.lock:
                if not over.is_set():
                    shown.refresh()


def _made(screen: Screen) -> "RichProgress":
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR_WIDTH),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        console=screen.console,
        transient=True,
        auto_refresh=False,
    )


def progress_text(progress: Progress) -> str:
    """`13,784 rows  1.02 M tokens`, or `3 of 34 checks` while the end is known and not reached."""
    end = "" if progress.total is None or progress.finished else f" of {progress.total:,}"
    return "  ".join(part for part in (f"{progress.done:,}{end} {progress.unit}", progress.detail) if part)
