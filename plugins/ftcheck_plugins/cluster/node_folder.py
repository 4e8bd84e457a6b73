"""The folder of a run on each machine: held by the processes that work there. The last of them to end removes
it; where they are killed, the next run on that machine does.
"""

import atexit
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from ftcheck.inputs.work_folders import OWNER, clear

_held: dict[Path, int] = {}
"""Folders that this process holds, with the handle of each one's lock."""


def node_folder(base: str | None, name: str, node: str) -> Path:
    """The folder of a run for one node, made and held by this process from now on. Raises `OSError`.

    Without `base` it lies among the system's temporary files, and what earlier runs left there is cleared.
    """
    whole = Path(base or tempfile.gettempdir()) / name
    if whole not in _held:
        if base is None:
            clear(whole.parent)
            atexit.register(_leave, whole)
        whole.mkdir(mode=0o700, parents=True, exist_ok=True)
        _held[whole] = _hold(whole / OWNER)
    found = whole / node
    found.mkdir(exist_ok=True)
    return found


def _leave(folder: Path) -> None:
    """Let go of a folder; remove it if nobody else holds it."""
    os.close(_held.pop(folder))
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        handle = os.open(folder / OWNER, os.O_RDWR)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


def _hold(path: Path) -> int:
    """A handle with a lock that others of this run may have too; it ends with the process."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.suppress(ImportError, OSError):  # a system without such locks clears nothing
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_SH)
    return handle
