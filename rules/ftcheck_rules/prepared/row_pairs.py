"""Which stored row is which row of the data: found by what the rows hold, not by where they stand.

Rows with the same ids first; then rows that are the same between BOS and the tokens that end them; then rows
that share runs of tokens which hardly any other row has. Dropped, added and shuffled rows do not mislead it.
"""

import hashlib
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck import Prepared, Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RUN = 4
"""Tokens of a run by which rows are recognised."""
FEW = 4
"""A run that more rows have tells nothing."""
ALIKE = 0.66
"""Rows that have so many of the runs in common that could tell one of them are the same row."""
MOST_TOKENS = 2_000_000
"""Of each side so many tokens are looked at for such runs."""
UNKNOWN = 0.5
"""Where not all rows were looked at, so many must be known for the others to count as known too."""
MIXED = 0x9E3779B97F4A7C15
"""An odd number that spreads what it multiplies over 64 bits."""
TAIL = 8
"""Tokens at a row's end among which those are looked for that only end it."""


@dataclass(frozen=True)
class Pairs:
    """Rows of `here` (ftcheck's preparation) and of `there` (the folder), by their numbers on each side.

    `same` have the same ids, `close` are the same row with other ids, both of shape (n, 2) and ordered by the
    number there. `missing` rows stand only here, `extra` only there. `unseen` rows of a side were too many to
    be looked at closely, `held_out` rows stand among the folder's evaluation rows.
    """

    same: "NDArray[np.int64]"
    close: "NDArray[np.int64]"
    missing: "NDArray[np.int64]"
    extra: "NDArray[np.int64]"
    unseen: int = 0
    held_out: int = 0

    @property
    def found(self) -> int:
        """Rows that both have."""
        return len(self.same) + len(self.close)

    @property
    def in_order(self) -> bool:
        """Whether the rows that both have stand in the same order."""
        import numpy as np

        both = np.concatenate([self.same, self.close])
        here = both[np.argsort(both[:, 1], kind="stable"), 0]
        return bool((here[1:] > here[:-1]).all())


class Side:
    """The rows of one preparation, as they are compared: all that could be prepared, before truncation."""

    def __init__(self, prepared: Prepared, tokenizer: Tokenizer) -> None:
        """`tokenizer` tells which tokens only begin or end a row."""
        import numpy as np

        good = np.ones(len(prepared), dtype=bool)
        good[list(prepared.row_errors)] = False
        self.prepared = prepared
        self.rows: NDArray[np.int64] = good.nonzero()[0]
        self._ends = Ends(tokenizer)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def only(self, numbers: "NDArray[np.int64]") -> "Side":
        """Some of its rows."""
        some = copy(self)
        some.rows = self.rows[numbers]
        return some

    def ids(self, number: int) -> "NDArray[np.int32]":
        """Token ids of a row, before truncation."""
        return self.prepared.tokens.ids(int(self.rows[number]))

    def mask(self, number: int) -> "NDArray[np.bool_]":
        """Which of them are in the loss."""
        return self.prepared.tokens.mask(int(self.rows[number]))

    def known(self, other: "Side") -> "NDArray[np.int64]":
        """Numbers of the other side's rows that have the ids of one of these."""
        import numpy as np

        ours, theirs = (_hashes(one.ids, np.arange(len(one))) for one in (self, other))
        return np.isin(theirs, ours).nonzero()[0]

    def core(self, number: int) -> "NDArray[np.int32]":
        """A row without BOS before it, and without what ends it."""
        ids = self.ids(number)
        begin, end = self._ends.of(ids)
        return ids[begin:end]


