"""Columns in files that are mapped: written part by part, and read as if they were in memory.

What was read of a mapped file counts as this process's memory until the system wants it back, which is not
before all memory is taken. So a thread gives it back as soon as it is more than `RESIDENT`: what is read
again comes out of the system's file cache.
"""

import mmap
import re
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from ftcheck_plugins.preparation.arrow_store import HexDigests

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESIDENT = 64 << 20
"""Bytes of mapped columns that may stay in this process's memory; in one step of numpy more may come."""
RESIDENT_FILES = re.compile(r"^RssFile:\s+(\d+) kB$", re.MULTILINE)
LOOK = 0.05
"""Seconds between two looks at how many there are."""
DIGEST = 32
"""Bytes of a row's digest."""


class ColumnFiles:
    """Writes columns, each to a file of its own, `NAME.TYPE` (`length.<i4`), as far as they are known."""

    def __init__(self, folder: Path) -> None:
        """`folder` must be there."""
        self._folder = folder
        self._open: dict[str, BinaryIO] = {}

    def __enter__(self) -> "ColumnFiles":
        """Use it in a `with` block: leaving the block closes the files."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        for file in self._open.values():
            file.close()

    def add(self, columns: "Mapping[str, NDArray[Any]]") -> None:
        """Write the next rows; every time the same columns, of the same types."""
        import numpy as np

        for name, values in columns.items():
            named = f"{name}.{values.dtype.str[1:]}"
            if named not in self._open:
                self._open[named] = (self._folder / named).open("wb")
            self._open[named].write(np.ascontiguousarray(values).data)


class MappedColumns:
    """The columns of a folder, each mapped when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        """`folder` is one that `ColumnFiles` wrote."""
        self._files = {one.name.rpartition(".")[0]: one for one in folder.iterdir()}
        self._maps: dict[str, mmap.mmap] = {}

    def __getitem__(self, name: str) -> "NDArray[Any]":
        """A column, which cannot be written to."""
        import numpy as np

        file = self._files[name]
        kind = np.dtype(file.suffix[1:])
        if not file.stat().st_size:
            return np.zeros(0, dtype=kind)
        if name not in self._maps:
            with file.open("rb") as handle:
                self._maps[name] = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
            _watch(self._maps[name])
        return np.frombuffer(self._maps[name], dtype=kind)


_mapped: "weakref.WeakSet[mmap.mmap]" = weakref.WeakSet()
_changing, _started = threading.Lock(), threading.Event()


def _watch(mapped: mmap.mmap) -> None:
    """Have the thread look after this map too; it is started if it was not. Linux only."""
    if _resident() is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    with _changing:
        _mapped.add(mapped)
        if not _started.is_set():
            _started.set()
            threading.Thread(target=_give_back, name="mapped columns", daemon=True).start()


def _give_back() -> None:
    """Again and again: let the system have the memory of all maps, where they have too much of it. What was
    resident before them does not count. (Measured anew after each time it would grow with them: whoever reads
    a map has its pages back at once.)
    """
    pause, others = threading.Event(), _resident() or 0
    while not pause.wait(LOOK):
        if (_resident() or 0) > others + RESIDENT:
            with _changing:
                for one in _mapped:
                    one.madvise(mmap.MADV_DONTNEED)


def _resident() -> int | None:
    """Bytes of files that count as this process's (Ray's shared memory does not); None where the system does
    not tell.
    """
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = RESIDENT_FILES.search(text)
    return int(found[1]) << 10 if found is not None else None


class MappedDigests(HexDigests):
    """Those of mapped bytes."""

    def __init__(self, values: "NDArray[np.uint8]") -> None:
        """`values` are all bytes, one digest behind the other."""
        self._values = values

    def __len__(self) -> int:
        return len(self._values) // DIGEST

    def _hex(self, row: int) -> str:
        return str(self._values[row * DIGEST : (row + 1) * DIGEST].tobytes().hex())
