"""The run folder of a training on several nodes: all processes write their part of a checkpoint there."""

import secrets
import time
from pathlib import Path

from ftcheck import ranks
from ftcheck.errors import Problem, TrainingError
from ftcheck.settings import Job

PATIENCE = 5.0
"""Seconds in which a file of one node must be seen on another; network folders are late by some."""


def need_shared(folder: Path, job: Job) -> None:
    """Raise `TrainingError`, in all processes, where a node does not see the first one's run folder."""
    if ranks.count() == 1:
        return
    name = ranks.decided(lambda: _made(folder))
    blind = ranks.gathered(ranks.node() if ranks.leads_node() and not _seen(folder / name) else None)
    if ranks.is_main():
        (folder / name).unlink(missing_ok=True)
    found = [node for node in blind if node is not None]
    if found:
        message = (
            f"{found[0]} does not see the run folder {folder} of the first node: all nodes must share it"
        )
        place = job.at("training.output_dir")
        problem = Problem(message, place.path, place.line, place.column, place.yaml_path)
        raise TrainingError(message, [problem])


def _made(folder: Path) -> str:
    """A file whose name nobody has looked for yet: that it is not there, nobody remembers."""
    name = f".node-{secrets.token_hex(8)}"
    (folder / name).touch()
    return name


def _seen(file: Path) -> bool:
    until = time.monotonic() + PATIENCE
    while not file.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True
