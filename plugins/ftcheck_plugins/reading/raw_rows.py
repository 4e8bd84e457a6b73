"""A row as it stands in a file."""

from typing import Any, NamedTuple

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
