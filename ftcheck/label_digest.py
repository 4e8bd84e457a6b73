"""The digest over ids and labels of what is fed: chunks of sequences, and a Merkle tree over the chunks.

`CHUNK` sequences that follow one another make a chunk, whatever process made them: chunk n are those from
n * CHUNK on. So parts of the rows can be digested anywhere and be put together in order
(`LabelDigest.add_part`), and the digest is the same for any number of processes and machines.

A chunk is 0x00 and the sha256 of its sequences' lengths, of their ids and of their labels (little-endian
int32). Two nodes make one: 0x01 and both; one that is left over goes up as it is (RFC 6962, section 2.1).
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IGNORED = -100
"""The label of a token that is not in the loss."""
CHUNK = 1_024
"""Sequences of one chunk."""
TREE, STREAM = "sha256-tree:", "sha256:"
"""How digests begin: of this form, and of the one before it, a single stream over all rows."""


class Digesting(Protocol):
    """A digest that sequences are added to, in data order."""

    def add(self, ids: Any, labels: Any) -> None:
        """Add one sequence; `ids` and `labels` are integer sequences of one length. Raises `ValueError`."""

    def add_flat(self, lengths: "NDArray[Any]", ids: "NDArray[Any]", labels: "NDArray[Any]") -> None:
        """Add sequences of these lengths, whose ids and labels lie one behind the other."""

    def text(self) -> str:
        """The digest of all sequences so far."""


def like(text: str | None) -> Digesting:
    """A digest of the form that this one has, to be compared with it."""
    return StreamDigest() if is_old(text) else LabelDigest()


def is_old(text: str | None) -> bool:
    """Whether a report's digest is of the form before this one."""
    return text is not None and text.startswith(STREAM)


class _Flat:
    """What both forms have in common: other ways to say which sequences are added."""

    def add(self, ids: Any, labels: Any) -> None:
        """Add one sequence; `ids` and `labels` are integer sequences of one length. Raises `ValueError`."""
        import numpy as np

        if len(ids) != len(labels):
            raise ValueError(f"a row with {len(ids)} ids and {len(labels)} labels")
        self.add_flat(np.array([len(ids)]), np.asarray(ids), np.asarray(labels))

    def add_many(
        self,
        ids: "NDArray[np.int32]",
        mask: "NDArray[np.bool_]",
        starts: "NDArray[np.int64]",
        stops: "NDArray[np.int64]",
    ) -> None:
        """Add the sequences that lie in `ids` from `starts` to `stops`; the loss sees what `mask` marks."""
        import numpy as np

        if not len(starts):
            return
        lengths = stops - starts
        taken: Any = slice(int(starts[0]), int(stops[-1]))
        if not np.array_equal(starts[1:], stops[:-1]):
            before = np.cumsum(lengths) - lengths
            taken = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(starts - before, lengths)
        found, marked = ids[taken], mask[taken]
        self.add_flat(lengths, found, found if marked.all() else np.where(marked, found, IGNORED))

    def add_flat(self, lengths: "NDArray[Any]", ids: "NDArray[Any]", labels: "NDArray[Any]") -> None:
        """Add sequences of these lengths, whose ids and labels lie one behind the other."""
        raise NotImplementedError


class LabelDigest(_Flat):
    """The digest of a stretch of sequences that begins with number `first` of all.

    Of a stretch that begins, or ends, in the middle of a chunk those sequences are kept as they are: their
    chunk is digested where the parts are put together.
    """

    def __init__(self, first: int = 0) -> None:
        """Start with no sequences."""
        self._first = self._next = first
        self._before: list[_Piece] = []
        self._chunks: list[bytes] = []
        self._open: list[_Piece] = []

    def add_flat(self, lengths: "NDArray[Any]", ids: "NDArray[Any]", labels: "NDArray[Any]") -> None:
        """Add sequences of these lengths, whose ids and labels lie one behind the other."""
        import numpy as np

        edges = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        at = 0
        while at < len(lengths):
            to = min(len(lengths), at + CHUNK - self._next % CHUNK)
            tokens = slice(int(edges[at]), int(edges[to]))
            self._take((_numbers(lengths[at:to]), _numbers(ids[tokens]), _numbers(labels[tokens])))
            at = to

    def _take(self, piece: "_Piece") -> None:
        """Add sequences that are all of one chunk; of a chunk that stays open they are copied."""
        self._next += len(piece[0])
        if self._next % CHUNK:
            self._open.append((piece[0].copy(), piece[1].copy(), piece[2].copy()))
            return
        self._open.append(piece)
        if self._next - CHUNK < self._first:
            self._before = self._open
        else:
            self._chunks.append(_chunk(self._open))
        self._open = []

    def add_part(self, part: "LabelDigest") -> None:
        """Add the stretch of sequences that begins where this one ends. Raises `ValueError` for another."""
        if part._first != self._next:
            raise ValueError(f"sequences from {part._first} on cannot follow those before {self._next}")
        for piece in part._before:
            self._take(piece)
        self._chunks += part._chunks
        self._next += CHUNK * len(part._chunks)
        for piece in part._open:
            self._take(piece)

    def text(self) -> str:
        """The digest of all sequences so far. Raises `ValueError` for a stretch that is not the first."""
        if self._first:
            raise ValueError(f"the sequences before {self._first} are missing")
        return TREE + _root([*self._chunks, *([_chunk(self._open)] if self._open else [])]).hex()


_Piece = tuple[Any, Any, Any]
"""Lengths, ids and labels of some sequences."""


def _numbers(values: "NDArray[Any]") -> "NDArray[np.int32]":
    import numpy as np

    return np.ascontiguousarray(values, dtype="<i4")


def _chunk(pieces: Sequence[_Piece]) -> bytes:
    """A leaf of the tree."""
    parts = [b"\0"]
    for values in zip(*pieces, strict=True):
        hasher = hashlib.sha256()
        for one in values:
            hasher.update(one.data)
        parts.append(hasher.digest())
    return hashlib.sha256(b"".join(parts)).digest()


def _root(nodes: list[bytes]) -> bytes:
    """The root over these leaves; of none, sha256 of nothing."""
    if not nodes:
        return hashlib.sha256().digest()
    while len(nodes) > 1:
        left = nodes[-1:] if len(nodes) % 2 else []
        pairs = zip(nodes[::2], nodes[1::2], strict=False)
        nodes = [*(hashlib.sha256(b"\1" + one + other).digest() for one, other in pairs), *left]
    return nodes[0]


class StreamDigest(_Flat):
    """The form before: sha256 over the sha256 of all sequences' lengths, of their ids, of their labels."""

    def __init__(self) -> None:
        """Start with no sequences."""
        self._lengths, self._ids, self._labels = (hashlib.sha256() for _ in range(3))

    def add_flat(self, lengths: "NDArray[Any]", ids: "NDArray[Any]", labels: "NDArray[Any]") -> None:
        """Add sequences of these lengths, whose ids and labels lie one behind the other."""
        hashers = (self._lengths, self._ids, self._labels)
        for hasher, values in zip(hashers, (lengths, ids, labels), strict=True):
            hasher.update(_numbers(values).data)

    def text(self) -> str:
        """The digest of all sequences so far."""
        parts = b"".join(one.digest() for one in (self._lengths, self._ids, self._labels))
        return STREAM + hashlib.sha256(parts).hexdigest()
