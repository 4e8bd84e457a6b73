"""Progress bars while long work goes on, on a terminal only; they leave nothing behind."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftcheck.records import Progress
from ftcheck.redact import redact, visible
from ftcheck_plugins.reporters.screen import Screen

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

BAR_WIDTH = 20


@dataclass(eq=False)
class Bars:
    """One bar for the checks, one for each task that is under way."""

    screen: Screen
    _shown: "RichProgress | None" = None
    _tasks: "dict[str, TaskID]" = field(default_factory=dict)

    def show(self, progress: Progress) -> None:
        """Move a task's bar, or take it away when the task has finished."""
        if not self.screen.live:
            return
        shown = self._started()
        if progress.task not in self._tasks:
            self._tasks[progress.task] = shown.add_task("", total=None, text="")
        task = self._tasks[progress.task]
        text = visible(redact(progress_text(progress)))
        shown.update(
            task, description=visible(progress.task), completed=progress.done, total=progress.total, text=text
        )
        if progress.finished:
            shown.remove_task(self._tasks.pop(progress.task))

    def stop(self) -> None:
        """Take all bars away."""
        if self._shown is not None:
            self._shown.stop()
        self._shown = None
        self._tasks.clear()

    def _started(self) -> "RichProgress":
        if self._shown is None:
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as RichProgress

            self._shown = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(BAR_WIDTH),
                TextColumn("{task.fields[text]}", markup=False),
                TimeElapsedColumn(),
                console=self.screen.console,
                transient=True,
            )
            self._shown.start()
        return self._shown


def progress_text(progress: Progress) -> str:
    """`13,784 rows  1.02 M tokens`, or `3 of 34 checks` while the end is known and not reached."""
    end = "" if progress.total is None or progress.finished else f" of {progress.total:,}"
    return "  ".join(part for part in (f"{progress.done:,}{end} {progress.unit}", progress.detail) if part)
