"""The second pass over prepared rows: what is fed of each, and the digest over ids and labels."""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.digest import of_json
from ftcheck.errors import InputError
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.label_digest import LabelDigest
from ftcheck.packing.truncation import cut_bounds, drops
from ftcheck.settings import Outliers, Training
from ftcheck_plugins.preparation.arrow_store import RowFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TAIL = 8
"""Tokens at the end of a row among which its last word is looked for."""


class ScratchArrays:
    """Room for arrays in files of a folder, unlinked at once: the system can have their memory back."""

    def __init__(self, folder: Path) -> None:
        """`folder` must be there, and can be removed while the arrays are in use."""
        self._folder = folder

    def zeros(self, shape: int | tuple[int, ...], kind: Any) -> "NDArray[Any]":
        """An array of zeros."""
        import numpy as np

        if not np.prod(shape):
            return np.zeros(shape, dtype=kind)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a signal later
                os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)) * np.dtype(kind).itemsize)
            return np.memmap(file, dtype=kind, mode="w+", shape=shape).view(np.ndarray)


def good_rows(count: int, broken: Iterable[int]) -> "NDArray[np.bool_]":
    """Which of so many rows are in no trouble."""
    import numpy as np

    good = np.ones(count, dtype=bool)
    good[list(broken)] = False
    return good


def limit_of(length: "NDArray[np.int32]", good: "NDArray[np.bool_]", outliers: Outliers | None) -> int | None:
    """Tokens beyond which a row is an outlier of all rows, as the policy says; None where none is."""
    from ftcheck.packing.lengths import nearest_rank

    if outliers is None or outliers.action == "keep" or not good.any():
        return None
    return nearest_rank(length[good], outliers.above_percentile)


def sequences(
    length: "NDArray[np.int32]",
    good: "NDArray[np.bool_]",
    outliers: Outliers | None,
    limit: int | None,
    layout: str,
    desk: ScratchArrays,
) -> "tuple[NDArray[np.int64], NDArray[np.bool_]]":
    """What may be fed: (row, start, stop) of each sequence, after the policy's outliers beyond `limit`."""
    import numpy as np

    rows_fed = good.nonzero()[0]
    outlier = desk.zeros(len(length), bool)
    stops = length[rows_fed].astype(np.int64)
    if outliers is not None and limit is not None and len(rows_fed):
        over = stops > limit
        outlier[rows_fed[over]] = True
        if outliers.action == "drop":
            rows_fed, stops = rows_fed[~over], stops[~over]
        elif outliers.action == "truncate":
            stops = np.minimum(stops, limit)
        elif layout != "text":
            raise InputError(f"data.outliers.action 'chunk' needs plain text; these rows are '{layout}'")
        else:
            return _chunks(rows_fed, stops, limit), outlier
    found = desk.zeros((3, len(rows_fed)), np.int64).T  # a rule that looks at a column reads that column
    found[:, 0], found[:, 2] = rows_fed, stops
    return found, outlier


def _chunks(rows_fed: "NDArray[np.int64]", stops: "NDArray[np.int64]", limit: int) -> "NDArray[np.int64]":
    import numpy as np

    pieces = [
        (row, start, min(start + limit, stop))
        for row, stop in zip(rows_fed.tolist(), stops.tolist(), strict=True)
        for start in range(0, max(stop, 1), limit)
    ]
    return np.array(pieces, dtype=np.int64).reshape(-1, 3)


@dataclass(frozen=True, slots=True)
class FedRows:
    """What the second pass finds out, one entry a row (see `Prepared`), but for `sequences`."""

    kept: "NDArray[np.int32]"
    trained: "NDArray[np.int32]"
    ends_in_stop: "NDArray[np.bool_]"
    stop_trained: "NDArray[np.bool_]"
    used: "NDArray[np.bool_]"
    outlier: "NDArray[np.bool_]"
    sequences: "NDArray[np.int64]"


@dataclass(frozen=True, slots=True)
class Fed(FedRows):
    """The same of all rows, with the digest over ids and labels."""

    digest: str

    @classmethod
    def of(cls, rows: FedRows, digest: str) -> "Fed":
        """All rows with their digest."""
        found: dict[str, Any] = {one.name: getattr(rows, one.name) for one in fields(rows)}
        return cls(**found, digest=digest)

    def write(self, path: Path) -> None:
        """Write all of it to a file, which appears whole or not at all."""
        import numpy as np

        making = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(making, **{one.name: getattr(self, one.name) for one in fields(self)})
        making.replace(path)


