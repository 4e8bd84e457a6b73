"""How much of one text is in another: n-grams of token ids, MinHash for likely pairs, exact overlap.

Everything is read from a `TokenStore` in pieces of bounded size. What very many rows share (a system
prompt, the chat template, the words of an instruction) makes no two rows alike: `boilerplate` finds the
n-grams that stand in more than a tenth of the rows, and they are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.inputs.prepared import TokenStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Ints = NDArray[np.int64]

BANDS, BAND = 16, 8
"""MinHash bands: two rows of likeness 0.9 share one with probability 0.9999, two of 0.5 with 0.06."""
SEED = 42
COMMON_SHARE = 0.1
"""An n-gram in more than this share of the rows is boilerplate."""
COMMON_ROWS = 4
"""... and it must stand in more rows than this."""
SAMPLE_ROWS = 1_000
SAMPLE_TOKENS = 2_000_000
PIECE_TOKENS = 500_000


@dataclass(frozen=True)
class Grams:
    """The n-grams of some texts as hashes: those of text `k` are `hashes[starts[k]:starts[k + 1]]`."""

    hashes: "Hashes"
    starts: "Ints"

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1

    def of(self, text: int) -> "Hashes":
        """The hashes of one text, in order."""
        return self.hashes[int(self.starts[text]) : int(self.starts[text + 1])]

    def owners(self) -> "Ints":
        """For each hash, the text it is from."""
        import numpy as np

        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.starts))

    def without(self, common: "Hashes") -> "Grams":
        """The same texts without the n-grams of `common` (sorted)."""
        kept = ~_among(common, self.hashes)
        return Grams(self.hashes[kept], _starts(self.owners()[kept], len(self)))


def grams(texts: Sequence[Any], size: int) -> Grams:
    """The n-grams of `size` tokens of each text (a sequence of ids); shorter texts have none."""
    import numpy as np

    lengths = np.array([len(ids) for ids in texts], dtype=np.int64)
    flat = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in texts]) if texts else lengths
    owner = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)
    count = max(len(flat) - size + 1, 0)
    mixed = _mixed(flat.astype(np.uint64) + np.uint64(1))
    hashes = np.zeros(count, dtype=np.uint64)
    for position in range(size):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + mixed[position : position + count]
    whole = owner[:count] == owner[size - 1 : size - 1 + count]
    return Grams(_mixed(hashes[whole]), _starts(owner[:count][whole], len(texts)))


def _mixed(values: "Hashes") -> "Hashes":
    """A bijection that spreads numbers over 64 bits (the finaliser of splitmix64)."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _starts(owners: "Ints", count: int) -> "Ints":
    import numpy as np

    return np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))]).astype(np.int64)


def _among(known: "Hashes", asked: "Hashes") -> "NDArray[np.bool_]":
    """Which of `asked` are in `known`, which is sorted."""
    import numpy as np

    if not len(known):
        return np.zeros(len(asked), dtype=bool)
    places = np.searchsorted(known, asked)
    places[places == len(known)] = 0
    found: NDArray[np.bool_] = known[places] == asked
    return found


def pieces(store: TokenStore, rows: Sequence[int], size: int) -> Iterator[tuple["Ints", Grams]]:
    """The n-grams of rows, some rows at a time: their numbers and their n-grams."""
    import numpy as np

    taken: list[int] = []
    texts: list[Any] = []
    tokens = 0
    for row in rows:
        ids = store.ids(row)
        taken.append(row)
        texts.append(ids)
        tokens += len(ids)
        if tokens >= PIECE_TOKENS:
            yield np.array(taken, dtype=np.int64), grams(texts, size)
            taken, texts, tokens = [], [], 0
    if taken:
        yield np.array(taken, dtype=np.int64), grams(texts, size)


