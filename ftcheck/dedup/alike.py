"""Whether rows that may be nearly the same are: compared exactly, by their n-grams."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from ftcheck.dedup.grams import Grams, flat_grams, jaccards, joined
from ftcheck.dedup.shards import Piece, Shards

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

COMPARED_TOKENS = 2_000_000
"""Tokens of rows that are compared at once, about."""


@dataclass(frozen=True)
class Compared:
    """What rows are compared by: the sets of their n-grams, and of those of the tokens in the loss (None
    where all are)."""

    rows: "Ints"
    whole: Grams
    answers: Grams | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How rows are compared: by n-grams of `size` tokens, those of the whole row without `common` (sorted)
    ones; rows of which at least the share `least` is the same are alike, and where not all tokens are in the
    loss (`masked`) their answers must be so too.
    """

    size: int
    common: "Hashes"
    masked: bool
    least: float


def compared(of: Comparison, piece: Piece) -> Compared:
    """What the rows of a piece are compared by."""
    whole = flat_grams(piece.ids, piece.starts, of.size).without(of.common).sets()
    answers = None if piece.mask is None else _answers(piece, piece.mask, of.size)
    return Compared(piece.rows, whole, answers)


def _answers(piece: Piece, mask: "Mask", size: int) -> Grams:
    """N-grams of what is in the loss; of a text that is shorter than one, a hash of all of it."""
    import numpy as np

    inside = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
    starts, ids = inside[piece.starts], piece.ids[mask]
    made = flat_grams(ids, starts, size)
    short = np.diff(starts) < size
    texts = zip(starts[:-1][short].tolist(), starts[1:][short].tolist(), strict=True)
    alone = [_whole(ids[start:stop].tolist()) for start, stop in texts]
    owners = np.concatenate([made.owners(), short.nonzero()[0]])
    hashes = np.concatenate([made.hashes, np.array(alone, dtype=np.uint64)])
    ends = np.concatenate([[0], np.cumsum(made.counts() + short)])
    return Grams(hashes[np.argsort(owners, kind="stable")], ends).sets()


def _whole(ids: list[int]) -> int:
    return int.from_bytes(sha256(repr(ids).encode()).digest()[:8])


def alike(shards: Shards, pairs: "Ints", length: "NDArray[np.int32]", of: Comparison) -> Iterator["Ints"]:
    """Of pairs of rows (shape (n, 2), in order) those that are alike, some at a time.

    `length` has the tokens of each row. Of all rows those of a few pairs are in memory.
    """
    import numpy as np

    tokens = np.cumsum(length[pairs].sum(axis=1), dtype=np.int64)
    last = tokens[-1] if len(tokens) else 0
    ends = np.searchsorted(tokens, np.arange(COMPARED_TOKENS, last, COMPARED_TOKENS))
    for some in np.split(pairs, np.unique(ends)):
        if len(some):
            yield some[_are_alike(shards, some, len(length), of)]


def _are_alike(shards: Shards, pairs: "Ints", rows: int, of: Comparison) -> "Mask":
    import numpy as np

    wanted = np.zeros(rows, dtype=bool)
    wanted[pairs.ravel()] = True
    parts = list(shards.over(wanted, partial(compared, of), masks=of.masked))
    places = np.searchsorted(np.concatenate([part.rows for part in parts]), pairs)
    found: Mask = jaccards(joined(part.whole for part in parts), places) >= of.least
    if of.masked:
        answers = joined(part.answers for part in parts if part.answers is not None)
        found[found] = jaccards(answers, places[found]) >= of.least
    return found
