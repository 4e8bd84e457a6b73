"""The caching allocator: sequences worked out by hand from its documented rules, before it was written.

Rules: c10/cuda/CUDACachingAllocator.cpp of PyTorch (read at 001074d2) and the notes on memory management in
torch's documentation. Sizes are bytes; K and M are binary.
"""

import random
import time

import pytest

from ftcheck.estimate.memory.allocator import Allocator, OutOfMemory, Rules

K, M = 1 << 10, 1 << 20


def state(a: Allocator) -> tuple[int, int]:
    return a.allocated, a.reserved


def test_sizes_are_rounded_to_512_bytes_and_small_ones_share_a_segment_of_2_mib() -> None:
    a = Allocator()
    a.malloc(1)
    assert state(a) == (512, 2 * M)
    a.malloc(513)
    assert state(a) == (512 + 1024, 2 * M)
    # 1 MiB is the largest small size; 2 MiB - 1536 bytes are left, so it fits into the same segment.
    a.malloc(1 * M)
    assert state(a) == (1536 + M, 2 * M)
    # 1 MiB - 1536 bytes are left: the next 1 MiB needs a segment of its own.
    a.malloc(1 * M)
    assert state(a) == (1536 + 2 * M, 4 * M)


def test_a_small_block_is_split_where_512_bytes_or_more_remain() -> None:
    a = Allocator()
    a.malloc(1 * M)
    a.malloc(1 * M - 512)
    assert a.reserved == 2 * M
    # The last 512 bytes of the segment are a block.
    a.malloc(512)
    assert state(a) == (2 * M, 2 * M)


def test_one_to_ten_mib_come_from_20_mib_and_larger_ones_are_rounded_to_2_mib() -> None:
    a = Allocator()
    a.malloc(1 * M + 1)
    assert state(a) == (1 * M + 512, 20 * M)
    a.malloc(9 * M)
    assert a.reserved == 20 * M
    a.malloc(10 * M)
    # 10 MiB are left less 512 bytes, so 10 MiB have a segment of exactly their size.
    assert a.reserved == 30 * M
    a.malloc(10 * M + 1)
    assert a.reserved == 42 * M
    assert a.allocated == 1 * M + 512 + 9 * M + 10 * M + 10 * M + 512


def test_a_large_block_is_split_only_where_more_than_1_mib_remains() -> None:
    a = Allocator()
    whole = a.malloc(20 * M)
    a.free(whole)
    # Exactly 1 MiB remains: not split, and all 20 MiB count as allocated.
    most = a.malloc(19 * M)
    assert state(a) == (20 * M, 20 * M)
    a.free(most)
    a.malloc(19 * M - 512)
    assert state(a) == (19 * M - 512, 20 * M)
    # 1 MiB and 512 bytes remain: they are a free block.
    a.malloc(1 * M + 512)
    assert state(a) == (20 * M, 20 * M)


def test_the_smallest_free_block_that_is_large_enough_is_taken() -> None:
    a = Allocator()
    large, small = a.malloc(40 * M), a.malloc(30 * M)
    a.free(large)
    a.free(small)
    a.malloc(28 * M)
    # Of 30 MiB, 2 are left; 39 MiB fit into the 40 still.
    a.malloc(39 * M)
    assert a.reserved == 70 * M
    a.malloc(2 * M)
    assert state(a) == (28 * M + 40 * M + 2 * M, 70 * M)


def test_of_blocks_of_one_size_that_of_the_lowest_address_is_taken() -> None:
    a = Allocator()
    first, second, third = (a.malloc(4 * M) for _ in range(3))
    a.malloc(4 * M)
    a.free(third)
    a.free(first)
    # Best fit is 4 MiB at the lowest address: the first one's. Its neighbour is freed then, and the two merge
    # with the third's: 8 MiB fit.
    again = a.malloc(4 * M)
    a.free(second)
    a.malloc(8 * M)
    assert a.reserved == 20 * M
    a.free(again)


def test_free_neighbours_merge_and_others_do_not() -> None:
    a = Allocator()
    one, two, three = (a.malloc(5 * M) for _ in range(3))
    a.malloc(5 * M)
    a.free(one)
    a.free(three)
    # 5 and 5 MiB are free, but not beside each other: 9 MiB need a new segment of 20 MiB.
    held = a.malloc(9 * M)
    assert a.reserved == 40 * M
    a.free(held)
    a.free(two)
    # Now 15 MiB are in one piece.
    a.malloc(15 * M)
    assert a.reserved == 40 * M


def test_small_and_large_blocks_never_mix() -> None:
    a = Allocator()
    a.free(a.malloc(30 * M))
    a.malloc(512 * K)
    assert state(a) == (512 * K, 32 * M)


def test_freed_blocks_stay_reserved_until_the_cache_is_emptied() -> None:
    a = Allocator()
    one, two = a.malloc(30 * M), a.malloc(3 * M)
    rest = a.malloc(4 * M)
    a.free(one)
    a.free(two)
    assert state(a) == (4 * M, 50 * M)
    # The 20 MiB segment is in use in part.
    a.empty_cache()
    assert state(a) == (4 * M, 20 * M)
    a.free(rest)
    a.empty_cache()
    assert state(a) == (0, 0)
    assert (a.max_allocated, a.max_reserved) == (37 * M, 50 * M)


