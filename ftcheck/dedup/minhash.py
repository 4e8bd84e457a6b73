"""Which rows may be nearly the same: MinHash signatures of their n-grams, and the bands that agree.

What very many rows share (a system prompt, the chat template, the words of an instruction) makes no two rows
alike: `boilerplate` finds the n-grams that stand in more than a tenth of the rows, and they are left out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

from ftcheck.dedup.grams import ODD, Grams, flat_grams
from ftcheck.dedup.records import mixed
from ftcheck.dedup.shards import Piece, Shards, marked, reduced

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ftcheck.dedup.records import Records

    Hashes = NDArray[np.uint64]
    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

BANDS, BAND = 16, 8
"""MinHash bands: two rows of likeness 0.9 share one with probability 0.9999, two of 0.5 with 0.06."""
SEED = 42
ROW_BITS = 60
"""A record's second word: the row, and above it the band."""
SIGNED = 2_000
"""Rows whose signatures are made at once: rensa gives them as lists of Python numbers."""
COMMON_SHARE = 0.1
"""An n-gram in more than this share of the rows is boilerplate."""
COMMON_ROWS = 4
"""... and it must stand in more rows than this."""
SAMPLE_ROWS = 1_000
SAMPLE_GRAMS = 2_000_000


def boilerplate(shards: Shards, wanted: "Mask", size: int) -> "Hashes":
    """N-grams that stand in so many rows that they tell nothing, sorted; from a sample of the rows."""
    import numpy as np

    found: list[Hashes] = []
    seen = 0
    for made in shards.over(_sampled(wanted), partial(_gram_sets, size)):
        for text, count in enumerate(made.counts().tolist()):
            if seen < SAMPLE_GRAMS:
                found.append(made.of(text))
                seen += count
    if not found:
        return np.zeros(0, dtype=np.uint64)
    hashes, counts = np.unique(np.concatenate(found), return_counts=True)
    common: Hashes = hashes[counts > max(COMMON_SHARE * len(found), COMMON_ROWS)]
    return common


def _sampled(wanted: "Mask") -> "Mask":
    """Every nth of the marked rows."""
    import numpy as np

    step = max(int(wanted.sum()) // SAMPLE_ROWS, 1)
    every = np.zeros(len(wanted), dtype=bool)
    every[list(islice(marked(wanted), 0, None, step))] = True
    return every


def _gram_sets(size: int, piece: Piece) -> Grams:
    return flat_grams(piece.ids, piece.starts, size).sets()


@dataclass(frozen=True, slots=True)
class Signed:
    """Which rows get signatures, and of what: n-grams of `size` tokens but for the `common` ones (sorted), of
    rows that have at least `least` of them.
    """

    size: int
    least: int
    common: "Hashes"


def band_records(of: Signed, piece: Piece) -> "Records":
    """Records (band hash; band and row) of the rows of a piece."""
    import numpy as np

    made = flat_grams(piece.ids, piece.starts, of.size).without(of.common)
    long = made.counts() >= of.least
    rows, chosen = piece.rows[long].astype(np.uint64), made.texts(long)
    hashes = _bands(chosen)
    bands = np.arange(BANDS, dtype=np.uint64) << np.uint64(ROW_BITS)
    return np.stack([hashes.ravel(), (rows[:, None] | bands).ravel()], axis=1)


def _bands(made: Grams) -> "Hashes":
    """The band hashes of texts: one row a text, one column a band."""
    import numpy as np

    hashes = np.zeros((len(made), BANDS), dtype=np.uint64)
    for first in range(0, len(made), SIGNED):
        starts = made.starts[first : first + SIGNED + 1]
        signatures = _signatures(made.hashes[starts[0] : starts[-1]], starts - starts[0])
        some = hashes[first : first + SIGNED]
        for position in range(BAND):
            some[:] = mixed(some * np.uint64(ODD) + signatures[:, :, position])
    return hashes


def _signatures(hashes: "Hashes", starts: "Ints") -> "Hashes":
    """The MinHash signatures of texts, in bands (shape (texts, bands, band))."""
    import numpy as np
    from rensa import RMinHash

    size = BANDS * BAND
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, starts.astype(np.uint64), size, SEED)
    rows = matrix.to_rows()
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.uint64, count=len(rows) * size)
    return flat.reshape(len(rows), BANDS, BAND)


def bucket_pairs(pieces: Iterable["Records"]) -> Iterator["Records"]:
    """Of sorted `band_records`: each row with the nearest earlier one and with the first one of its bucket, a
    bucket being the rows with one hash in one band. Records (later row, earlier row), one for each bucket.
    """
    import numpy as np

    mask = np.uint64((1 << ROW_BITS) - 1)
    held = np.zeros((0, 2), dtype=np.uint64)
    opened = np.uint64(0)
    for piece in pieces:
        records = np.concatenate([held, piece])
        rows, bands = records[:, 1] & mask, records[:, 1] >> np.uint64(ROW_BITS)
        new = (records[1:, 0] != records[:-1, 0]) | (bands[1:] != bands[:-1])
        opens = np.concatenate([[not len(held)], new])
        place = np.maximum.accumulate(np.where(opens, np.arange(len(records)), -1))
        opening = np.where(place < 0, opened, rows[place])
        yield _pairs(rows, opening, ~new)
        held, opened = records[-1:], opening[-1]


def _pairs(rows: "Hashes", opening: "Hashes", same: "Mask") -> "Records":
    """Rows with the one before where that is in the `same` bucket, and with the opening one if another."""
    import numpy as np

    later, nearest, first = rows[1:][same], rows[:-1][same], opening[1:][same]
    apart = first != nearest
    near = np.stack([later, nearest], axis=1)
    return np.concatenate([near, np.stack([later[apart], first[apart]], axis=1)])


def agreeing(pieces: Iterable["Records"]) -> Iterator["Records"]:
    """Of sorted pairs those that are there more than once, each once: they agree in two bands."""
    import numpy as np

    held = np.zeros((0, 2), dtype=np.uint64)
    for piece in pieces:
        pairs = np.concatenate([held, piece])
        ends = np.concatenate([(pairs[1:] != pairs[:-1]).any(axis=1), [False]]).nonzero()[0]
        starts = np.concatenate([[0], ends + 1])
        twice = np.diff(starts) > 1
        yield pairs[starts[:-1][twice]]
        held = pairs[starts[-1] :][:2]
    if len(held) > 1:
        yield held[:1]


@dataclass(frozen=True, slots=True)
class LikelyPairs:
    """Pairs of rows, the later one first, in order (shape (n, 2)); `left_out` more were found."""

    pairs: "Ints"
    left_out: int


def likely_pairs(shards: Shards, wanted: "Mask", of: Signed, memory: int, most: int) -> LikelyPairs:
    """Pairs of marked rows whose MinHash signatures agree in two bands: the first `most` of them.

    A row is held against the first and the nearest earlier row of its bucket: the number of pairs grows with
    the rows, not with their square. `memory` in bytes is what sorting the pairs may hold.
    """
    import numpy as np

    found = shards.shuffled(wanted, partial(band_records, of), bucket_pairs)
    kept: list[Records] = [np.zeros((0, 2), dtype=np.uint64)]
    count = taken = 0
    for pairs in reduced(found, agreeing, memory):
        kept.append(pairs[: most - taken])
        taken, count = taken + len(kept[-1]), count + len(pairs)
    return LikelyPairs(np.concatenate(kept).astype(np.int64), count - taken)
