"""Near-duplicates over shards and parts: the pairs, their likeness and the groups of all rows at once."""

from typing import Any

import numpy as np
import pytest

from ftcheck.dedup import minhash
from ftcheck.dedup.alike import Comparison, alike
from ftcheck.dedup.groups import groups
from ftcheck.dedup.minhash import LikelyPairs, Signed
from ftcheck.dedup.overlaps import overlaps
from ftcheck.dedup.shards import OneMachine, Shards, pieces
from tests.dedup import plain
from tests.dedup.in_shards import InShards, Texts

SIZE, LEAST, ANSWER = 5, 8, 20
SHARDS_AND_PARTS = [(1, 1), (3, 4), (9, 2)]
NONE = np.zeros(0, dtype=np.uint64)


def corpus(seed: int) -> list[list[int]]:
    """Rows that all begin alike; many are an earlier one with a few other tokens."""
    random = np.random.default_rng(seed)
    texts: list[list[int]] = []
    for _ in range(int(random.integers(40, 160))):
        made = [*range(12), *random.integers(100, 9_000, size=int(random.integers(0, 90))).tolist()]
        if texts and random.random() < 0.4:
            made = list(texts[int(random.integers(len(texts)))])
            for _ in range(int(random.integers(0, 4))):
                made[int(random.integers(12, len(made)) if len(made) > 12 else 0)] = int(
                    random.integers(9_000)
                )
        texts.append(made)
    return texts


def wanted(texts: list[list[int]], seed: int) -> Any:
    """Most of the rows."""
    return np.random.default_rng(seed).random(len(texts)) < 0.9


def likely(shards: Shards, marks: Any, most: int = 10_000) -> tuple[LikelyPairs, Any]:
    common = minhash.boilerplate(shards, marks, SIZE)
    return minhash.likely_pairs(shards, marks, Signed(SIZE, LEAST, common), 4_000, most), common


@pytest.mark.parametrize(("shards", "parts"), SHARDS_AND_PARTS)
@pytest.mark.parametrize("seed", range(6))
def test_pairs_are_those_of_buckets_over_all_rows(seed: int, shards: int, parts: int) -> None:
    texts = corpus(seed)
    marks = wanted(texts, seed)

    found, common = likely(InShards(texts, ANSWER, shards, parts), marks)

    [piece] = pieces(Texts(texts, ANSWER), marks)
    records = minhash.band_records(Signed(SIZE, LEAST, common), piece)
    by_row: dict[int, dict[int, int]] = {}
    for key, tag in records.tolist():
        by_row.setdefault(tag & (1 << 60) - 1, {})[tag >> 60] = key
    assert all(list(bands) == list(range(minhash.BANDS)) for bands in by_row.values())
    expected = plain.likely_pairs(list(by_row), [list(bands.values()) for bands in by_row.values()])
    assert list(map(tuple, found.pairs.tolist())) == expected
    assert found.left_out == 0
    assert len(expected) > 3


@pytest.mark.parametrize(("shards", "parts"), SHARDS_AND_PARTS)
def test_of_more_pairs_than_are_compared_the_first_are_kept(shards: int, parts: int) -> None:
    texts = corpus(1)
    marks = np.ones(len(texts), dtype=bool)
    every, _ = likely(OneMachine(Texts(texts, ANSWER), 10**9), marks)

    some, _ = likely(InShards(texts, ANSWER, shards, parts), marks, most=5)

    assert some.pairs.tolist() == every.pairs[:5].tolist()
    assert some.left_out == len(every.pairs) - 5 > 0


def test_boilerplate_is_what_more_than_a_tenth_of_the_rows_share() -> None:
    texts = corpus(2)
    marks = wanted(texts, 2)
    sets = [plain.ngrams(text, SIZE) for text, mark in zip(texts, marks, strict=True) if mark]
    shared = {gram for gram in set().union(*sets) if sum(gram in one for one in sets) > len(sets) / 10}

    found = minhash.boilerplate(InShards(texts, ANSWER, 4, 2), marks, SIZE)

    assert len(found) == len(shared) >= 8
    assert found.tolist() == minhash.boilerplate(OneMachine(Texts(texts, ANSWER), 1), marks, SIZE).tolist()


