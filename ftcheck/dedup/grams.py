"""N-grams of token ids as hashes, and how much two texts share of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.dedup.records import mixed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

ODD = 0x9E3779B97F4A7C15


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

    def counts(self) -> "Ints":
        """For each text, how many n-grams it has."""
        import numpy as np

        return np.diff(self.starts)

    def owners(self) -> "Ints":
        """For each hash, the text it is from."""
        import numpy as np

        return np.repeat(np.arange(len(self), dtype=np.int64), self.counts())

    def where(self, kept: "Mask") -> "Grams":
        """The same texts with some of their hashes (one bool a hash)."""
        return Grams(self.hashes[kept], _starts(self.owners()[kept], len(self)))

    def without(self, common: "Hashes") -> "Grams":
        """The same texts without the n-grams of `common` (sorted)."""
        return self.where(~among(common, self.hashes)) if len(common) else self

    def texts(self, wanted: "Mask") -> "Grams":
        """Some of the texts (one bool a text)."""
        import numpy as np

        counts = self.counts()
        starts = np.concatenate([[0], np.cumsum(counts[wanted])]).astype(np.int64)
        return Grams(self.hashes[np.repeat(wanted, counts)], starts)

    def sets(self) -> "Grams":
        """The same texts, each with the hashes that are in it once, in order."""
        import numpy as np

        order = np.lexsort((self.hashes, self.owners()))
        hashes, owners = self.hashes[order], self.owners()
        again = (hashes[1:] == hashes[:-1]) & (owners[1:] == owners[:-1])
        return Grams(hashes, self.starts).where(np.concatenate([np.ones(min(len(hashes), 1), bool), ~again]))


def joined(parts: Iterable[Grams]) -> Grams:
    """The texts of all parts, one part behind the other."""
    import numpy as np

    every = list(parts)
    none = np.zeros(0, dtype=np.uint64)
    counts = np.concatenate([np.zeros(0, dtype=np.int64), *(one.counts() for one in every)])
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Grams(np.concatenate([none, *(one.hashes for one in every)]), starts)


def grams(texts: Sequence[Any], size: int) -> Grams:
    """The n-grams of `size` tokens of each text (a sequence of ids); shorter texts have none."""
    import numpy as np

    lengths = np.array([len(ids) for ids in texts], dtype=np.int64)
    flat = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in texts]) if texts else lengths
    return flat_grams(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), size)


def flat_grams(ids: "NDArray[Any]", starts: "Ints", size: int) -> Grams:
    """The same of texts that lie one behind the other in `ids`: text `k` begins at `starts[k]`."""
    import numpy as np

    texts = len(starts) - 1
    owner = np.repeat(np.arange(texts, dtype=np.int64), np.diff(starts))
    count = max(len(ids) - size + 1, 0)
    spread = mixed(ids.astype(np.int64).astype(np.uint64) + np.uint64(1))
    hashes = np.zeros(count, dtype=np.uint64)
    for position in range(size):
        hashes = hashes * np.uint64(ODD) + spread[position : position + count]
    whole = owner[:count] == owner[size - 1 : size - 1 + count]
    return Grams(mixed(hashes[whole]), _starts(owner[:count][whole], texts))


def _starts(owners: "Ints", count: int) -> "Ints":
    import numpy as np

    return np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))]).astype(np.int64)


def among(known: "NDArray[Any]", asked: "NDArray[Any]") -> "Mask":
    """Which of `asked` are in `known`, which is sorted."""
    import numpy as np

    if not len(known):
        return np.zeros(len(asked), dtype=bool)
    places = np.searchsorted(known, asked)
    places[places == len(known)] = 0
    found: Mask = known[places] == asked
    return found


def jaccards(sets: Grams, pairs: "Ints") -> "NDArray[np.float64]":
    """Shared n-grams by all n-grams of pairs of texts (shape (n, 2)); 0 where neither has any."""
    import numpy as np

    known, ranks = np.unique(sets.hashes, return_inverse=True)
    marks = []
    for texts in pairs.T:
        chosen = sets.counts()[texts]
        first = np.repeat(sets.starts[texts] - np.cumsum(chosen) + chosen, chosen)
        pair = np.repeat(np.arange(len(pairs), dtype=np.int64), chosen)
        marks.append(pair * len(known) + ranks[first + np.arange(len(first))])
    every = np.sort(np.concatenate(marks))
    twice = every[1:][every[1:] == every[:-1]]
    shared = np.bincount(twice // max(len(known), 1), minlength=len(pairs))
    union = sets.counts()[pairs].sum(axis=1) - shared
    likeness: NDArray[np.float64] = shared / np.maximum(union, 1)
    return likeness
