"""Records of a few 64-bit words: made by shards, parted by their first word, sorted outside memory.

A record array has shape (n, words), uint64. Its order is that of the first word, then of the second, and so
on. What is sorted is the same whatever the memory, and however the records came in.
"""

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from ftcheck.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Records = NDArray[np.uint64]

BUFFER = 4
"""The part of the memory that holds records: sorting takes two and a half times their bytes."""
MERGED = 6
"""The same of the blocks that are merged, of which a second copy is read meanwhile."""
PIECE = 32
"""The same of what is handed out at once: who reads it makes several arrays of its size."""


def mixed(values: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    """A bijection that spreads numbers over 64 bits (the finaliser of splitmix64)."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def parted(records: "Records", parts: int) -> list["Records"]:
    """The records by parts: all that have the same first word, a hash, are in one part."""
    import numpy as np

    if parts == 1:
        return [records]
    part = (records[:, 0] % np.uint64(parts)).astype(np.uint32)
    order = np.argsort(part, kind="stable")
    ends = np.cumsum(np.bincount(part, minlength=parts))[:-1]
    return np.split(records[order], ends)


def ordered(records: "Records") -> "Records":
    """The records in order. The first word decides nearly always: the others are looked at where it ties."""
    import numpy as np

    made = np.take(records, np.argsort(records[:, 0]), axis=0)
    same = np.concatenate([[False], made[1:, 0] == made[:-1, 0], [False]])
    tied = (same[1:] | same[:-1]).nonzero()[0]
    if len(tied):
        some = made[tied]
        made[tied] = some[np.lexsort(some.T[::-1])]
    return made


class Sorter:
    """Sorts more records than `memory` bytes hold: sorted runs on the disk, merged as they are read.

    The file is in the system's folder of temporary files (TMPDIR), has no name there on Linux, and is gone
    when the `with` block ends, or the process does. As long as the records fit, nothing is written.
    """

    def __init__(self, memory: int) -> None:
        """Starts without records; `memory` in bytes is the peak of all that is held."""
        self._memory = memory
        self._held: list[Records] = []
        self._bytes = 0
        self._runs: list[tuple[int, int]] = []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "Sorter":
        """Use it in a `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give memory and disk back."""
        self._held = []
        if self._file is not None:
            self._file.close()

    @property
    def spilled(self) -> int:
        """Bytes that were written to the disk."""
        return self._runs[-1][1] if self._runs else 0

    def add(self, records: "Records") -> None:
        """Take records in. Raises `InputError` where the disk is full."""
        room = max(self._memory // BUFFER // (8 * records.shape[1]), 1)
        for start in range(0, len(records), room):
            some = records[start : start + room]
            if self._held and self._bytes + some.nbytes > self._memory // BUFFER:
                self._spill()
            self._held.append(some)
            self._bytes += some.nbytes

    def pieces(self) -> Iterator["Records"]:
        """All records in order, a few at a time. Raises `InputError` as `add` does."""
        if self._runs and self._held:
            self._spill()
        if not self._runs and not self._held:
            return
        for records in self._merged() if self._runs else [self._run()]:
            step = max(self._memory // PIECE // (8 * self._width), 1)
            yield from (records[start : start + step] for start in range(0, len(records), step))

    def _run(self) -> "Records":
        import numpy as np

        whole = np.concatenate(self._held)
        self._held, self._bytes, self._width = [], 0, whole.shape[1]
        return ordered(whole)

    def _spill(self) -> None:
        records = self._run()
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="ftcheck-", buffering=0)  # noqa: SIM115
            _written(self._file, records)
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()}: {error.strerror or error}: sorting what finds duplicates wrote"
                f" {self.spilled:,} bytes there; free space, set TMPDIR to another folder, or let"
                " FTCHECK_SORT_MEMORY hold more in memory"
            ) from error
        self._runs.append((self.spilled, self.spilled + records.nbytes))

    def _merged(self) -> Iterator["Records"]:
        import numpy as np

        size = 8 * self._width
        step = max(self._memory // MERGED // (len(self._runs) * size), 1) * size
        runs = [_Run(self._file, *run, step, self._width) for run in self._runs]
        while runs:
            bounds = [run.last for run in runs if run.more]
            yield ordered(np.concatenate([run.upto(min(bounds, default=None)) for run in runs]))
            runs = [run for run in runs if run.refilled()]


class _Run:
    """A sorted run on the disk: one block of it is in memory."""

    def __init__(self, file: Any, start: int, stop: int, step: int, width: int) -> None:
        self._file, self._next, self._stop, self._step, self._width = file, start, stop, step, width
        self._block = self._read()

    @property
    def more(self) -> bool:
        """Whether there is more than the block."""
        return self._next < self._stop

    @property
    def last(self) -> tuple[int, ...]:
        """The last record of the block."""
        return tuple(self._block[-1].tolist())

    def upto(self, bound: tuple[int, ...] | None) -> "Records":
        """The records of the block up to a bound (None: all), which are then gone from it."""
        end = len(self._block) if bound is None else _count_upto(self._block, bound)
        taken, self._block = self._block[:end], self._block[end:]
        return taken

    def refilled(self) -> bool:
        """Read the next block where this one is used up; whether there are records."""
        if not len(self._block) and self.more:
            self._block = self._read()
        return bool(len(self._block))

    def _read(self) -> "Records":
        import numpy as np

        size = min(self._step, self._stop - self._next)
        block = np.empty((size // (8 * self._width), self._width), dtype=np.uint64)
        self._file.seek(self._next)
        view = block.data.cast("B")
        while view:
            view = view[self._file.readinto(view) :]
        self._next += size
        return block


def _written(file: IO[bytes], records: "Records") -> None:
    """Write an array whole: an unbuffered file may take a part at a time."""
    view = records.data.cast("B")
    while view:
        view = view[file.write(view) :]


def _count_upto(records: "Records", bound: tuple[int, ...]) -> int:
    """How many records, which are in order, are not above a bound."""
    import numpy as np

    start, stop = 0, len(records)
    for column, value in enumerate(bound):
        words = np.ascontiguousarray(records[start:stop, column])
        low, high = (int(np.searchsorted(words, np.uint64(value), side)) for side in ("left", "right"))
        start, stop = start + low, start + high
    return stop
