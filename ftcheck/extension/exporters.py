"""What writes a configuration for another program."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ftcheck.settings import Job


class ExportFunction(Protocol):
    """How an exporter is called: with the jobs, and the URL of the server that is to stand behind them."""

    def __call__(self, jobs: Sequence[Job], endpoint: str | None = None) -> str:
        """The configuration as text. Raises `ftcheck.errors.UsageError` for jobs that cannot be exported."""


@dataclass(frozen=True)
class Exporter:
    """Writes the configuration of another program from jobs: `ftcheck export NAME`.

    `file` is the usual name of what is written; `start` says how the other program is started with it
    (`{file}` stands for its path).
    """

    name: str
    export: ExportFunction
    file: str
    start: str
