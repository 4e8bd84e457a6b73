"""Folders for work in progress that tell whether their owner lives, so that the next run clears the others.

A folder holds a file that its owner keeps locked (`flock`): the lock ends with the process, however that
ends, and it holds across containers that share the folder, where process numbers mean nothing. Where the
system has no such lock, nothing is cleared.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

OWNER = ".owner"
"""The file in a folder that its owner keeps locked."""
PREFIX = "ftcheck-"
"""How the names of all folders begin that lie among the system's temporary files."""
MADE = re.compile(r"(?:\.?ftcheck|\.making|\.gone)-(?:[a-z]+-)?[a-z0-9_]{8}")
"""Names that `tempfile.mkdtemp` makes of our prefixes: nothing else is ever removed."""
TRIES = 10


@contextlib.contextmanager
def work_folder(prefix: str = PREFIX, where: Path | None = None) -> Iterator[Path]:
    """A new folder, for its owner alone (0700), that is gone at the end. Raises `OSError`.

    First what no living process owns beside it is removed.
    """
    where = Path(tempfile.gettempdir()) if where is None else where
    clear(where)
    folder, handle = _made(prefix, where)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def clear(where: Path) -> int:
    """Remove the folders in `where` whose owners are gone; how many there were. Never raises."""
    try:
        found = [Path(one.path) for one in os.scandir(where) if MADE.fullmatch(one.name)]
    except OSError:
        return 0
    return sum(_cleared(folder) for folder in found)


def _made(prefix: str, where: Path) -> tuple[Path, int | None]:
    """A folder with its owner's lock; None for the lock where the system has none."""
    for _ in range(TRIES):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
        handle = os.open(folder / OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if locked(handle) is None:
            os.close(handle)
            return folder, None
        if locked(handle) and (folder / OWNER).exists():
            return folder, handle
        os.close(handle)  # another run cleared it before it was locked
    raise OSError(f"{where}: no work folder could be made there")


def _cleared(folder: Path) -> bool:
    """Remove a folder of this user whose owner is gone; False for any other."""
    try:
        about = folder.lstat()
        if hasattr(os, "getuid") and about.st_uid != os.getuid():
            return False
        handle = os.open(folder / OWNER, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False  # none of ours, or in the making
    try:
        if not locked(handle):
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
    finally:
        os.close(handle)


def locked(handle: int) -> bool | None:
    """Whether the lock is ours now; None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if isinstance(error, BlockingIOError) else None
    return True
