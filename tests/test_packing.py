"""Packing plans: as many blocks as TRL makes, never fewer than the bound, every sequence in one block."""

import numpy as np
import pytest

from ftcheck.packing import as_trl, assign, best_fit, lower_bound


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
