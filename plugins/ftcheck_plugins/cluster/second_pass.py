"""The second pass on a cluster: each part is fed where it lies; lengths of all rows say first what is an
outlier, and the parts' digests are put together in order.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.label_digest import LabelDigest
from ftcheck.settings import Outliers, Training
from ftcheck_plugins.cluster import tasks
from ftcheck_plugins.cluster.mapped import ColumnFiles, MappedColumns
from ftcheck_plugins.cluster.merged import MergedRows
from ftcheck_plugins.cluster.work import FedPart, Feeding
from ftcheck_plugins.preparation import truncation_pass
from ftcheck_plugins.preparation.truncation_pass import Fed, FedRows, ScratchArrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS, IDS, DIGEST = "columns", "ids.npz", "digest.txt"
SPANS = ("row", "start", "stop")
SEQUENCES = "sequences"


def fed(
    rows: MergedRows, training: Training, outliers: Outliers | None, layout: str, broken: Sequence[int]
) -> Fed:
    """What is fed of all rows; `broken` are those in trouble. It is kept in the rows' folder."""
    place = rows.folder / f"fed-{truncation_pass.settings_of(training, outliers)}"
    if not place.is_dir():
        making = place.with_name(f"{place.name}.{os.getpid()}")
        shutil.rmtree(making, ignore_errors=True)
        (making / COLUMNS).mkdir(parents=True)
        good = truncation_pass.good_rows(len(rows), broken)
        limit = truncation_pass.limit_of(rows.column("length"), good, outliers)
        feedings = _feedings(rows, Feeding(training, outliers, limit, layout, (), 0), good, making)
        _write(rows, feedings, making)
        making.rename(place)
    return _read(rows, place)


def _feedings(rows: MergedRows, common: Feeding, good: "NDArray[np.bool_]", folder: Path) -> list[Feeding]:
    """What is wanted of each part. It is taken that no row is dropped for its mask: then it is known where
    the first sequence of each part stands among all.
    """
    import numpy as np

    found, first, desk = [], 0, ScratchArrays(folder)
    for start, stop in zip(rows.starts, rows.starts[1:], strict=False):
        some, length = good[start:stop], rows.column("length")[start:stop]
        broken = tuple(np.flatnonzero(~some).tolist())
        found.append(replace(common, broken=broken, first=first))
        outliers, limit = common.outliers, common.limit
        first += len(truncation_pass.sequences(length, some, outliers, limit, common.layout, desk)[0])
    return found


def _write(rows: MergedRows, feedings: Sequence[Feeding], folder: Path) -> None:
    """Have every part fed, and write what is found."""
    import numpy as np

    digest, firsts, digested = LabelDigest(), [0], 0
    used = trained = np.zeros(0, dtype=np.int64)
    with ColumnFiles(folder / COLUMNS) as files:
        for number, part in enumerate(rows.each(tasks.feed, [(one,) for one in feedings])):
            if digested == number and feedings[number].first == firsts[-1]:
                digest.add_part(part.digest)
                digested += 1
            firsts.append(firsts[-1] + part.count)
            files.add(_columns(part, int(rows.starts[number])))
            used, trained = np.union1d(used, part.ids[0]), np.union1d(trained, part.ids[1])
    # rows before these parts were dropped: their sequences have other numbers than was taken
    rest = zip(feedings[digested:], firsts[digested:], strict=False)
    again = [(replace(feeding, first=first, bare=True),) for feeding, first in rest]
    for part in rows.each(tasks.feed, again, digested) if again else ():
        digest.add_part(part.digest)
    _join_spans(folder / COLUMNS)
    np.savez(folder / IDS, used=used, trained=trained)
    (folder / DIGEST).write_text(digest.text(), encoding="ascii")


def _columns(part: FedPart, start: int) -> "dict[str, NDArray[Any]]":
    """What a part found, under the numbers of all rows."""
    assert part.rows is not None
    spans = part.rows.sequences
    found = {one.name: getattr(part.rows, one.name) for one in fields(FedRows) if one.name != SEQUENCES}
    return found | {"row": spans[:, 0] + start, "start": spans[:, 1], "stop": spans[:, 2]}


def _join_spans(folder: Path) -> None:
    """One file of the three columns of sequences, one behind the other."""
    files = [one for name in SPANS for one in folder.glob(f"{name}.*")]
    with (folder / f"{SEQUENCES}.i8").open("wb") as joined:
        for one in files:
            with one.open("rb") as file:
                shutil.copyfileobj(file, joined, 1 << 20)
            one.unlink()


def _read(rows: MergedRows, place: Path) -> Fed:
    """As `_write` wrote it."""
    import numpy as np

    columns = MappedColumns(place / COLUMNS)
    with np.load(place / IDS) as ids:
        rows.know((ids["used"], ids["trained"]))
    found = {one.name: columns[one.name] for one in fields(FedRows) if one.name != SEQUENCES}
    digest = (place / DIGEST).read_text(encoding="ascii")
    return Fed(**found, sequences=columns[SEQUENCES].reshape(3, -1).T, digest=digest)