def read(path: Path) -> Fed | None:
    """What `Fed.write` wrote; None where there is no such file."""
    import numpy as np

    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        found: dict[str, Any] = {one.name: file[one.name] for one in fields(Fed)}
    return Fed(**found | {"digest": str(found["digest"])})


def settings_of(training: Training, outliers: Outliers | None) -> str:
    """A name for the settings that the second pass looks at."""
    cut = (training.max_length, training.truncation_mode, training.packing, training.packing_strategy)
    stated = None if outliers is None else asdict(outliers)
    return of_json([cut, stated]).removeprefix("sha256:")[:16]


def feed(
    file: RowFile,
    sequences: "NDArray[np.int64]",
    outlier: "NDArray[np.bool_]",
    training: Training,
    tokenizer: Tokenizer | None,
    desk: ScratchArrays,
    digest: LabelDigest,
) -> FedRows:
    """Cut, drop and add to a digest as the trainer will."""
    import numpy as np

    count = len(outlier)
    kept, trained = desk.zeros(count, np.int32), desk.zeros(count, np.int32)
    ends, stopped, used = (desk.zeros(count, bool) for _ in range(3))
    last = _LastWord(tokenizer)
    taken = np.ones(len(sequences), dtype=bool)
    cut = cut_bounds(training)
    position = 0
    for first, begins, ids, mask in file.batches():
        stop = int(np.searchsorted(sequences[:, 0], first + len(begins) - 1, side="left"))
        rows_fed, starts, stops = sequences[position:stop].T
        begin = begins[rows_fed - first]
        starts, stops = begin + starts, begin + stops
        ends[rows_fed] = last.stops(ids, starts, stops)
        starts, stops = cut(starts, stops)
        before = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
        in_loss = before[stops] - before[starts]
        keep = (in_loss > 0) if drops(training) else np.ones(len(rows_fed), dtype=bool)
        taken[position:stop] = keep
        position = stop
        rows_fed, starts, stops, in_loss = rows_fed[keep], starts[keep], stops[keep], in_loss[keep]
        used[rows_fed] = True
        np.add.at(kept, rows_fed, (stops - starts).astype(np.int32))
        np.add.at(trained, rows_fed, in_loss.astype(np.int32))
        stopped[rows_fed] = last.stops(ids[mask], before[starts], before[stops])
        digest.add_many(ids, mask, starts, stops)
    fed = sequences if taken.all() else sequences[taken]
    return FedRows(kept, trained, ends, stopped, used, outlier, fed)


class _LastWord:
    """Whether the last token of a row that is not blank is a stop token."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._stops = tokenizer.stop_ids if tokenizer is not None else frozenset[int]()
        self._known: dict[int, bool] = {}

    def stops(
        self, ids: "NDArray[np.int32]", starts: "NDArray[np.int64]", stops: "NDArray[np.int64]"
    ) -> "NDArray[np.bool_]":
        """For each row that lies in `ids` from start to stop; of its end no more than `TAIL` tokens count."""
        import numpy as np

        found = np.zeros(len(starts), dtype=bool)
        open_rows = np.arange(len(starts))
        for back in range(1, TAIL + 1):
            open_rows = open_rows[stops[open_rows] - back >= starts[open_rows]]
            if not len(open_rows):
                break
            tokens, which = np.unique(ids[stops[open_rows] - back], return_inverse=True)
            blank = np.array([self._blank(token) for token in tokens.tolist()], dtype=bool)[which]
            stop = np.array([token in self._stops for token in tokens.tolist()], dtype=bool)[which]
            found[open_rows[~blank & stop]] = True
            open_rows = open_rows[blank]
        return found

    def _blank(self, token: int) -> bool:
        """Whether a token is nothing but white space, remembered by id."""
        if token not in self._known:
            shown = self._tokenizer.show([token]) if self._tokenizer is not None else "?"
            self._known[token] = not shown.strip()
        return self._known[token]
