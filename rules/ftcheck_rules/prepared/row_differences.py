"""How one row differs between two preparations: by kinds that have names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import TYPE_CHECKING

from ftcheck import Tokenizer
from ftcheck_rules.prepared.row_pairs import Ends

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEADER = 16
"""Tokens before an answer that may be its header."""
SHOWN = 8
"""Tokens before and after a difference that are shown with it."""


class Kind(StrEnum):
    """What may be other in the folder than in ftcheck's own preparation."""

    BOS_MISSING = "bos-missing"
    BOS_ADDED = "bos-added"
    STOP_MISSING = "stop-missing"
    STOP_ADDED = "stop-added"
    BLANK_END = "blank-end"
    CUT = "cut"
    LEFT_OUT = "left-out"
    SAME_TEXT = "same-text"
    TEMPLATE = "template"
    TEXT = "text"
    ALL_TRAINED = "all-trained"
    NONE_TRAINED = "none-trained"
    HEADER_TRAINED = "header-trained"
    STARTS_EARLY = "starts-early"
    NEWLINE_TRAINED = "newline-trained"
    NEWLINE_MASKED = "newline-masked"
    STOP_TRAINED = "stop-trained"
    STOP_MASKED = "stop-masked"
    ANSWER_MASKED = "answer-masked"
    PROMPT_TRAINED = "prompt-trained"
    PART_MASKED = "part-masked"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A row: its ids, and which of them are in the loss."""

    ids: "NDArray[np.int32]"
    mask: "NDArray[np.bool_]"

    def part(self, begin: int, end: int) -> "Tokens":
        """Some tokens of it."""
        return Tokens(self.ids[begin:end], self.mask[begin:end])


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: `place` is the token of the stored row where it begins; `here` and `there` are the ids
    around it on both sides. `change` are the first ids that are others, for what all rows have in common.
    """

    kind: Kind
    place: int
    here: tuple[int, ...]
    there: tuple[int, ...]
    change: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


