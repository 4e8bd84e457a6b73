"""Where checks run: a folder that is gone at the end, and a worker that loads its libraries meanwhile.

Little is imported here: a command opens its workplace before it loads what it needs itself.
"""

from collections.abc import Callable

from ftcheck.inputs.work_folders import work_folder
from ftcheck.runner.worker_process import Worker

HELPERS = 16
"""Workers that a single policy is given at most."""


class Workplace:
    """A work folder, and a worker: one that nobody needs yet, or that ran the checks of other policies."""

    def __init__(
        self,
        *,
        offline: bool = False,
        workers: int | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Nothing is there before the `with` block. `workers` are the threads that the worker may use.

        `interrupted` says whether Ctrl-C was pressed, to whom does not take it himself.
        """
        self._offline, self._workers = offline, workers
        self.interrupted = interrupted
        self.worker: Worker | None = None
        self.helpers: tuple[Workplace, ...] = ()
        """Other places that take jobs of the same policy; whoever opened them lets them go."""

    def __enter__(self) -> "Workplace":
        """Make the folder and start the worker."""
        self._made = work_folder()
        self.folder = self._made.__enter__()
        self.worker = Worker(self.folder, offline=self._offline, workers=self._workers)
        return self

    def __exit__(self, *error: object) -> None:
        """Let the worker go, and remove the folder."""
        if self.worker is not None:
            self.worker.end()
        self._made.__exit__(None, None, None)
