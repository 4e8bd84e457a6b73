"""In which token a character of a rendered conversation stands, told without asking for offsets.

Added tokens (`<|im_start|>`) are taken out of a text before anything else is done with it, so the n-th of
them in the text is the n-th among the ids, and the words between two of them are the ids between. What is
looked for, the first and the last character of a generation block, mostly stands at such a place. Where it
does not, and in any doubt, the answer is `Unclear`: then the tokenizer is asked for its offsets.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ftcheck_plugins.preparation.token_engines import Ids

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PLAIN_NORMALIZERS = frozenset({"NFC", "NFKC", "NFD", "NFKD"})
"""They leave ASCII as it is."""
WHOLE_WORDS = frozenset({"ByteLevel", "Digits", "Split", "Sequence"})
"""Pre-tokenizers that leave every character in some word; a `Split` may also remove what it finds."""
MAX_WALK = 64
"""Characters between an added token and the place that is looked for."""


class Unclear(Exception):
    """Where a character stands cannot be told this way."""


class Places:
    """Generation masks of many rows, from their ids and from where the added tokens stand in the text."""

    def __init__(self, raw: Any, added: "dict[int, Any]") -> None:
        """`raw` is the Rust tokenizer, `added` its added tokens by id. Raises `Unclear` if they are odd."""
        import numpy as np

        normalizer = _type_of(raw.normalizer)
        for token in added.values():
            if token.lstrip or token.single_word or (token.normalized and normalizer is not None):
                raise Unclear(f"the added token {token.content!r} takes in what stands around it")
        if not added:
            raise Unclear("there are no added tokens")
        self._raw = raw
        self._texts: dict[int, str] = {number: token.content for number, token in added.items()}
        self._strips = frozenset(token.content for token in added.values() if token.rstrip)
        self._walks = _type_of(raw.decoder) == "ByteLevel" and (
            normalizer is None or normalizer in PLAIN_NORMALIZERS
        )
        self._spaces = self._walks and _keeps_spaces(raw)
        self._added = np.zeros(max(added) + 1, dtype=bool)
        self._added[list(added)] = True
        self._bytes: dict[int, int] = {}

    def masks(
        self, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]], ids: Ids
    ) -> "tuple[NDArray[np.bool_], list[int]]":
        """The masks of all rows behind one another (bool, an entry an id), and the rows left unclear."""
        import numpy as np

        mask, unclear = np.zeros(len(ids.flat), dtype=bool), []
        known = np.minimum(ids.flat, len(self._added) - 1)
        places = np.flatnonzero(self._added[known] & (known == ids.flat))
        first = np.searchsorted(places, ids.starts)
        starts, places_of, edges = ids.starts.tolist(), places.tolist(), first.tolist()
        words = [self._texts[one] for one in ids.flat[places].tolist()]
        for row, text in enumerate(texts):
            inside = slice(edges[row], edges[row + 1])
            try:
                found = _Row(text, words[inside], places_of[inside], ids.flat, starts[row], starts[row + 1])
                for begin, end in self._blocks(found, spans[row]):
                    mask[begin:end] = True
            except Unclear:
                unclear.append(row)
        return mask, unclear

    def _blocks(self, row: "_Row", spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """First and last place (the latter exclusive) of each block of a row, as transformers sees them."""
        found = []
        for start, stop in spans:
            if stop <= start:
                raise Unclear
            found.append((self._place(row, start), self._place(row, stop - 1) + 1))
        return found

    def _place(self, row: "_Row", at: int) -> int:
        """The place of the token that holds a character."""
        number = bisect_right(row.begins, at) - 1
        if number < 0:
            return self._walk(row, 0, at, row.first)
        begin = row.ends[number]
        if at >= begin and row.added[number] in self._strips:
            between = row.text[begin : at + 1]
            if not between.isascii() and between[:1].isspace():
                raise Unclear
            begin += len(between) - len(between.lstrip())
        if at < begin:
            return row.places[number]
        return self._walk(row, begin, at, row.places[number] + 1)

    def _walk(self, row: "_Row", begin: int, at: int, place: int) -> int:
        """The place of the token that holds the character `at`; the token at `place` begins at `begin`.

        A space may belong to no token at all: tokenizers that trim offsets leave it out.
        """
        if (row.text[at].isspace() and not self._spaces) or place >= row.last:
            raise Unclear
        if at == begin:
            return place
        before = row.text[begin:at]
        if not self._walks or len(before) > MAX_WALK or not before.isascii():
            raise Unclear
        left = len(before)
        while place < row.last:
            left -= self._length(int(row.ids[place]))
            if left < 0:
                return place
            place += 1
        raise Unclear

    def _length(self, token: int) -> int:
        """Bytes of a token of a byte-level vocabulary, where each character stands for one."""
        if token not in self._bytes:
            self._bytes[token] = len(self._raw.id_to_token(token) or "")
        return self._bytes[token]


class _Row:
    """One row: where added tokens begin and end in its text, and their places among all ids.

    Added tokens are found in a text from left to right: the next one is the first place at which its words
    stand.
    """

    __slots__ = ("added", "begins", "ends", "first", "ids", "last", "places", "text")

    def __init__(
        self, text: str, added: list[str], places: list[int], ids: "NDArray[np.int32]", first: int, last: int
    ) -> None:
        self.text, self.places, self.ids, self.first, self.last = text, places, ids, first, last
        self.added = added
        begins: list[int] = []
        ends: list[int] = []
        end = 0
        for words in added:
            begin = text.find(words, end)
            if begin < 0:
                raise Unclear
            end = begin + len(words)
            begins.append(begin)
            ends.append(end)
        self.begins, self.ends = begins, ends


def _keeps_spaces(raw: Any) -> bool:
    """Whether white space stands in tokens with its own offsets, like any other character."""
    words, around = _parts(raw.pre_tokenizer, "pretokenizers"), _parts(raw.post_processor, "processors")
    kept = all(one["type"] in WHOLE_WORDS and one.get("behavior") != "Removed" for one in words)
    trimmed = any(one.get("trim_offsets") or one["type"] == "RobertaProcessing" for one in around)
    return bool(words) and kept and not trimmed


def _parts(part: Any, several: str) -> list[dict[str, Any]]:
    """A part of a tokenizer as it describes itself, and the parts that it is made of."""
    if part is None:
        return []
    whole: dict[str, Any] = json.loads(part.__getstate__())
    return [whole, *whole.get(several, ())]


def _type_of(part: Any) -> str | None:
    """The type of a part of a tokenizer; None for one that is not there."""
    return None if part is None else str(json.loads(part.__getstate__())["type"])