class Ends:
    """Where what is said in a row begins and ends: behind BOS, before stop tokens and blanks."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Blank tokens are remembered by id."""
        self._tokenizer = tokenizer
        self._known: dict[int, bool] = {}

    def of(self, ids: "NDArray[np.int32]") -> tuple[int, int]:
        """From where to where a row has more than its beginning and end."""
        begin, end = 0, len(ids)
        while begin < end and int(ids[begin]) == self._tokenizer.bos_token_id:
            begin += 1
        while end > begin and len(ids) - end < TAIL and self.ends(int(ids[end - 1])):
            end -= 1
        return begin, end

    def ends(self, token: int) -> bool:
        """Whether a token only ends a row: a stop token, or white space."""
        return token in self._tokenizer.stop_ids or self.blank(token)

    def blank(self, token: int) -> bool:
        """Whether a token is white space."""
        if token not in self._known:
            special = token in self._tokenizer.special_ids
            self._known[token] = not special and not self._tokenizer.show([token]).strip()
        return self._known[token]


def pairs(here: Side, there: Side, cut: int | None) -> Pairs:
    """Which row is which. A row here that `cut` tokens are kept of is the same as one that was cut so."""
    import numpy as np

    left_here, left_there = np.arange(len(here)), np.arange(len(there))
    same = np.zeros((0, 2), dtype=np.int64)
    for kept in dict.fromkeys((cut, None)):
        found = _equal(_hashes(here.ids, left_here, kept), _hashes(there.ids, left_there))
        same = np.concatenate([same, _placed(found, left_here, left_there)])
        left_here, left_there = np.delete(left_here, found[:, 0]), np.delete(left_there, found[:, 1])
    found = _equal(_hashes(here.core, left_here), _hashes(there.core, left_there))
    close = _placed(found, left_here, left_there)
    left_here, left_there = np.delete(left_here, found[:, 0]), np.delete(left_there, found[:, 1])
    seen_here, seen_there = _few(here, left_here), _few(there, left_there)
    found = _alike(here, there, seen_here, seen_there)
    close = np.concatenate([close, _placed(found, seen_here, seen_there)])
    missing, extra = np.setdiff1d(seen_here, close[:, 0]), np.setdiff1d(seen_there, close[:, 1])
    unseen = max(len(left_here) - len(seen_here), len(left_there) - len(seen_there))
    if unseen and len(found) > UNKNOWN * len(seen_there):
        missing, extra = missing[:0], extra[:0]  # their other side may be one of the rows left out
    return Pairs(
        same=same[np.argsort(same[:, 1], kind="stable")],
        close=close[np.argsort(close[:, 1], kind="stable")],
        missing=missing,
        extra=extra,
        unseen=unseen,
    )


def _placed(
    found: "NDArray[np.int64]", here: "NDArray[np.int64]", there: "NDArray[np.int64]"
) -> "NDArray[np.int64]":
    """Pairs of places in two lists as pairs of what stands there."""
    import numpy as np

    return np.stack([here[found[:, 0]], there[found[:, 1]]], axis=1)


def _hashes(
    ids: "Callable[[int], NDArray[np.int32]]", rows: "NDArray[np.int64]", kept: int | None = None
) -> "NDArray[np.uint64]":
    """8 bytes of a digest over each row's ids."""
    import numpy as np

    made = [hashlib.blake2b(ids(row)[:kept].tobytes(), digest_size=8).digest() for row in rows.tolist()]
    return np.frombuffer(b"".join(made), dtype=np.uint64)


def _equal(here: "NDArray[np.uint64]", there: "NDArray[np.uint64]") -> "NDArray[np.int64]":
    """Places of equal values, each used once: the first with the first, the second with the second."""
    import numpy as np

    _, in_here, in_there = np.intersect1d(
        _numbered(here), _numbered(there), assume_unique=True, return_indices=True
    )
    return np.stack([in_here, in_there], axis=1)