def test_at_the_cards_capacity_cached_segments_are_released_and_it_is_tried_again() -> None:
    a = Allocator(capacity=100 * M)
    one, two = a.malloc(40 * M), a.malloc(30 * M)
    a.free(one)
    a.malloc(30 * M)
    # 70 MiB reserved: 40 (30 used, 10 free) and 30. 31 MiB go over it: nothing whole is free.
    with pytest.raises(OutOfMemory) as caught:
        a.malloc(31 * M)
    assert (caught.value.requested, caught.value.allocated, caught.value.reserved) == (32 * M, 60 * M, 70 * M)
    a.free(two)
    a.malloc(50 * M)
    assert state(a) == (80 * M, 90 * M)
    # The attempt that failed released nothing, this one the 30 MiB.
    assert a.retries == 2


def test_max_split_size_keeps_large_blocks_whole() -> None:
    a = Allocator(Rules(max_split_size=100 * M))
    a.free(a.malloc(200 * M))
    # 40 MiB may not take an oversize block.
    a.malloc(40 * M)
    assert a.reserved == 240 * M
    # Nor may 150 MiB, 50 less than the block (the limit is 20): 200 MiB stay free, 150 are new.
    a.malloc(150 * M)
    assert a.reserved == 390 * M
    # 190 MiB may, and take it whole.
    a.malloc(190 * M)
    assert state(a) == (40 * M + 150 * M + 200 * M, 390 * M)


def test_max_split_size_releases_an_oversize_block_first() -> None:
    a = Allocator(Rules(max_split_size=100 * M), capacity=400 * M)
    kept = a.malloc(30 * M)
    a.free(a.malloc(200 * M))
    a.free(a.malloc(120 * M))
    a.free(kept)
    # 350 MiB are reserved and free. 180 MiB fit the 200 (20 less is the limit, so not 180 exactly): one
    # oversize block of at least 180 is released, which makes room.
    a.malloc(180 * M)
    assert state(a) == (180 * M, 330 * M)


def test_expandable_segments_grow_by_20_mib_and_leave_no_slivers() -> None:
    a = Allocator(Rules(expandable_segments=True))
    a.malloc(12 * M)
    assert state(a) == (12 * M, 20 * M)
    a.malloc(12 * M)
    # 8 MiB were free at the end: the segment grows by one page of 20 MiB.
    assert state(a) == (24 * M, 40 * M)
    a.malloc(512)
    assert state(a) == (24 * M + 512, 42 * M)


def test_expandable_segments_serve_a_growing_batch_where_plain_ones_strand_memory() -> None:
    plain, growing = Allocator(), Allocator(Rules(expandable_segments=True))
    for a in (plain, growing):
        for size in (40, 60, 80):
            held = [a.malloc(size * M) for _ in range(3)]
            for one in held:
                a.free(one)
    assert plain.max_reserved == 3 * (40 + 60 + 80) * M
    assert growing.max_reserved == 240 * M


def test_expandable_segments_split_from_512_bytes_in_both_pools() -> None:
    a = Allocator(Rules(expandable_segments=True))
    a.free(a.malloc(20 * M))
    a.malloc(19 * M + 512 * K)
    assert state(a) == (19 * M + 512 * K, 20 * M)


def test_expandable_segments_unmap_free_pages_at_the_capacity() -> None:
    a = Allocator(Rules(expandable_segments=True), capacity=100 * M)
    first, second = a.malloc(50 * M), a.malloc(30 * M)
    assert a.reserved == 80 * M
    a.free(first)
    # 50 MiB are free at the start: pages of 20 MiB at 0 and 20 are whole, the third is shared. 60 MiB need
    # three pages at the end, 40 are given back: 80 - 40 + 60 = 100.
    a.malloc(60 * M)
    assert state(a) == (90 * M, 100 * M)
    a.free(second)
    with pytest.raises(OutOfMemory):
        a.malloc(80 * M)


def test_what_is_freed_twice_or_unknown_is_refused() -> None:
    a = Allocator()
    one = a.malloc(512)
    a.free(one)
    with pytest.raises(KeyError):
        a.free(one)


@pytest.mark.parametrize("expandable", [False, True])
def test_books_balance_after_any_sequence(expandable: bool) -> None:
    chance = random.Random(7)
    a = Allocator(Rules(expandable_segments=expandable), capacity=2000 * M)
    live: dict[int, int] = {}
    for _ in range(5000):
        if live and chance.random() < 0.5:
            one = chance.choice(list(live))
            a.free(one)
            del live[one]
        else:
            size = int(2 ** chance.uniform(0, 27))
            try:
                live[a.malloc(size)] = size
            except OutOfMemory:
                continue
        assert sum(live.values()) <= a.allocated <= a.reserved <= 2000 * M
    for one in live:
        a.free(one)
    a.empty_cache()
    assert state(a) == (0, 0)


def test_a_million_events_take_seconds() -> None:
    chance = random.Random(3)
    sizes = [int(2 ** chance.uniform(6, 27)) for _ in range(500)]
    a = Allocator()
    start = time.perf_counter()
    for _ in range(250):
        live = [a.malloc(one) for one in sizes]
        for one in reversed(live):
            a.free(one)
    a_quarter = time.perf_counter() - start
    assert a_quarter < 5
