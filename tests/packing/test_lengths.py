"""Histograms of lengths: exact, mergeable, true to the lengths they were made of."""

import numpy as np
import pytest

from ftcheck.packing.lengths import Histogram, TrainedPositions, nearest_rank

LENGTHS = [1, 3, 3, 3, 7, 7, 12, 0]


def drawn(seed: int, count: int = 500) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.random.default_rng(seed).integers(0, 300, count)


def test_a_histogram_counts_sequences_tokens_and_the_longest() -> None:
    found = Histogram.of(np.array(LENGTHS))

    assert (found.sequences, found.tokens, found.longest) == (8, 36, 12)


@pytest.mark.parametrize("percentile", [0.1, 1, 25, 50, 90, 95, 99, 99.9, 100])
@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_the_nearest_rank_ones_of_the_lengths(seed: int, percentile: float) -> None:
    lengths = drawn(seed)

    assert Histogram.of(lengths).percentile(percentile) == nearest_rank(lengths, percentile)


def test_merging_parts_gives_the_histogram_of_the_whole_in_any_order() -> None:
    parts = [drawn(seed, 50 * (seed + 1)) for seed in range(4)]
    whole = Histogram.of(np.concatenate(parts))

    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        merged = Histogram.of(np.zeros(0, dtype=np.int64))
        for number in order:
            merged = merged.merge(Histogram.of(parts[number]))
        assert merged.counts.tolist() == whole.counts.tolist()


def test_merging_leaves_its_parts_as_they_were() -> None:
    one, other = Histogram.of(np.array([5])), Histogram.of(np.array([2]))

    one.merge(other)

    assert (one.tokens, other.tokens) == (5, 2)


@pytest.mark.parametrize("length", [0, 1, 3, 6, 11, 12, 500])
def test_what_is_above_and_beyond_a_length_is_counted_exactly(length: int) -> None:
    found = Histogram.of(np.array(LENGTHS))

    assert found.above(length) == sum(one > length for one in LENGTHS)
    assert found.beyond(length) == sum(max(0, one - length) for one in LENGTHS)
    assert found.share_within(length) == pytest.approx(sum(one <= length for one in LENGTHS) / 8)


@pytest.mark.parametrize("number", [1, 5, 16, 1000])
def test_bins_hold_every_sequence(number: int) -> None:
    found = Histogram.of(drawn(1))

    assert found.bins(number).sum() == 500
    assert len(found.bins(number)) <= max(number, 1)


def test_an_empty_histogram_has_no_percentile_and_loses_nothing() -> None:
    empty = Histogram.of(np.zeros(0, dtype=np.int64))

    assert (empty.sequences, empty.longest, empty.above(0), empty.share_within(3)) == (0, 0, 0, 1.0)
    with pytest.raises(ValueError, match="empty"):
        empty.percentile(50)


def test_trained_positions_tell_what_each_length_would_cut_off() -> None:
    # two rows: one of 4 tokens, trained at 2 and 3; one of 6, trained at 3, 4 and 5
    found = TrainedPositions(np.array([0, 0, 1, 2, 1, 1]), 5)

    assert [found.lost(length) for length in (0, 3, 4, 6, 99)] == [5, 4, 2, 0, 0]
    assert found.kept(4) == pytest.approx(3 / 5)


def test_merged_positions_are_exact_only_if_both_are() -> None:
    exact = TrainedPositions(np.array([1]), 1)
    drawn_ones = TrainedPositions(np.array([0, 7]), 7, exact=False)

    merged = exact.merge(drawn_ones)

    assert (merged.counts.tolist(), merged.total, merged.exact) == ([1, 7], 8, False)
