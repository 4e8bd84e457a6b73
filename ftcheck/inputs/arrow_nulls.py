"""The input `arrow_nulls`: tokens that are in the rows only because Arrow fills keys with null."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NullTokens:
    """Rows with keys that are null in a source that knows no absent keys, and what these keys cost.

    `rows` counts them, `first` is the index of the first; `looked` of them, evenly spread, were prepared with
    and without the nulls, of which `other` come out otherwise: by `tokens`, `trained` of them in the loss.
    In `meant` of these rows each null may be meant: the argument's declared type takes it. `keys` are the
    names of keys that are null in rows that come out otherwise, in order (at most 100).
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
