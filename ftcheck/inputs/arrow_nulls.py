"""The input `arrow_nulls`: tokens that are in the rows only because Arrow fills keys with null."""

from __future__ import annotations

from dataclasses import dataclass

from ftcheck.paths import is_hub_data

ARROW = (".parquet", ".arrow", ".feather")
"""Files that know no absent keys."""


def fills_keys(file: str) -> bool:
    """Whether each row from here has the keys of all rows: Parquet, Arrow, data sets of the hub."""
    return file.endswith(ARROW) or is_hub_data(file)


@dataclass(frozen=True, slots=True)
class NullTokens:
    """Rows with keys that are null in a source that knows no absent keys, and what these keys cost.

    `rows` counts them, `first` is the index of the first; `looked` of them, evenly spread, could be
    prepared with and without the nulls, of which `other` come out otherwise: by `tokens`, `trained` of them
    in the loss. In `meant` of these rows each null may be meant: the argument's declared type takes it.
    `keys` are the names of keys that are null in rows that come out otherwise, in order (at most 100).
    """

    rows: int
    first: int
    looked: int
    other: int
    first_other: int | None
    tokens: int
    trained: int
    keys: tuple[str, ...]
    meant: int = 0
