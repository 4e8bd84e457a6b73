"""A row as it stands in a file."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ftcheck.errors import InputError
from ftcheck.inputs.prepared import RowError


class RawRow(NamedTuple):
    """One row as it stands in a file: its place, sha256 of its bytes, its data or what is wrong.

    `offset` is where it begins, in bytes; in Parquet files the number of rows before it.
    """

    file: int
    line: int
    offset: int
    record: bytes
    data: dict[str, Any] | None
    trouble: RowError | None = None


def readable(path: object, rows: Iterable[RawRow]) -> Iterator[RawRow]:
    """The rows of a file. Raises `InputError` where it is not there, or its disk or server fails."""
    try:
        yield from rows
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
