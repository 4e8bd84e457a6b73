"""Packing plans: as many blocks as TRL makes, never fewer than the bound, every sequence in one block."""

import random
from bisect import bisect
from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from ftcheck.packing import cutting_stock, plans
from ftcheck.packing.plans import (
    as_axolotl,
    as_llama_factory,
    as_trl,
    assign,
    best_fit,
    lower_bound,
    optimal,
)


def drawn(seed: int, capacity: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 2500))
    if seed % 2:
        return rng.integers(1, capacity + 1, size=count)
    return rng.lognormal(np.log(capacity / 5), 0.8, size=count).astype(np.int64).clip(1, capacity)


@pytest.mark.parametrize("seed", range(40))
def test_a_plan_holds_every_sequence_once_and_no_block_overflows(seed: int) -> None:
    capacity = 16 + 7 * seed
    lengths = drawn(seed, capacity)

    plan = best_fit(lengths, capacity)
    blocks = list(assign(plan, lengths, seed=seed))

    assert len(blocks) == plan.blocks
    assert sorted(np.concatenate(blocks).tolist()) == list(range(len(lengths)))
    assert max(int(lengths[block].sum()) for block in blocks) <= capacity
    assert plan.blocks >= lower_bound(lengths, capacity) >= -(-int(lengths.sum()) // capacity)


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
@pytest.mark.parametrize("seed", range(12))
def test_block_counts_are_those_of_trls_own_packer(seed: int, strategy: str) -> None:
    datasets = pytest.importorskip("datasets")
    trl = pytest.importorskip("trl")
    datasets.disable_progress_bars()
    capacity = 40 + 11 * seed
    lengths = drawn(seed, 2 * capacity)
    rows = datasets.Dataset.from_dict({"input_ids": [[1] * length for length in lengths.tolist()]})

    packed = trl.pack_dataset(rows, capacity, strategy)

    assert as_trl(lengths, capacity, strategy) == len(packed)


def test_long_sequences_raise_the_bound_above_the_tokens() -> None:
    assert lower_bound(np.array([60, 60, 60]), 100) == 3
    assert lower_bound(np.array([60, 60, 60, 40, 40, 40]), 100) == 3
    assert lower_bound(np.array([70, 70, 40, 40]), 100) == 3


def test_nothing_to_pack_makes_no_blocks() -> None:
    plan = best_fit(np.zeros(0, dtype=np.int64), 100)

    assert plan.blocks == 0
    assert plan.fill == 0.0


@pytest.mark.parametrize("seed", range(24))
def test_the_optimal_plan_holds_every_sequence_once_and_is_never_worse(seed: int) -> None:
    capacity = 16 + 7 * seed
    lengths = drawn(seed, capacity)

    plan = optimal(lengths, capacity)

    blocks = list(assign(plan, lengths, seed=seed))
    assert len(blocks) == plan.blocks
    assert sorted(np.concatenate(blocks).tolist()) == list(range(len(lengths)))
    assert max(int(lengths[block].sum()) for block in blocks) <= capacity
    assert lower_bound(lengths, capacity) <= plan.bound <= plan.blocks <= best_fit(lengths, capacity).blocks
    assert plan.tokens == int(lengths.sum())


HARD = {
    (104, 69): {18: 22, 28: 33, 35: 28, 40: 51, 41: 31, 47: 25},
    (109, 77): {15: 9, 22: 15, 29: 36, 36: 39, 41: 59, 44: 57},
    (83, 39): {25: 55, 29: 27, 33: 29},
    (67, 73): {9: 57, 12: 59, 16: 46, 18: 5, 20: 38, 23: 50, 31: 30},
}
"""(capacity, the optimum): sequences of each length. Best-fit needs 3 to 6 blocks more."""


@pytest.mark.parametrize(("capacity", "best"), HARD)
def test_column_generation_finds_what_best_fit_misses_and_proves_it(capacity: int, best: int) -> None:
    pytest.importorskip("highspy")
    lengths = spread(HARD[capacity, best])

    plan = optimal(lengths, capacity)

    assert (plan.blocks, plan.bound, plan.by) == (best, best, "column generation")
    assert best_fit(lengths, capacity).blocks >= best + 3


def spread(counts: dict[int, int]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.repeat(list(counts), list(counts.values())).astype(np.int64)


def test_the_optimum_of_small_cases_is_that_of_trying_everything() -> None:
    rng = random.Random(5)
    for _ in range(60):
        capacity = rng.randint(8, 20)
        lengths = [rng.randint(1, capacity) for _ in range(rng.randint(1, 9))]
        plan = optimal(np.array(lengths), capacity)
        fewest = exhaustive(tuple(sorted(lengths)), capacity)
        assert plan.bound <= fewest <= plan.blocks <= fewest + 1
        assert plan.blocks == fewest or plan.bound < fewest


def exhaustive(lengths: tuple[int, ...], capacity: int) -> int:
    """The fewest blocks: the block of the longest sequence is tried in every way."""
    if not lengths:
        return 0
    *rest, longest = lengths
    ways = {
        chosen
        for number in range(len(rest) + 1)
        for chosen in combinations(range(len(rest)), number)
        if longest + sum(rest[one] for one in chosen) <= capacity
    }
    full = [one for one in ways if not any(set(one) < set(other) for other in ways)]
    return 1 + min(
        exhaustive(tuple(value for index, value in enumerate(rest) if index not in one), capacity)
        for one in full
    )


def test_a_knapsack_is_worth_what_trying_everything_finds() -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        sizes, most = rng.permutation(np.arange(2, 9))[:3], rng.integers(1, 5, size=3)
        profits, capacity = rng.random(3), int(rng.integers(8, 30))
        value, chosen = cutting_stock.knapsack(profits, sizes, most, capacity, cutting_stock.Work(1e9))
        grid = np.stack(np.meshgrid(*(np.arange(one + 1) for one in most)), axis=-1).reshape(-1, 3)
        fitting = grid[grid @ sizes <= capacity]
        assert value == pytest.approx(float((fitting @ profits).max()))
        assert value == pytest.approx(float(chosen @ profits))
        assert (chosen <= most).all()
        assert int(chosen @ sizes) <= capacity


def test_the_same_lengths_give_the_same_plan_whatever_their_order_and_the_memory_holds() -> None:
    lengths = spread(HARD[104, 69])
    plan = optimal(lengths, 104)
    plans._optimal.cache_clear()

    again = optimal(np.random.default_rng(1).permutation(lengths), 104)

    assert again == plan


@pytest.mark.parametrize("effort", [0.0, 1e-4, 1e-3, 1e-2])
def test_little_effort_still_gives_a_whole_plan(effort: float) -> None:
    lengths = drawn(4, 500)

    plan = optimal(lengths, 500, effort=effort)

    held: Counter[int] = Counter()
    for pattern, times in plan.patterns:
        held.update({length: number * times for length, number in pattern})
    assert held == Counter(lengths.tolist())
    assert plan.blocks <= best_fit(lengths, 500).blocks


def test_without_highspy_the_plan_says_so_and_is_no_worse_than_best_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans._optimal.cache_clear()
    monkeypatch.setattr(cutting_stock, "available", lambda: False)
    lengths = spread(HARD[104, 69])

    plan = optimal(lengths, 104)

    plans._optimal.cache_clear()
    assert plan.note == "highspy is not installed: with it fewer may be found"
    assert plan.blocks <= best_fit(lengths, 104).blocks


def test_nothing_to_plan_makes_no_blocks() -> None:
    assert optimal(np.zeros(0, dtype=np.int64), 100).blocks == 0
    assert optimal(np.zeros(5, dtype=np.int64), 100).blocks == 0


@pytest.mark.parametrize("seed", range(6))
def test_llama_factory_takes_the_longest_that_fits_a_thousand_at_a_time(seed: int) -> None:
    capacity = 50 + 30 * seed
    lengths = drawn(seed, 2 * capacity)

    blocks = 0
    for start in range(0, len(lengths), 1000):
        left = sorted(lengths[start : start + 1000].clip(1, capacity - 1).tolist())
        while left:
            room, blocks = capacity - 1, blocks + 1
            while left and bisect(left, room):
                room -= left.pop(bisect(left, room) - 1)

    assert as_llama_factory(lengths, capacity) == blocks


@pytest.mark.parametrize("seed", range(6))
def test_axolotl_puts_each_sequence_into_the_first_block_with_room(seed: int) -> None:
    capacity = 60 + 30 * seed
    lengths = drawn(seed, capacity)[:700]

    spaces: list[list[int]] = []
    for length in lengths.tolist():
        first: Any = next((one for one in spaces if one[0] >= length and one[1] < 3), None)
        if first is None:
            spaces.append([capacity - length, 1])
        else:
            first[0] -= length
            first[1] += 1

    assert as_axolotl(lengths, capacity, most=3) == len(spaces)


def test_axolotl_packs_groups_on_their_own() -> None:
    lengths = np.array([60, 60, 40, 40])

    assert as_axolotl(lengths, 100) == 2
    assert as_axolotl(lengths, 100, group=2) == 3