class Comparison:
    """Compares rows, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """`tokenizer` tells which tokens only begin or end a row, and shows them."""
        self._tokenizer = tokenizer
        self._ends = Ends(tokenizer)

    def of(self, here: Tokens, there: Tokens, *, labels: bool = True) -> list[Difference]:
        """All differences of a stored row, each kind once, at its first place; of the loss with `labels`."""
        (begin, end), (from_, to) = self._ends.of(here.ids), self._ends.of(there.ids)
        found = [*self._beginning(here, there, begin, from_)]
        core = [*self._core(here.part(begin, end), there.part(from_, to), from_)]
        if not any(one.kind is Kind.CUT for one in core):
            found += self._ending(here, there, end, to)
        if not core and labels:
            found += self._masks(here.part(begin, len(here.ids)), there.part(from_, len(there.ids)), from_)
        found += core
        return list({one.kind: one for one in reversed(found)}.values())[::-1]

    def _beginning(self, here: Tokens, there: Tokens, begin: int, from_: int) -> Iterator[Difference]:
        if begin != from_:
            kind = Kind.BOS_MISSING if from_ < begin else Kind.BOS_ADDED
            yield _difference(kind, here.ids, there.ids, 0, 0)

    def _ending(self, here: Tokens, there: Tokens, end: int, to: int) -> Iterator[Difference]:
        ours, theirs = self._stops(here.ids[end:]), self._stops(there.ids[to:])
        if ours != theirs:
            kind = Kind.STOP_MISSING if theirs < ours else Kind.STOP_ADDED
            yield _difference(kind, here.ids, there.ids, len(here.ids) - 1, len(there.ids) - 1)
        elif len(here.ids) - end != len(there.ids) - to:
            yield _difference(Kind.BLANK_END, here.ids, there.ids, end, to)

    def _stops(self, ids: "NDArray[np.int32]") -> int:
        return sum(one in self._tokenizer.stop_ids for one in ids.tolist())

    def _core(self, here: Tokens, there: Tokens, offset: int) -> Iterator[Difference]:
        """What is other between beginning and end."""
        import numpy as np

        if np.array_equal(here.ids, there.ids):
            return
        start = _shared(here.ids, there.ids)
        left = len(there.ids) - start
        shorter = len(there.ids) < len(here.ids)
        ends_alike = shorter and np.array_equal(here.ids[len(here.ids) - left :], there.ids[start:])
        if ends_alike and (not left or not start):
            yield _difference(Kind.CUT, here.ids, there.ids, start, start, offset)
            return
        one, other = _changes(here.ids, there.ids)[0]
        change = (tuple(here.ids[one].tolist()), tuple(there.ids[other].tolist()))
        same = self._tokenizer.show(here.ids.tolist()) == self._tokenizer.show(there.ids.tolist())
        kind = Kind.SAME_TEXT if same else Kind.LEFT_OUT if ends_alike else Kind.TEXT
        yield _difference(kind, here.ids, there.ids, one.start, other.start, offset, change)

    def _masks(self, here: Tokens, there: Tokens, offset: int) -> Iterator[Difference]:
        """Where the loss differs, on tokens that both have."""
        size = min(len(here.ids), len(there.ids))
        ours, theirs, ids = here.mask[:size], there.mask[:size], there.ids
        if (ours == theirs).all():
            return
        if theirs.all() and not ours.all():
            yield _difference(Kind.ALL_TRAINED, ids, ids, 0, 0, offset)
        elif not theirs.any():
            yield _difference(Kind.NONE_TRAINED, ids, ids, int(ours.argmax()), int(ours.argmax()), offset)
        else:
            for kind, place in self._runs(ids, ours, theirs):
                yield _difference(kind, ids, ids, place, place, offset)

    def _runs(
        self, ids: "NDArray[np.int32]", ours: "NDArray[np.bool_]", theirs: "NDArray[np.bool_]"
    ) -> Iterator[tuple[Kind, int]]:
        for begin, end in _stretches(theirs & ~ours):
            yield self._trained(ids[begin:end].tolist(), _at(ours, end), _at(ours, begin - 1)), begin
        for begin, end in _stretches(ours & ~theirs):
            yield self._masked(ids[begin:end].tolist(), ours, begin, end), begin

    def _trained(self, ids: Sequence[int], answer_follows: bool, answer_before: bool) -> Kind:
        """Tokens that only the folder trains."""
        if answer_follows and len(ids) <= HEADER:
            return Kind.HEADER_TRAINED if self._tokenizer.special_ids & set(ids) else Kind.STARTS_EARLY
        if answer_before and all(map(self._ends.blank, ids)):
            return Kind.NEWLINE_TRAINED
        return Kind.STOP_TRAINED if all(map(self._ends.ends, ids)) else Kind.PROMPT_TRAINED

    def _masked(self, ids: Sequence[int], ours: "NDArray[np.bool_]", begin: int, end: int) -> Kind:
        """Tokens that only ftcheck's preparation trains."""
        if all(map(self._ends.blank, ids)):
            return Kind.NEWLINE_MASKED
        if all(map(self._ends.ends, ids)):
            return Kind.STOP_MASKED
        whole = not _at(ours, begin - 1) and not _at(ours, end)
        return Kind.ANSWER_MASKED if whole else Kind.PART_MASKED


def _difference(
    kind: Kind,
    here: "NDArray[np.int32]",
    there: "NDArray[np.int32]",
    ours: int,
    theirs: int,
    offset: int = 0,
    change: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()),
) -> Difference:
    return Difference(kind, max(0, theirs) + offset, _around(here, ours), _around(there, theirs), change)


def _around(ids: "NDArray[np.int32]", place: int) -> tuple[int, ...]:
    return tuple(ids[max(0, place - SHOWN) : place + SHOWN].tolist())


def _shared(here: "NDArray[np.int32]", there: "NDArray[np.int32]") -> int:
    """How many tokens two rows have in common at their beginning."""
    size = min(len(here), len(there))
    same = here[:size] == there[:size]
    return size if same.all() else int((~same).argmax())


def _changes(here: "NDArray[np.int32]", there: "NDArray[np.int32]") -> list[tuple[slice, slice]]:
    """Where two rows have other tokens."""
    codes = SequenceMatcher(None, here.tolist(), there.tolist(), autojunk=False).get_opcodes()
    return [(slice(a, b), slice(c, d)) for tag, a, b, c, d in codes if tag != "equal"]


def _stretches(mask: "NDArray[np.bool_]") -> Iterator[tuple[int, int]]:
    """From where to where a mask is set without a break."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _at(mask: "NDArray[np.bool_]", place: int) -> bool:
    return 0 <= place < len(mask) and bool(mask[place])
