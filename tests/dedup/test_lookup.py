"""Few fingerprints among many rows: what shards find, put together, is what all rows have."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ftcheck.dedup import lookup


def columns(seed: int) -> tuple[Any, Any, Any, list[tuple[int, int]]]:
    """Questions and answers of rows, questions that are wanted, and where shards begin and end."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 300))
    asked, said = random.integers(-20, 20, size=count), random.integers(0, 9, size=count)
    wanted = np.unique(random.integers(-25, 25, size=int(random.integers(0, 30))))
    ends = sorted({0, count, *random.integers(0, count, size=4).tolist()})
    return asked, said, wanted, list(pairwise(ends))


@pytest.mark.parametrize("most", [1, 3, 1_000])
@pytest.mark.parametrize("seed", range(10))
def test_the_first_rows_with_each_fingerprint_are_found(seed: int, most: int) -> None:
    asked, _, wanted, shards = columns(seed)

    found = lookup.together(lookup.find(asked[a:b], wanted, most, a) for a, b in shards)

    for place, words in enumerate(wanted.tolist()):
        assert found.of(place).tolist() == [row for row, one in enumerate(asked) if one == words][:most]
    assert len(found.rows) == sum(len(found.of(place)) for place in range(len(wanted)))


@pytest.mark.parametrize("most", [2, 4, 100])
@pytest.mark.parametrize("seed", range(10))
def test_different_answers_are_counted_up_to_a_limit(seed: int, most: int) -> None:
    asked, said, wanted, shards = columns(seed)

    parts = (lookup.different_answers(asked[a:b], said[a:b], wanted, most) for a, b in shards)
    found = lookup.every_answer(parts, most).tolist()

    for words in wanted.tolist():
        answers = sorted({int(answer) for one, answer in zip(asked, said, strict=True) if one == words})
        mine = [answer for one, answer in found if one == words]
        assert len(mine) == min(len(answers), most)
        assert set(mine) <= set(answers)
    assert {one for one, _ in found} <= set(wanted.tolist())