def _numbered(values: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    """Values made different from earlier equal ones, in the same way on both sides."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered, side="left")
    made = np.empty_like(values)
    made[order] = ordered + (np.arange(len(values)) - first).astype(np.uint64) * np.uint64(MIXED)
    return made


def _few(side: Side, rows: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """So many rows as have `MOST_TOKENS` together: by content the same of both sides, wherever they stand."""
    import numpy as np

    lengths = side.prepared.length[side.rows[rows]].astype(np.int64)
    if int(lengths.sum()) <= MOST_TOKENS:
        return rows
    order = np.argsort(
        [(_runs(side.core(row)) * np.uint64(MIXED)).min() for row in rows.tolist()], kind="stable"
    )
    return np.sort(rows[order[np.cumsum(lengths[order]) <= MOST_TOKENS]])


def _alike(
    here: Side, there: Side, in_here: "NDArray[np.int64]", in_there: "NDArray[np.int64]"
) -> "NDArray[np.int64]":
    """Places of rows that share most of the rare runs of tokens that one of them has, each used once."""
    import numpy as np

    known = _Runs.of([_runs(here.core(row)) for row in in_here.tolist()])
    votes: list[tuple[int, int, int]] = []
    for place, row in enumerate(in_there.tolist()):
        asked = np.unique(_runs(there.core(row)))
        rows, counts = known.having(asked)
        best = np.argsort(-counts, kind="stable")[:FEW]
        telling = len(asked) - int(np.isin(asked, known.common).sum())
        enough = np.minimum(known.owned[rows[best]], telling) * ALIKE
        votes += [
            (-int(counts[n]), place, int(rows[n]))
            for n, least in zip(best.tolist(), enough.tolist(), strict=True)
            if counts[n] >= max(1, least)
        ]
    return _taken(votes)


def _taken(votes: Sequence[tuple[int, int, int]]) -> "NDArray[np.int64]":
    """The pairs with most votes, each row once."""
    import numpy as np

    here: set[int] = set()
    there: set[int] = set()
    found = []
    for _, place, row in sorted(votes):
        if row not in here and place not in there:
            here.add(row)
            there.add(place)
            found.append((row, place))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _runs(ids: "NDArray[np.int32]") -> "NDArray[np.uint64]":
    """A number for each run of `RUN` tokens; a shorter row is one run."""
    import numpy as np

    values = ids.astype(np.uint64) + np.uint64(1)
    count = max(1, len(ids) - RUN + 1)
    found = np.zeros(count, dtype=np.uint64)
    for shift in range(min(RUN, len(ids))):
        found = found * np.uint64(0x100000001B3) + values[shift : shift + count]
    return found


@dataclass(frozen=True)
class _Runs:
    """Runs that few rows have (`rare`, in order, each with its row in `owners`), and those that many have.

    `owned` counts the rare runs of each row.
    """

    rare: "NDArray[np.uint64]"
    owners: "NDArray[np.int64]"
    common: "NDArray[np.uint64]"
    owned: "NDArray[np.int64]"

    @classmethod
    def of(cls, runs: "Sequence[NDArray[np.uint64]]") -> "_Runs":
        """Those of some rows."""
        import numpy as np

        single = [np.unique(one) for one in runs]
        values = np.concatenate([np.zeros(0, dtype=np.uint64), *single])
        owners = np.repeat(np.arange(len(runs)), [len(one) for one in single])
        order = np.argsort(values, kind="stable")
        values, owners = values[order], owners[order]
        different, which, counts = np.unique(values, return_inverse=True, return_counts=True)
        rare = counts[which] <= FEW
        owned = np.bincount(owners[rare], minlength=len(runs))
        return cls(values[rare], owners[rare], different[counts > FEW], owned)

    def having(self, runs: "NDArray[np.uint64]") -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        """The rows that have any of these runs and that few have, and how many of them."""
        import numpy as np

        low, high = np.searchsorted(self.rare, runs, "left"), np.searchsorted(self.rare, runs, "right")
        rows, counts = np.unique(self.owners[_ranges(low, high)], return_counts=True)
        return rows, counts


def _ranges(low: "NDArray[np.int64]", high: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """All places from each `low` up to its `high`."""
    import numpy as np

    sizes = high - low
    before = np.cumsum(sizes) - sizes
    found: NDArray[np.int64] = np.arange(int(sizes.sum())) + np.repeat(low - before, sizes)
    return found
