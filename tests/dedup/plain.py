"""What the rules on duplicates must find, in plain Python: dictionaries and sets over all rows at once.

Nothing here knows of shards, partitions, sorting or arrays. It is slow, and what is fast is held against it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

NOTHING = 0
GENERIC = 3
"""A prompt with more different answers than this is a generic one."""


@dataclass(frozen=True)
class Corpus:
    """Columns of rows: fingerprints of what is asked and said, the system prompt, and whether the row is one
    question with one answer."""

    asked: list[int] = field(default_factory=list)
    said: list[int] = field(default_factory=list)
    system: list[int] = field(default_factory=list)
    single: list[bool] = field(default_factory=list)


def copies(said: Sequence[int], system: Sequence[int]) -> dict[int, int]:
    """Each row that says what an earlier one says under the same system prompt, with the first of these."""
    first: dict[tuple[int, int], int] = {}
    found = {}
    for row, key in enumerate(zip(said, system, strict=True)):
        if key[0] == NOTHING:
            continue
        if key in first:
            found[row] = first[key]
        else:
            first[key] = row
    return found


@dataclass(frozen=True)
class Answers:
    """Questions with other answers than their first row's, and generic prompts, with the rows of each."""

    questions: int
    conflicting: dict[int, int]
    """Rows that contradict the first row of their question, each with that row."""
    prompts: int
    under_prompts: list[int]


def answers(corpus: Corpus) -> Answers:
    """Rows with one question and one answer are compared with the first row of their question.

    That first row may be any; where it is a longer conversation, nothing contradicts it.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, asked in enumerate(corpus.asked):
        if asked != NOTHING:
            groups[asked, corpus.system[row]].append(row)
    conflicting: dict[int, int] = {}
    under: list[int] = []
    prompts = 0
    for rows in groups.values():
        singles = [row for row in rows if corpus.single[row]]
        if len({corpus.said[row] for row in singles}) > GENERIC:
            prompts += 1
            under += singles
        elif corpus.single[rows[0]]:
            others = [row for row in singles if corpus.said[row] != corpus.said[rows[0]]]
            conflicting |= dict.fromkeys(others, rows[0])
    questions = len(set(conflicting.values()))
    return Answers(questions, conflicting, prompts, sorted(under))


def likely_pairs(rows: Sequence[int], bands: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Pairs (the later row first) that meet in two bands or more, sorted.

    In each band a row meets the first and the nearest earlier row with the same band hash.
    """
    meetings: dict[tuple[int, int], int] = defaultdict(int)
    for band in range(len(bands[0]) if len(bands) else 0):
        buckets: dict[int, list[int]] = defaultdict(list)
        for row, hashes in zip(rows, bands, strict=True):
            buckets[hashes[band]].append(row)
        for bucket in buckets.values():
            for place in range(1, len(bucket)):
                for earlier in {bucket[0], bucket[place - 1]}:
                    meetings[bucket[place], earlier] += 1
    return sorted(pair for pair, count in meetings.items() if count > 1)


def ngrams(ids: Sequence[int], size: int) -> set[tuple[int, ...]]:
    """The n-grams of a text, as a set."""
    return {tuple(ids[at : at + size]) for at in range(len(ids) - size + 1)}


def jaccard(one: set[tuple[int, ...]], other: set[tuple[int, ...]]) -> float:
    """What two sets share by all that is in them; 0 for two empty ones."""
    every = len(one | other)
    return len(one & other) / every if every else 0.0


def groups(pairs: Iterable[tuple[int, int]]) -> list[set[int]]:
    """The sets of rows that hang together by pairs."""
    of: dict[int, set[int]] = {}
    for one, other in pairs:
        merged = of.get(one, {one}) | of.get(other, {other})
        for row in merged:
            of[row] = merged
    return list({id(group): group for group in of.values()}.values())
