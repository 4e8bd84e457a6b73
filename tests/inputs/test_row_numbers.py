"""Numbers of rows come back as they were put in, whatever they are, and take a bit a row."""

import json
import pickle
import random
import sys

import numpy as np
import pytest

from ftcheck.inputs.row_numbers import BLOCK, RowNumbers

SETS: dict[str, list[int]] = {
    "none": [],
    "the first": [0],
    "a far one": [10**7],
    "all": list(range(1_000)),
    "every third": list(range(1, 10_000, 3)),
    "more than a block": list(range(5, 8 * BLOCK + 100, 7)),
    "some": sorted(random.Random(0).sample(range(100_000), 500)),
}


@pytest.mark.parametrize("name", SETS)
def test_they_are_a_sequence_of_the_numbers(name: str) -> None:
    numbers = SETS[name]
    made = RowNumbers(numbers)

    assert list(made) == numbers
    assert len(made) == len(numbers)
    assert made == numbers
    assert made == tuple(numbers)
    assert made != [*numbers, 5]
    assert bool(made) == bool(numbers)
    for place in (slice(3), slice(2, 9, 2), slice(-3, None), slice(None, None, -1)):
        assert made[place] == tuple(numbers[place])
    for row in (0, 1, 2, 7, 999, 10**7, -1):
        assert (row in made) == (row in numbers)
    assert [made[n] for n in (0, -1) if numbers] == [numbers[n] for n in (0, -1) if numbers]
    with pytest.raises(IndexError):
        made[len(numbers)]


@pytest.mark.parametrize("name", SETS)
def test_they_survive_json_and_pickle(name: str) -> None:
    made = RowNumbers(SETS[name])

    assert RowNumbers.of_text(json.loads(json.dumps(made.text()))) == SETS[name]
    assert pickle.loads(pickle.dumps(made)) == SETS[name]


def test_parts_are_put_one_behind_the_other() -> None:
    whole, drawn, expected = RowNumbers(), random.Random(1), list[int]()
    for batch in range(40):
        numbers = sorted(drawn.sample(range(1_000), drawn.choice((0, 1, 5, 1_000))))
        whole.add(RowNumbers(numbers) if batch % 2 else numbers, 1_000 * batch)
        expected += [1_000 * batch + n for n in numbers]

    assert whole == expected
    assert all(row in whole for row in expected[::97])
    assert RowNumbers.of_text(whole.text()) == expected


def test_parts_of_others_are_copied() -> None:
    """A view of what travelled would keep all of it in memory."""
    other, whole = RowNumbers([1, 2]), RowNumbers()
    whole.add(other)

    assert not np.shares_memory(whole._parts[0][1], other._parts[0][1])


def test_order_and_repetition_do_not_matter() -> None:
    assert RowNumbers([7, 2, 7, 3]) == [2, 3, 7]


def test_all_of_a_million_rows_take_a_bit_each() -> None:
    whole = RowNumbers()
    for batch in range(1_000):
        whole.add(range(1_000), 1_000 * batch)

    assert len(whole) == 10**6
    assert sum(bits.nbytes for _, bits in whole._parts) == 125_000
    assert len(whole.text()) < 1_000
    assert sys.getsizeof(RowNumbers.of_text(whole.text())._parts[0][1]) < 130_000
