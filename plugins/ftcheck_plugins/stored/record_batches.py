"""Record batches of stored rows, in a stream: from .arrow files (stream or file format) and Parquet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError
from ftcheck.inputs import bounded
from ftcheck.inputs.prepared_folder import AGAIN

ROWS = 1_000
"""Rows of one batch."""
FILE_FORMAT = b"ARROW1"
END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""How an Arrow stream ends that was written to its end. Arrow reads one without it and says nothing."""


def schema_of(path: str) -> Any:
    """The Arrow schema of a file's rows. Raises `InputError`."""
    return next(_raising(path, _schema))


def batches(path: str, columns: list[str]) -> Iterator[Any]:
    """Batches of at most `ROWS` rows with these columns, in order. Raises `InputError`."""

    def read(path: Path) -> Iterator[Any]:
        for batch in _parquet(path, columns) if path.suffix == ".parquet" else _arrow(path, columns):
            batch.validate(full=True)
            for first in range(0, batch.num_rows, ROWS):
                yield batch.slice(first, ROWS)

    yield from _raising(path, read)


def _raising(path: str, read: Any) -> Iterator[Any]:
    """What a reader gives, with everything that is wrong with the file in one line."""
    import pyarrow as pa

    try:
        yield from read(Path(path))
    except (pa.ArrowException, OSError, ValueError) as error:
        said = bounded.told(error) if isinstance(error, OSError) and error.strerror else error
        raise InputError(
            f"{path}: not a readable file of rows: {' '.join(str(said).split())}: {AGAIN}"
        ) from error


def _schema(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        with bounded.open_file(path) as handle:
            yield pq.ParquetFile(handle).schema_arrow
        return
    yield _opened(path).schema


def _opened(path: Path) -> Any:
    """A reader of an .arrow file, batch by batch: mapped, the whole of it would count as memory in use.

    Raises `InputError` for one that ends too early.
    """
    import pyarrow as pa

    with bounded.open_file(path) as handle:
        begin = handle.read(len(FILE_FORMAT))
        handle.seek(max(0, handle.seek(0, 2) - len(END)))
        end = handle.read()
    if begin == FILE_FORMAT:
        return pa.ipc.open_file(pa.OSFile(str(path), "rb"))
    if end != END:
        raise InputError(f"{path}: ends before its last row: truncated, or still being written: {AGAIN}")
    return pa.ipc.open_stream(pa.OSFile(str(path), "rb"))


def _arrow(path: Path, columns: list[str]) -> Iterator[Any]:
    reader = _opened(path)
    found = (
        reader
        if not hasattr(reader, "get_batch")
        else map(reader.get_batch, range(reader.num_record_batches))
    )
    for batch in found:
        yield batch.select(columns)


def _parquet(path: Path, columns: list[str]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with bounded.open_file(path) as handle:
        yield from pq.ParquetFile(handle).iter_batches(batch_size=ROWS, columns=columns)
