"""Exact duplicates, and questions with several answers: found in sorted records, a part of the rows each.

Shards make records of their columns; each part of them (`records.parted`) is sorted (`records.Sorter`) and
read once. Nothing is held but what a piece of sorted records takes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.dedup.fingerprints import NOTHING
from ftcheck.dedup.records import mixed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ftcheck.dedup.records import Records

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

GENERIC = 3
"""A prompt with more different answers than this is a generic one (`Write a poem`): not a question."""
NEVER = 2**63
"""Stands for no row."""


def _key(words: "Ints", system: "NDArray[Any]") -> "NDArray[np.uint64]":
    """Fingerprints under their system prompts, as one number each."""
    import numpy as np

    return mixed(words.astype(np.uint64) ^ mixed(system.astype(np.int64).astype(np.uint64)))


def copy_records(said: "Ints", system: "NDArray[Any]", rows: "Ints") -> "Records":
    """Records (what is said, the row) of the rows of a shard in which something is said.

    `said` are fingerprints, `system` names the system prompt by a number that all shards share (-1: none),
    `rows` counts the rows over all shards.
    """
    import numpy as np

    spoken = said != NOTHING
    key = _key(said[spoken], system[spoken])
    return np.stack([key, rows[spoken].astype(np.uint64)], axis=1)


def copies(pieces: Iterable["Records"]) -> Iterator["Ints"]:
    """Of sorted `copy_records`: each copy, and the first row that says the same (shape (n, 2))."""
    import numpy as np

    key, first = None, NEVER
    for piece in pieces:
        opens = np.concatenate([[key is None or int(piece[0, 0]) != key], piece[1:, 0] != piece[:-1, 0]])
        place = np.maximum.accumulate(np.where(opens, np.arange(len(piece)), -1))
        opening = np.where(place < 0, np.uint64(first), piece[place, 1])
        key, first = int(piece[-1, 0]), int(opening[-1])
        yield np.stack([piece[~opens, 1], opening[~opens]], axis=1).astype(np.int64)


def answer_records(
    asked: "Ints", said: "Ints", system: "NDArray[Any]", single: "Mask", rows: "Ints"
) -> "Records":
    """Records (what is asked, what is said, the row and whether it is single) of the rows of a shard.

    `single` are rows with one question and at most one answer; the rest as for `copy_records`.
    """
    import numpy as np

    wanted = asked != NOTHING
    tag = rows[wanted].astype(np.uint64) << np.uint64(1) | ~single[wanted]
    return np.stack([_key(asked[wanted], system[wanted]), said[wanted].astype(np.uint64), tag], axis=1)


@dataclass(frozen=True, slots=True)
class Answers:
    """Questions with several answers, and generic prompts; numbers of rows count over all shards.

    `conflicting` rows contradict the first row of their question; `contradiction` is the first of them, with
    that row. `under_prompts` rows stand under a generic prompt; `prompt` is the first of them.
    """

    questions: int = 0
    conflicting: int = 0
    contradiction: tuple[int, int] | None = None
    prompts: int = 0
    under_prompts: int = 0
    prompt: int | None = None


def merged(found: Iterable[Answers]) -> Answers:
    """The answers of all parts as one."""
    every = list(found)
    contradictions = [one.contradiction for one in every if one.contradiction is not None]
    return Answers(
        questions=sum(one.questions for one in every),
        conflicting=sum(one.conflicting for one in every),
        contradiction=min(contradictions, default=None),
        prompts=sum(one.prompts for one in every),
        under_prompts=sum(one.under_prompts for one in every),
        prompt=min((one.prompt for one in every if one.prompt is not None), default=None),
    )


def answers(pieces: Iterable["Records"]) -> Answers:
    """What sorted `answer_records` tell of their questions."""
    return merged(_told(groups) for groups in _groups(_runs(pieces)))


def _runs(pieces: Iterable["Records"]) -> Iterator["Records"]:
    """Rows with one question and one answer as a run each, in columns: question, answer, first row (with its
    flag), first single row, single rows. A run that may go on in the next piece is held back.
    """
    import numpy as np

    held = np.zeros((5, 0), dtype=np.uint64)
    for piece in pieces:
        alone = (piece[:, 2] & np.uint64(1)) == 0
        row = np.where(alone, piece[:, 2] >> np.uint64(1), np.uint64(NEVER))
        runs = np.concatenate([held, np.stack([*piece.T, row, alone.astype(np.uint64)])], axis=1)
        starts = _starts(runs[:2])
        lowest = np.minimum.reduceat(runs[2:4], starts, axis=1)
        runs = np.concatenate([runs[:2, starts], lowest, np.add.reduceat(runs[4:], starts, axis=1)])
        held = runs[:, -1:]
        yield runs[:, :-1]
    yield held


def _groups(runs: Iterable["Records"]) -> Iterator["Records"]:
    """Runs with one question as a group each, in columns: question, different answers, single rows, first
    row (with its flag), first single row; single rows that say what the first row says, and the first single
    row that does not. A group that may go on is held back.
    """
    import numpy as np

    held = np.zeros((7, 0), dtype=np.uint64)
    for asked, _, first, row, count in runs:
        never = np.full(len(asked), NEVER, dtype=np.uint64)
        groups = np.stack([asked, (count > 0).astype(np.uint64), count, first, row, count, never])
        groups = np.concatenate([held, groups], axis=1)
        if not groups.shape[1]:
            continue
        starts = _starts(groups[:1])
        lowest = np.minimum.reduceat(groups[3:5], starts, axis=1)
        leads = groups[3] == np.repeat(lowest[0], np.diff(starts, append=groups.shape[1]))
        like = np.add.reduceat(np.where(leads, groups[5], np.uint64(0)), starts)
        other = np.minimum.reduceat(np.where(leads, groups[6], groups[4]), starts)
        total = np.add.reduceat(groups[1:3], starts, axis=1)
        groups = np.stack([groups[0, starts], *total, *lowest, like, other])
        held = groups[:, -1:]
        yield groups[:, :-1]
    yield held


def _starts(columns: "Records") -> "Ints":
    """Where columns have other values than one place before."""
    import numpy as np

    starts: Ints = np.concatenate([[True], (columns[:, 1:] != columns[:, :-1]).any(axis=0)]).nonzero()[0]
    return starts


def _told(groups: "Records") -> Answers:
    """What some groups tell."""
    _, answers, singles, first, row, like, other = groups
    generic = answers > GENERIC
    contradicted = ~generic & (first & 1 == 0) & (singles > like)
    contradictions = zip(other[contradicted].tolist(), (first[contradicted] >> 1).tolist(), strict=True)
    return Answers(
        questions=int(contradicted.sum()),
        conflicting=int((singles - like)[contradicted].sum()),
        contradiction=min(contradictions, default=None),
        prompts=int(generic.sum()),
        under_prompts=int(singles[generic].sum()),
        prompt=min(row[generic].tolist(), default=None),
    )
