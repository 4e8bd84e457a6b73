"""Exact duplicates and other answers: over shards and partitions as over all rows at once."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ftcheck.dedup import copies
from ftcheck.dedup.records import Sorter, parted
from tests.dedup import plain

SHARDS_AND_PARTS = [(1, 1), (2, 3), (7, 1), (5, 16)]


def corpus(seed: int) -> plain.Corpus:
    """Rows of which many are copies, contradict each other, or stand under a generic prompt."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 400))
    few, many = (int(random.integers(1, top)) for top in (6, 120))

    def drawn(different: int) -> list[int]:
        words = random.integers(-(2**63), 2**63 - 1, size=different)
        words[0] = plain.NOTHING if random.random() < 0.5 else words[0]
        return words[random.integers(0, different, size=count)].tolist()  # type: ignore[no-any-return]

    return plain.Corpus(
        asked=drawn(many),
        said=drawn(few if random.random() < 0.5 else many),
        system=random.integers(-1, 2, size=count).tolist(),
        single=(random.random(count) < 0.8).tolist(),
    )


def shards(corpus: plain.Corpus, count: int) -> list[dict[str, Any]]:
    """The columns of some shards of a corpus, and the numbers of their rows."""
    columns: dict[str, Any] = {
        "asked": np.array(corpus.asked, dtype=np.int64),
        "said": np.array(corpus.said, dtype=np.int64),
        "system": np.array(corpus.system, dtype=np.int32),
        "single": np.array(corpus.single, dtype=bool),
        "rows": np.arange(len(corpus.said), dtype=np.int64),
    }
    ends = [len(corpus.said) * n // count for n in range(count + 1)]
    return [{name: column[start:stop] for name, column in columns.items()} for start, stop in pairwise(ends)]


def partitions(records: list[Any], parts: int) -> list[Sorter]:
    """What the shards gave, part by part; little memory, so that all of it goes over the disk."""
    made = [Sorter(2_000) for _ in range(parts)]
    for one in records:
        for sorter, part in zip(made, parted(one, parts), strict=True):
            sorter.add(part)
    return made


@pytest.mark.parametrize(("count", "parts"), SHARDS_AND_PARTS)
@pytest.mark.parametrize("seed", range(12))
def test_copies_are_those_of_all_rows_at_once(seed: int, count: int, parts: int) -> None:
    made = corpus(seed)
    records = [copies.copy_records(one["said"], one["system"], one["rows"]) for one in shards(made, count)]

    found: dict[int, int] = {}
    for sorter in partitions(records, parts):
        with sorter:
            for piece in copies.copies(sorter.pieces()):
                found |= dict(piece.tolist())

    assert found == plain.copies(made.said, made.system)


@pytest.mark.parametrize(("count", "parts"), SHARDS_AND_PARTS)
@pytest.mark.parametrize("seed", range(12))
def test_answers_are_those_of_all_rows_at_once(seed: int, count: int, parts: int) -> None:
    made = corpus(seed)
    records = [copies.answer_records(**one) for one in shards(made, count)]

    found = []
    for sorter in partitions(records, parts):
        with sorter:
            found.append(copies.answers(sorter.pieces()))
    merged = copies.merged(found)

    expected = plain.answers(made)
    assert merged.questions == expected.questions
    assert merged.conflicting == len(expected.conflicting)
    assert merged.prompts == expected.prompts
    assert merged.under_prompts == len(expected.under_prompts)
    if expected.conflicting:
        row = min(expected.conflicting)
        assert merged.contradiction == (row, expected.conflicting[row])
    else:
        assert merged.contradiction is None
    assert merged.prompt == min(expected.under_prompts, default=None)