def test_of_very_many_rows_a_sample_tells_what_is_boilerplate() -> None:
    marks = np.arange(70_000) % 7 > 0
    rows = marks.nonzero()[0]

    sampled = minhash._sampled(marks).nonzero()[0]

    assert sampled.tolist() == rows[:: len(rows) // 1_000].tolist()


@pytest.mark.parametrize(("shards", "parts"), SHARDS_AND_PARTS)
@pytest.mark.parametrize("answer", [3, 20, 10_000])
@pytest.mark.parametrize("least", [0.5, 0.9, 1.0])
def test_pairs_are_alike_by_their_sets_of_ngrams(
    shards: int, parts: int, answer: int, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftcheck.dedup.alike.COMPARED_TOKENS", 1_000)
    texts = corpus(3)
    masked = answer < 10_000
    length = np.array([len(text) for text in texts], dtype=np.int32)
    random = np.random.default_rng(3)
    near, _ = likely(OneMachine(Texts(texts, answer), 10**9), np.ones(len(texts), dtype=bool))
    drawn = np.concatenate([near.pairs, np.sort(random.integers(0, len(texts), size=(60, 2)))[:, ::-1]])
    pairs = np.unique(drawn[drawn[:, 0] != drawn[:, 1]], axis=0)

    of = Comparison(SIZE, NONE, masked, least)
    found = list(alike(InShards(texts, answer, shards, parts), pairs, length, of))

    expected = [
        (one, other)
        for one, other in pairs.tolist()
        if plain.jaccard(plain.ngrams(texts[one], SIZE), plain.ngrams(texts[other], SIZE)) >= least
        and (not masked or same_answer(texts[one][-answer:], texts[other][-answer:], least))
    ]
    assert list(map(tuple, np.concatenate(found).tolist())) == expected
    assert 0 < len(expected) < len(pairs)
    assert len(found) > 3


def same_answer(one: list[int], other: list[int], least: float) -> bool:
    alike = plain.jaccard(plain.ngrams(one, SIZE), plain.ngrams(other, SIZE))
    return one == other or alike >= least


def test_no_pairs_are_not_alike() -> None:
    store = OneMachine(Texts([[1, 2]], 1), 1)
    none = np.zeros((0, 2), dtype=np.int64)
    of = Comparison(SIZE, NONE, True, 0.9)
    assert list(alike(store, none, np.array([2], dtype=np.int32), of)) == []


@pytest.mark.parametrize("seed", range(20))
def test_groups_hang_together_by_pairs(seed: int) -> None:
    random = np.random.default_rng(seed)
    pairs = random.integers(0, 60, size=(int(random.integers(0, 60)), 2))

    rows, first = groups(pairs)

    made: dict[int, set[int]] = {}
    for row, lowest in zip(rows.tolist(), first.tolist(), strict=True):
        made.setdefault(lowest, set()).add(row)
    assert sorted(map(sorted, made.values())) == sorted(map(sorted, plain.groups(pairs.tolist())))
    assert all(lowest == min(group) for lowest, group in made.items())


def test_a_long_chain_is_one_group() -> None:
    chain = np.stack([np.arange(1, 5_001), np.arange(5_000)], axis=1)
    rows, first = groups(np.random.default_rng(0).permutation(chain))
    assert len(rows) == 5_001
    assert set(first.tolist()) == {0}


@pytest.mark.parametrize(("shards", "parts"), SHARDS_AND_PARTS)
def test_texts_are_found_in_the_first_rows_that_have_their_ngrams(shards: int, parts: int) -> None:
    texts = corpus(4)
    marks = wanted(texts, 4)
    tests = [[*text[13:40], 1] for text in texts[::3]] + [[5_000 + n for n in range(30)]]

    found = overlaps(tests, InShards(texts, ANSWER, shards, parts), marks, SIZE, LEAST)

    assert found == overlaps(tests, OneMachine(Texts(texts, ANSWER), 1), marks, SIZE, LEAST)
    first: dict[tuple[int, ...], int] = {}
    for row in marks.nonzero()[0].tolist():
        for gram in plain.ngrams(texts[row], SIZE):
            first.setdefault(gram, row)
    for number, one in found.items():
        grams = [tuple(tests[number][at : at + SIZE]) for at in range(len(tests[number]) - SIZE + 1)]
        inside = [first[gram] for gram in grams if gram in first]
        assert one.share == len(inside) / len(grams)
        assert inside.count(one.row) == max(map(inside.count, inside))
    assert len(found) > 10


def test_a_bucket_that_lies_across_pieces_gives_the_same_pairs() -> None:
    random = np.random.default_rng(5)
    keys = np.sort(random.integers(0, 9, size=400)).astype(np.uint64)
    bands = np.sort(random.integers(0, 2, size=400)).astype(np.uint64) << np.uint64(60)
    records = np.stack([keys, bands | np.arange(400, dtype=np.uint64)], axis=1)
    records = records[np.lexsort((records[:, 1], keys))]

    def given(some: list[Any]) -> set[tuple[int, int]]:
        return set(map(tuple, np.concatenate(list(minhash.bucket_pairs(some))).tolist()))

    for cuts in ([], [1], [1, 2, 3, 200], list(range(1, 400))):
        assert given(np.split(records, cuts)) == given([records])


def test_a_piece_holds_the_rows_of_its_shard_by_their_numbers_over_all() -> None:
    texts = [[1, 2, 3], [], [4], [5, 6]]
    marks = np.array([1, 1, 0, 1], dtype=bool)
    [piece] = pieces(Texts(texts, 1), marks, masks=True, first=100)
    assert piece.rows.tolist() == [100, 101, 103]
    assert piece.starts.tolist() == [0, 3, 3, 5]
    assert piece.ids.tolist() == [1, 2, 3, 5, 6]
    assert piece.mask is not None
    assert piece.mask.tolist() == [False, False, True, False, True]
