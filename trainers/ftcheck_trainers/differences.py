"""The first row that is fed otherwise than it was checked, and where in it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

from ftcheck.label_digest import IGNORED
from ftcheck_trainers.fed_rows import Tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CANDIDATES = 1000
"""Fed sequences that no checked one equals, among which the one is sought that a checked row became."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One sequence as it was checked: its row (index from 0; None: of several), and where in it it begins."""

    row: int | None
    tokens: Tokens
    start: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """A checked sequence and what is fed in its place; None where there is nothing.

    `number` is the place of what is fed (from 0). `note` says what is known beside it.
    """

    number: int
    fed: Tokens | None
    checked: Checked | None
    note: str = ""

    @property
    def token(self) -> int:
        """The first token (from 0) that has another id, or another label, or that one side does not have."""
        assert self.checked is not None
        assert self.fed is not None
        mine, theirs = self.checked.tokens, self.fed
        return min(_parting(mine.ids, theirs.ids), _parting(_targets(mine), _targets(theirs)))


AllChecked = Callable[[], Iterator[Checked]]
AllFed = Callable[[], Iterator[Tokens]]


def same(mine: Tokens, theirs: Tokens) -> bool:
    """Whether both train the same: nothing predicts the first token, so its label does not matter."""
    import numpy as np

    return np.array_equal(mine.ids, theirs.ids) and np.array_equal(mine.labels[1:], theirs.labels[1:])


def in_order(checked: AllChecked, fed: AllFed) -> Difference | None:
    """The first place at which the two do not have the same sequence."""
    for number, (mine, theirs) in enumerate(zip_longest(checked(), fed())):
        if mine is None or theirs is None or not same(mine.tokens, theirs):
            return _explained(Difference(number, theirs, mine), checked, fed)
    return None


def _explained(found: Difference, checked: AllChecked, fed: AllFed) -> Difference:
    """Whether a row is missing, one too many, or in another place."""
    mine, theirs = [_key(one.tokens) for one in checked()], [_key(one) for one in fed()]
    notes = []
    if len(mine) != len(theirs):
        notes.append(f"the trainer has {len(theirs)} rows, {len(mine)} were checked")
    elif Counter(mine) == Counter(theirs):
        notes.append(f"the same {len(mine)} rows in another order")
    if found.fed is not None and (key := _key(found.fed)) in mine:
        there = next(islice(checked(), mine.index(key), None))
        notes.append(f"row {(there.row or 0) + 1} of the checked rows is in its place")
    return replace(found, note="; ".join(notes))


def in_any_order(checked: AllChecked, fed: AllFed) -> Difference | None:
    """The first checked sequence that is not fed, for packed rows: packing puts them in another order."""
    left = Counter(_key(one.tokens) for one in checked())
    extra: list[tuple[int, Tokens]] = []
    for number, theirs in enumerate(fed()):
        key = _key(theirs)
        if left[key]:
            left[key] -= 1
        elif len(extra) < CANDIDATES:
            extra.append((number, theirs))
    for mine in checked():
        if left[_key(mine.tokens)]:
            return Difference(*_likest(mine, extra), mine)
    return Difference(*extra[0], None) if extra else None


def _likest(mine: Checked, extra: list[tuple[int, Tokens]]) -> tuple[int, Tokens | None]:
    if not extra:
        return 0, None
    return max(extra, key=lambda one: _parting(mine.tokens.ids, one[1].ids))


def _key(tokens: Tokens) -> bytes:
    found = blake2b(tokens.ids.tobytes(), digest_size=16)
    found.update(_targets(tokens).tobytes())
    return found.digest()


def _targets(tokens: Tokens) -> "NDArray[np.int64]":
    labels = tokens.labels.copy()
    labels[:1] = IGNORED
    return labels


def _parting(mine: "NDArray[np.int64]", theirs: "NDArray[np.int64]") -> int:
    """Where two rows of numbers part: how many they have in common at the beginning."""
    shorter = min(len(mine), len(theirs))
    apart = (mine[:shorter] != theirs[:shorter]).nonzero()[0]
    return int(apart[0]) if len(apart) else shorter
