"""One row as the model sees it: its tokens in pieces of text, which are trained, cut, special."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.row_texts import ReadRow
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.inputs.tool_rendering import Part, ToolRendering, look
from ftcheck.packing.plans import assign, optimal
from ftcheck.packing.truncation import cutter
from ftcheck.records import Location
from ftcheck.settings import Job

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 8
"""Tokens before a piece that its text may depend on (spaces, characters of several tokens)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some tokens that make up whole characters. `fed` is false for what is cut off or left out.

    `part` is what they belong to of the row's tools, `invented` what the template made of these and the row
    does not say: JSON encoded twice, the word None, a call for the second time.
    """

    text: str
    ids: tuple[int, ...]
    trained: bool
    special: bool
    fed: bool
    part: Part | None = None
    invented: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """What the template left out of a row's tools: it would stand before the piece of this index."""

    before: int
    part: Part
    name: str
    words: str


@dataclass(frozen=True, slots=True)
class RowView:
    """One row: `index` from 0, its pieces, and what becomes of it.

    `tokens` counts them before truncation, `fed` and `trained` those that reach the model and the
    loss. `neighbours` are the rows (from 1) in its block, None where the trainer's plan is not ours. `tools`
    counts the row's calls, results and definitions that stand in the text, `dropped` are those that do not.
    """

    index: int
    at: Location
    pieces: tuple[Piece, ...]
    tokens: int
    fed: int
    trained: int
    ending: str
    trouble: str | None = None
    neighbours: tuple[int, ...] | None = None
    tools: Mapping[Part, int] = field(default_factory=dict)
    dropped: tuple[Dropped, ...] = ()


def view(
    prepared: Prepared, tokenizer: Tokenizer, job: Job, index: int, read: ReadRow | None = None
) -> RowView:
    """The row `index` (from 0) of the prepared rows; `read` is the row itself, for its tools."""
    pieces = pieces_of(prepared, tokenizer, job, index)
    trouble = prepared.row_errors.get(index)
    found = _tools(pieces, read) if read is not None else ToolRendering((), ())
    pieces = _with_tools(pieces, found)
    return RowView(
        index=index,
        at=prepared.at(index),
        pieces=pieces,
        tokens=sum(len(one.ids) for one in pieces),
        fed=sum(len(one.ids) for one in pieces if one.fed),
        trained=sum(len(one.ids) for one in pieces if one.trained),
        ending=_ending(pieces),
        trouble=trouble.message if trouble is not None else None,
        neighbours=_neighbours(prepared, job, index),
        tools=Counter(span.part for span in found.spans),
        dropped=tuple(_dropped(pieces, found)),
    )


def pieces_of(prepared: Prepared, tokenizer: Tokenizer, job: Job, index: int) -> tuple[Piece, ...]:
    """The pieces of the row `index` (from 0): which of them are fed and which are in the loss."""
    ids = prepared.tokens.ids(index).tolist()
    fed = _fed(prepared, job, index, len(ids))
    trained = prepared.tokens.mask(index) & fed
    return tuple(_pieces(ids, trained.tolist(), fed.tolist(), tokenizer))


INVENTED = ("doubled", "encoded-twice", "as-repr", "as-none", "braced", "escaped")
"""Differences whose text stands in the row as rendered, and is not what the row says."""


def _tools(pieces: Sequence[Piece], read: ReadRow) -> ToolRendering:
    """The row's calls, results and definitions in the text of these pieces."""
    return look(read.messages, read.tools, "".join(piece.text for piece in pieces))


def _with_tools(pieces: Sequence[Piece], found: ToolRendering) -> tuple[Piece, ...]:
    """The pieces with what they belong to."""
    if not found.spans and not found.differences:
        return tuple(pieces)
    made, start = [], 0
    odd = [(one.start, one.stop) for one in found.differences if one.kind in INVENTED]
    for piece in pieces:
        stop = start + len(piece.text)
        part = next((one.part for one in found.spans if one.start < stop and start < one.stop), None)
        invented = any(first < stop and start < last for first, last in odd)
        made.append(replace(piece, part=part, invented=invented))
        start = stop
    return tuple(made)


def _dropped(pieces: Sequence[Piece], found: ToolRendering) -> Iterator[Dropped]:
    ends = list(accumulate(len(piece.text) for piece in pieces))
    for one in found.differences:
        if one.kind == "dropped":
            name = f"{one.name}.{one.path}" if one.path else one.name
            yield Dropped(bisect_right(ends, one.start), one.part, name, one.words)


def _fed(prepared: Prepared, job: Job, index: int, count: int) -> "NDArray[np.bool_]":
    """Which of a row's tokens the trainer feeds."""
    import numpy as np

    fed, cut = np.zeros(count, dtype=bool), cutter(job.training)
    for _, start, stop in prepared.sequences[prepared.sequences[:, 0] == index].tolist():
        fed[cut(np.arange(start, stop))] = True
    return fed


def _pieces(
    ids: Sequence[int], trained: Sequence[bool], fed: Sequence[bool], tokenizer: Tokenizer
) -> Iterator[Piece]:
    """Tokens one by one; those that share a character are one piece."""
    start = 0
    for stop in range(1, len(ids) + 1):
        before = max(0, start - WINDOW)
        text = tokenizer.show(ids[before:stop])[len(tokenizer.show(ids[before:start])) :]
        broken = text.endswith("\ufffd") and stop < len(ids) and stop - start < WINDOW
        if broken and ids[stop] not in tokenizer.special_ids:
            continue
        part = tuple(ids[start:stop])
        special = len(part) == 1 and part[0] in tokenizer.special_ids
        shown = tokenizer.show(part) if special else text
        yield Piece(shown, part, trained[stop - 1], special, fed[stop - 1])
        start = stop


def _ending(pieces: Sequence[Piece]) -> str:
    """`ends with <|eot_id|>, in the loss`: the last fed piece that is not blank."""
    for piece in reversed(pieces):
        if piece.fed and piece.text.strip():
            said = piece.text if piece.special else "text"
            return f"ends with {said}, {'in the loss' if piece.trained else 'not in the loss'}"
    return "no token of it is trained on"


def _neighbours(prepared: Prepared, job: Job, index: int) -> tuple[int, ...] | None:
    """The other rows of its block, as the trainer's plan puts them or as they are stored; else None."""
    if prepared.stored is not None:
        return _packed_with(prepared, index) if prepared.stored.blocks is not None else None
    training = job.training
    ours = training.packing and training.packing_planner == "optimal" and training.packing_strategy == "bfd"
    if not ours or training.max_length is None or training.extra.get("shuffle_dataset"):
        return None
    lengths = prepared.fed(training.max_length)
    mine = set((prepared.sequences[:, 0] == index).nonzero()[0].tolist())
    for block in assign(optimal(lengths, training.max_length), lengths, training.seed):
        if mine & set(block.tolist()):
            rows = prepared.sequences[block, 0]
            return tuple(sorted({int(row) + 1 for row in rows.tolist()} - {index + 1}))
    return ()


def _packed_with(prepared: Prepared, index: int) -> tuple[int, ...]:
    """The other sequences of the stored row that one stands in."""
    rows = prepared.rows
    same = (rows.file == rows.file[index]) & (rows.line == rows.line[index])
    return tuple(row + 1 for row in same.nonzero()[0].tolist() if row != index)