def boilerplate(store: TokenStore, rows: Sequence[int], size: int) -> "Hashes":
    """N-grams that stand in so many rows that they tell nothing, sorted; from a sample of the rows."""
    import numpy as np

    found, sampled, tokens = [], 0, 0
    step = max(len(rows) // SAMPLE_ROWS, 1)
    for _, made in pieces(store, rows[::step], size):
        found += [np.unique(made.of(text)) for text in range(len(made))]
        sampled, tokens = sampled + len(made), tokens + len(made.hashes)
        if tokens >= SAMPLE_TOKENS:
            break
    if not found:
        return np.zeros(0, dtype=np.uint64)
    hashes, counts = np.unique(np.concatenate(found), return_counts=True)
    common: Hashes = hashes[counts > max(COMMON_SHARE * sampled, COMMON_ROWS)]
    return common


def jaccard(one: "Hashes", other: "Hashes") -> float:
    """Shared n-grams by all n-grams, as sets."""
    import numpy as np

    one, other = np.unique(one), np.unique(other)
    shared = len(np.intersect1d(one, other, assume_unique=True))
    every = len(one) + len(other) - shared
    return shared / every if every else 0.0


def likely_pairs(
    store: TokenStore, rows: Sequence[int], size: int, least: int, common: "Hashes"
) -> list[tuple[int, int]]:
    """Pairs of rows (the later one first) whose MinHash signatures agree, sorted.

    A row is held against the first and the nearest earlier row of its bucket, and rows with fewer than
    `least` n-grams against none: the number of pairs grows with the rows, not with their square.
    """
    import numpy as np

    numbers, bands = [], []
    for piece, made in pieces(store, rows, size):
        made = made.without(common)
        long = np.diff(made.starts) >= least
        if long.any():
            numbers.append(piece[long])
            bands.append(_bands(made, long.nonzero()[0]))
    if not numbers:
        return []
    number, band = np.concatenate(numbers), np.concatenate(bands)
    pairs = np.concatenate([_bucket_pairs(number, band[:, index]) for index in range(BANDS)])
    found, shared = np.unique(pairs, axis=0, return_counts=True)
    return [(int(later), int(earlier)) for later, earlier in found[shared > 1].tolist()]


def _bands(made: Grams, texts: "Ints") -> "Hashes":
    """The band hashes of some texts: one row a text, one column a band."""
    import numpy as np
    from rensa import RMinHash

    chosen = Grams(
        np.concatenate([made.of(text) for text in texts.tolist()]),
        np.concatenate([[0], np.cumsum(np.diff(made.starts)[texts])]).astype(np.int64),
    )
    offsets = chosen.starts.astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(chosen.hashes, offsets, BANDS * BAND, SEED)
    rows = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(chosen), BANDS, BAND)
    hashes = np.zeros((len(chosen), BANDS), dtype=np.uint64)
    for position in range(BAND):
        hashes = _mixed(hashes * np.uint64(0x9E3779B97F4A7C15) + rows[:, :, position])
    return hashes


def _bucket_pairs(number: "Ints", band: "Hashes") -> "Ints":
    """Each row with the one before it and with the first one of its bucket."""
    import numpy as np

    order = np.argsort(band, kind="stable")
    same = np.concatenate([[False], band[order][1:] == band[order][:-1]])
    place = np.arange(len(order))
    first = np.maximum.accumulate(np.where(same, 0, place))
    later = number[order[place[same]]]
    nearest, opening = number[order[place[same] - 1]], number[order[first[same]]]
    both = np.stack([np.concatenate([later, later]), np.concatenate([nearest, opening])], axis=1)
    return np.unique(both, axis=0)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of a text stands in the rows: the share of its n-grams, and the row that has the most."""

    share: float
    row: int


def overlaps(
    texts: Sequence[Any], store: TokenStore, rows: Sequence[int], size: int, least: int
) -> dict[int, Overlap]:
    """For each text (ids) with at least `least` n-grams: how much of it stands in the rows.

    Texts of which no n-gram is found are left out. The index is made of the texts and the rows are
    streamed past it, so that memory goes with the texts.
    """
    import numpy as np

    common = boilerplate(store, rows, size)
    made = grams(texts, size).without(common)
    long = np.diff(made.starts) >= least
    known = np.unique(made.hashes[np.repeat(long, np.diff(made.starts))])
    seen = np.full(len(known), -1, dtype=np.int64)
    for piece, there in pieces(store, rows, size) if len(known) else ():
        hit = _among(known, there.hashes)
        places, origin = np.searchsorted(known, there.hashes[hit]), piece[there.owners()[hit]]
        new = seen[places] < 0
        seen[places[new][::-1]] = origin[new][::-1]
    found = {}
    for text in long.nonzero()[0].tolist():
        rows_of = seen[np.searchsorted(known, made.of(text))]
        inside = rows_of[rows_of >= 0]
        if len(inside):
            names, counts = np.unique(inside, return_counts=True)
            found[text] = Overlap(len(inside) / len(rows_of), int(names[counts.argmax()]))
    return found
