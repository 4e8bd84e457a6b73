"""How much of a text stands in the rows: its n-grams, looked for in all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ftcheck.dedup.grams import Grams, among, flat_grams, grams
from ftcheck.dedup.minhash import boilerplate
from ftcheck.dedup.shards import Piece, Shards

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of a text stands in the rows: the share of its n-grams, and the row that has the most."""

    share: float
    row: int


def overlaps(
    texts: Sequence[Any], shards: Shards, wanted: "Mask", size: int, least: int
) -> dict[int, Overlap]:
    """For each text (ids) with at least `least` n-grams: how much of it stands in the marked rows.

    Texts of which no n-gram is found are left out. The index is made of the texts, and goes to all shards:
    memory goes with the texts.
    """
    import numpy as np

    made = grams(texts, size).without(boilerplate(shards, wanted, size))
    long = made.counts() >= least
    known = np.unique(made.texts(long).hashes)
    seen = np.full(len(known), -1, dtype=np.int64)
    for places, rows in shards.over(wanted, partial(first_seen, known, size)) if len(known) else ():
        new = seen[places] < 0
        seen[places[new]] = rows[new]
    return {text: one for text in long.nonzero()[0].tolist() if (one := _overlap(made, text, known, seen))}


def first_seen(known: "Hashes", size: int, piece: Piece) -> "tuple[Ints, Ints]":
    """Which of the `known` n-grams (sorted) are in the rows of a piece: their places, and the first row."""
    import numpy as np

    there = flat_grams(piece.ids, piece.starts, size)
    hit = among(known, there.hashes)
    places, first = np.unique(np.searchsorted(known, there.hashes[hit]), return_index=True)
    return places, piece.rows[there.owners()[hit][first]]


def _overlap(made: Grams, text: int, known: "Hashes", seen: "Ints") -> Overlap | None:
    import numpy as np

    rows = seen[np.searchsorted(known, made.of(text))]
    inside = rows[rows >= 0]
    if not len(inside):
        return None
    names, counts = np.unique(inside, return_counts=True)
    return Overlap(len(inside) / len(rows), int(names[counts.argmax()]))
