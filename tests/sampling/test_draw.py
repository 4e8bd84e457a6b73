"""Which rows are drawn: by SplitMix64's published outputs, uniform, and the same however they are offered."""

import numpy as np
import pytest

from ftcheck.sampling.draw import Draw, keys


def drawn(total: int, rows: int, seed: int, *, block: int) -> list[int]:
    draw = Draw(rows, seed)
    for first in range(0, total, block):
        draw.offer(np.arange(first, min(total, first + block), dtype=np.int64).reshape(-1, 1))
    numbers, places = draw.drawn()
    assert numbers.tolist() == places[:, 0].tolist()
    assert draw.offered == total
    found: list[int] = numbers.tolist()
    return found


def test_the_keys_are_the_published_outputs_of_splitmix64() -> None:
    """The reference implementation's first outputs (Vigna, splitmix64.c): seed 0, and seed 1234567."""
    assert keys(0, 0, 3).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert keys(1234567, 0, 3).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert keys(0, 2, 1).tolist() == [0x06C45D188009454F]


def test_the_smallest_keys_are_drawn_in_data_order() -> None:
    """Of the three published outputs of seed 0 the third is the smallest, then the second."""
    assert drawn(3, 1, 0, block=3) == [2]
    assert drawn(3, 2, 0, block=3) == [1, 2]


@pytest.mark.parametrize("block", [1, 7, 1000, 300_000])
def test_how_rows_are_offered_changes_nothing(block: int) -> None:
    total = 3_000 if block == 1 else 300_000
    wanted = np.sort(np.argsort(keys(5, 0, total))[:100]).tolist()
    assert drawn(total, 100, 5, block=block) == wanted


def test_more_rows_than_there_are_draw_all() -> None:
    assert drawn(5, 9, 0, block=2) == [0, 1, 2, 3, 4]


def test_every_row_is_as_likely_as_any_other() -> None:
    """2,000 draws of 10 of 100 rows: each row is drawn 200 times, 5 standard deviations of 13.4 off at
    most; their chi-square lies in the middle of its distribution (99 degrees, mean 99 x 0.9, sd 13)."""
    counts = np.zeros(100)
    for seed in range(2_000):
        counts[drawn(100, 10, seed, block=100)] += 1
    assert abs(counts - 200).max() < 5 * 13.4
    assert 50 < ((counts - 200) ** 2 / 200).sum() < 140
