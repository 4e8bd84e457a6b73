"""Rows as `datasets.load_dataset` makes them of data files, which is what most training scripts read.

Its readers infer types: texts that are dates or numbers become dates and numbers, JSON whose keys differ from
row to row goes through a parser that rounds numbers, and a column that only some rows have is null in the
others (datasets 5.2, packaged_modules/json and csv). So the library itself reads the files here, and its rows
are compared with those in the files.
"""

import contextlib
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from ftcheck.errors import FtcheckError
from ftcheck.inputs.loaded import AsLoaded, Reread
from ftcheck.inputs.remote_files import stamp_here
from ftcheck_plugins.reading import files
from ftcheck_plugins.reading.files import Source
from ftcheck_plugins.reading.raw_rows import RawRow

BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
"""Name of the reader of datasets, by suffix."""
SHOWN = 60
"""Characters of a value that are kept to be shown."""


class Difference(NamedTuple):
    """One value that is read otherwise; `kind` as in `AsLoaded`."""

    kind: str
    path: str
    written: Any
    read: Any


@dataclass(frozen=True)
class Loaded:
    """The comparison, and the tables of datasets: one for each run of files of one kind."""

    compared: AsLoaded
    tables: tuple[Any, ...] = ()

    @property
    def other(self) -> bool:
        """Whether the rows of datasets are others than those of the files, keys that are null left aside."""
        return self.compared.refused is None and bool(self.compared.reread)


def installed() -> bool:
    """Whether the library is there."""
    import importlib.util

    return importlib.util.find_spec("datasets") is not None


def load(source: Source, folder: Path) -> Loaded:
    """Load the files of a source with datasets, and compare. `folder` takes its files while it reads."""
    stamps = tuple((name, *stamp_here(name)) for name in source.files)
    return _load(stamps, folder)


@lru_cache(maxsize=8)
def _load(stamps: tuple[tuple[str, int, int], ...], folder: Path) -> Loaded:
    names = tuple(name for name, _, _ in stamps)
    source = Source(names)
    try:
        tables = tuple(_tables(names, folder))
    except Exception as error:
        return Loaded(AsLoaded(0, refused=_said(error)))
    total = sum(len(one) for one in tables)
    types = {name: _type(kind) for one in tables for name, kind in one.features.items()}
    if all(_plain(column) for one in tables for column in one.data.columns):
        own = sum(1 for _ in files.stream(source)) if any(n.endswith(".json") for n in names) else total
        return Loaded(_counted(AsLoaded(total, types=types), own), tables)
    found: dict[str, Reread] = {}
    own = 0
    for row, (raw, read) in enumerate(_pairs(source, tables)):
        own += raw is not None
        if raw is not None and raw.data is not None and read is not None:
            _note(found, row, raw.data, read)
    return Loaded(_counted(AsLoaded(total, types=types, reread=found), own), tables)


def _counted(compared: AsLoaded, own: int) -> AsLoaded:
    if own == compared.total:
        return compared
    return replace(compared, refused=f"it makes {compared.total:,} rows of what are {own:,} in the files")


def _said(error: Exception) -> str:
    """The error that began it, on one line: datasets wraps it."""
    cause: BaseException = error
    while cause.__cause__ is not None and type(cause).__name__ == "DatasetGenerationError":
        cause = cause.__cause__
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text[:200]}{'…' if len(text) > 200 else ''}"


def _tables(names: Sequence[str], folder: Path) -> Iterator[Any]:
    """What load_dataset makes of each run of files of one kind; mapped, so that the files may go."""
    import datasets

    for builder, several in groupby(names, key=lambda name: BUILDERS[Path(name).suffix]):
        with tempfile.TemporaryDirectory(prefix="loaded-", dir=folder) as cache, _quiet():
            yield datasets.load_dataset(
                builder, data_files=list(several), split="train", cache_dir=cache, keep_in_memory=False
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import datasets

    logger, bars = logging.getLogger("datasets"), datasets.are_progress_bars_disabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()


def _type(feature: Any) -> str:
    """A column's type in few words: `int64`, `timestamp[s]`, `list`."""
    return str(getattr(feature, "dtype", None) or type(feature).__name__.lower())


def _plain(column: Any) -> bool:
    """Whether an Arrow column holds texts only, alone or in lists and structs, and no null anywhere."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        return all(_plain(chunk) for chunk in column.chunks)
    if column.null_count or isinstance(column, pa.ExtensionArray):
        return False
    kind = column.type
    if pa.types.is_struct(kind):
        return all(_plain(part) for part in column.flatten())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _plain(column.flatten())
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _pairs(source: Source, tables: Sequence[Any]) -> Iterator[tuple[RawRow | None, Mapping[str, Any] | None]]:
    """Each row of the files beside the one of datasets; None on the side that ends first."""
    read = (row for one in tables for row in one)
    try:
        for raw in files.stream(source):
            yield raw, next(read, None)
    except FtcheckError:
        return
    for row in read:
        yield None, row


def _note(found: dict[str, Reread], row: int, own: Mapping[str, Any], read: Mapping[str, Any]) -> None:
    first: dict[str, Difference] = {}
    for one in differences(own, read):
        first.setdefault(one.kind, one)
    for kind, one in first.items():
        before = found.get(kind)
        if before is not None:
            found[kind] = replace(before, rows=before.rows + 1)
            continue
        column = one.path.split(".")[0].split("[")[0]
        found[kind] = Reread(1, row, one.path, column, _shown(one.written), _shown(one.read))


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, int | float | str) else type(value).__name__
    return "null" if value is None else text[:SHOWN]


def differences(own: Any, read: Any, path: str = "", depth: int = 0) -> Iterator[Difference]:
    """What is read otherwise. A column of the whole row that the row has not, and that is null, is none."""
    if isinstance(own, dict) and isinstance(read, Mapping):
        yield from _of_objects(own, read, path, depth)
    elif isinstance(own, list) and isinstance(read, list) and len(own) == len(read):
        for number, (one, other) in enumerate(zip(own, read, strict=True)):
            yield from differences(one, other, f"{path}[{number}]", depth + 1)
    elif not _same(own, read):
        yield Difference(_kind(own, read), path, own, read)


def _of_objects(own: dict[Any, Any], read: Mapping[Any, Any], path: str, depth: int) -> Iterator[Difference]:
    lead = f"{path}." if path else ""
    for key, value in own.items():
        if key in read:
            yield from differences(value, read[key], f"{lead}{key}", depth + 1)
        elif depth or value is not None:
            yield Difference("lost", f"{lead}{key}", value, None)
    for key, value in read.items() if depth else ():
        if key not in own:
            yield Difference("filled", f"{lead}{key}", "absent", value)


def _same(own: Any, read: Any) -> bool:
    if type(own) is not type(read):
        return False
    return bool(own == read) or (isinstance(own, float) and math.isnan(own) and math.isnan(read))


def _kind(own: Any, read: Any) -> str:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (own, read))
    if read is None:
        return "null"
    return "number" if numbers else "text" if isinstance(own, str) and isinstance(read, str) else "type"


def rows(source: Source, loaded: Loaded) -> Iterator[RawRow]:
    """The rows of a source with the values of datasets, at their places in the files."""
    whole = replace(source, excluded={}, through=None)
    for raw, read in _pairs(whole, loaded.tables):
        if raw is not None and raw.offset not in source.excluded.get(raw.file, ()):
            yield raw if raw.data is None or read is None else raw._replace(data=dict(read))
