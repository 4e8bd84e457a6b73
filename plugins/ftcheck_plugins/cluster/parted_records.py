"""Records of a shard in a folder, so that each part of them can be read on its own: written stretch by
stretch, the parts of a stretch one behind the other, and beside them a table of where each begins.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck.dedup.records import parted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ftcheck.dedup.records import Records

RECORDS, STARTS = "records.u8", "starts.npy"
STRETCH = 16 << 20
"""Bytes of a stretch: of shorter ones, a part would be read in very many places."""


def write(place: Path, batches: Iterable["Records"], parts: int) -> None:
    """Write records; the folder appears whole, or not at all."""
    making = place.with_name(f"{place.name}.{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    _write(making, batches, parts)
    shutil.rmtree(place, ignore_errors=True)
    making.rename(place)


def _write(folder: Path, batches: Iterable["Records"], parts: int) -> None:
    """A line of the table for each stretch: where its parts begin, where the last ends, words of a record."""
    import numpy as np

    lines, written = [], 0
    with (folder / RECORDS).open("wb") as file:
        for records in _stretches(batches):
            some = parted(records, parts)
            line = written + np.cumsum([0, *map(len, some)])
            lines.append([*line.tolist(), records.shape[1]])
            written += len(records)
            for one in some:
                file.write(np.ascontiguousarray(one).data)
    np.save(folder / STARTS, np.array(lines, dtype=np.int64).reshape(-1, parts + 2))


def _stretches(batches: Iterable["Records"]) -> Iterator["Records"]:
    """The batches, joined as long as they are small."""
    import numpy as np

    held: list[Records] = []
    for batch in batches:
        held.append(batch)
        if sum(one.nbytes for one in held) >= STRETCH:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def read(places: Sequence[Path], part: int) -> "Records":
    """One part of the records of some folders, one behind the other."""
    import numpy as np

    tables = [np.load(place / STARTS) for place in places]
    lines = np.concatenate(tables)
    words = int(lines[:, -1].max(initial=1))
    made = np.empty((int((lines[:, part + 1] - lines[:, part]).sum()), words), dtype=np.uint64)
    filled = 0
    for place, table in zip(places, tables, strict=True):
        stretches = table[:, part : part + 2]
        filled = _fill(made, filled, place, stretches[stretches[:, 0] < stretches[:, 1]])
    return made


def _fill(made: "Records", filled: int, place: Path, stretches: "NDArray[np.int64]") -> int:
    """Read stretches (first and last record) of a folder's records; how many records are filled then."""
    size = made.shape[1] * made.itemsize
    with (place / RECORDS).open("rb") as file:
        for start, stop in stretches.tolist():
            file.seek(start * size)
            file.readinto(made[filled : filled + stop - start].data.cast("B"))
            filled += stop - start
    return filled
