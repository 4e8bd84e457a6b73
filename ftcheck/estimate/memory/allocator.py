"""PyTorch's caching allocator for CUDA, as a model: what is reserved when blocks come and go.

Written after its documented rules (torch's notes "CUDA semantics", memory management) and the behaviour of
c10/cuda/CUDACachingAllocator.cpp, read at pytorch 001074d2; constants as in c10/core/AllocatorConfig.h of
torch 2.13. One stream, one device; no CUDA graphs, no garbage collection threshold.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

MIB = 1 << 20
SMALLEST = 512
"""Sizes are rounded up to a multiple of this, and small blocks are split down to it."""
SMALL = 1 * MIB
"""Largest size that comes from the small pool; a large block is split only where more than this remains."""
SMALL_SEGMENT, LARGE_SEGMENT = 2 * MIB, 20 * MIB
OWN_SEGMENT = 10 * MIB
"""Sizes from this on have a segment of their own, rounded up to `SEGMENT_MULTIPLE`."""
SEGMENT_MULTIPLE = 2 * MIB
ENDLESS = LARGE_SEGMENT << 36
"""Address space of an expandable segment, in whole pages; also the limit where none is set."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What PYTORCH_CUDA_ALLOC_CONF sets: `max_split_size` is in bytes, None for no limit."""

    expandable_segments: bool = False
    max_split_size: int | None = None


class OutOfMemory(Exception):
    """A segment of `requested` bytes does not fit, also after all that is cached was given back."""

    def __init__(self, requested: int, allocated: int, reserved: int) -> None:
        """Bytes: the segment's, and what was allocated and reserved when it failed."""
        super().__init__(f"{requested} bytes requested, {allocated} allocated, {reserved} reserved")
        self.requested, self.allocated, self.reserved = requested, allocated, reserved


class _Block:
    """A piece of a segment; `before` and `after` are its neighbours in it."""

    __slots__ = ("address", "after", "before", "free", "mapped", "pool", "size")

    def __init__(self, pool: "_Pool", address: int, size: int, *, mapped: bool = True) -> None:
        self.pool, self.address, self.size, self.mapped = pool, address, size, mapped
        self.free = True
        self.before: _Block | None = None
        self.after: _Block | None = None

    @property
    def whole(self) -> bool:
        """Whether it is all of its segment."""
        return self.before is None and self.after is None


class _Pool:
    """Free blocks in order of size and address; for expandable segments also the unmapped ranges."""

    __slots__ = ("blocks", "keys", "page", "small", "unmapped")

    def __init__(self, *, small: bool) -> None:
        self.small = small
        self.page = SMALL_SEGMENT if small else LARGE_SEGMENT
        self.keys: list[tuple[int, int]] = []
        self.blocks: dict[tuple[int, int], _Block] = {}
        self.unmapped: list[_Block] = []

    def put(self, block: _Block) -> None:
        key = (block.size, block.address)
        insort(self.keys, key)
        self.blocks[key] = block

    def take(self, block: _Block) -> None:
        key = (block.size, block.address)
        del self.keys[bisect_left(self.keys, key)]
        del self.blocks[key]

    def from_size(self, size: int) -> Iterator[_Block]:
        """Free blocks of at least this size, the smallest first."""
        for at in range(bisect_left(self.keys, (size, 0)), len(self.keys)):
            yield self.blocks[self.keys[at]]


class Allocator:
    """Blocks come with `malloc` and go with `free`; what that reserves is in `reserved` and `max_reserved`.

    `capacity` is what the process may reserve on the card, in bytes (None: no limit).
    """

    def __init__(self, rules: Rules | None = None, capacity: int | None = None) -> None:
        """An empty allocator."""
        self.rules = rules or Rules()
        self.capacity = ENDLESS if capacity is None else capacity
        self.allocated = self.reserved = self.max_allocated = self.max_reserved = 0
        self.retries = 0
        """How often cached segments were given back because the card was full."""
        self._limit = self.rules.max_split_size or ENDLESS
        self._small, self._large = _Pool(small=True), _Pool(small=False)
        # The driver hands out address space from the top downwards: of free blocks of one size, that of the
        # youngest segment is the first. (Of 14 float16 runs on a T4, all are within 0.5 % this way, and three
        # are 6 to 8 % short the other way round.)
        self._next_address, self._next_handle = 4 * ENDLESS, 0
        self._live: dict[int, _Block] = {}

    def malloc(self, size: int) -> int:
        """A handle of a block of `size` bytes. Raises `OutOfMemory`."""
        size = max(SMALLEST, -(-size // SMALLEST) * SMALLEST)
        pool = self._small if size <= SMALL else self._large
        block = self._cached(pool, size) or self._fresh(pool, size)
        self._split(block, size)
        block.free = False
        self.allocated += block.size
        if self.allocated > self.max_allocated:
            self.max_allocated = self.allocated
        self._next_handle += 1
        self._live[self._next_handle] = block
        return self._next_handle

    def free(self, handle: int) -> None:
        """Give a block back to the cache. Raises `KeyError` for one that is not allocated."""
        block = self._live.pop(handle)
        self.allocated -= block.size
        block.free = True
        self._merge(block)
        block.pool.put(block)

    def empty_cache(self) -> None:
        """Give all segments that are wholly free back to the card (torch.cuda.empty_cache)."""
        for pool in (self._large, self._small):
            for block in list(pool.blocks.values()):
                if self.rules.expandable_segments:
                    self._unmap(block)
                elif block.whole:
                    self._release(block)

    # --- finding a block -------------------------------------------------------------------------------

    def _cached(self, pool: _Pool, size: int) -> _Block | None:
        """The best free block, taken out of its pool."""
        if not pool.keys or pool.keys[-1][0] < size:
            return None
        found = pool.blocks[pool.keys[bisect_left(pool.keys, (size, 0))]]
        if self.rules.expandable_segments:
            # A block counts with the space that it can grow into.
            for block in pool.from_size(size):
                if block is not found and _reach(block) >= _reach(found):
                    break
                found = block
        oversize = found.size >= self._limit
        if (size < self._limit and oversize) or (size >= self._limit and found.size >= size + LARGE_SEGMENT):
            return None
        pool.take(found)
        return found

    def _fresh(self, pool: _Pool, size: int) -> _Block:
        """A block of new memory; at the capacity after giving back what is cached."""
        reserve = self._grow if self.rules.expandable_segments else self._segment
        if (block := reserve(pool, size)) is not None:
            return block
        if self._release_oversize(pool, size) and (block := reserve(pool, size)) is not None:
            return block
        before = self.reserved
        self.empty_cache()
        self.retries += 1
        if (block := reserve(pool, size)) is None:
            raise OutOfMemory(_segment_size(size), self.allocated, before)
        return block

    def _segment(self, pool: _Pool, size: int) -> _Block | None:
        whole = _segment_size(size)
        if not self._reserve(whole):
            return None
        self._next_address -= whole
        return _Block(pool, self._next_address, whole)

    def _reserve(self, size: int) -> bool:
        if self.reserved + size > self.capacity:
            return False
        self.reserved += size
        self.max_reserved = max(self.max_reserved, self.reserved)
        return True

    # --- splitting and merging -------------------------------------------------------------------------

    def _split(self, block: _Block, size: int) -> None:
        """Keep the first `size` bytes of a block, and put the rest into its pool where that is worth it."""
        remaining = block.size - size
        if block.pool.small or self.rules.expandable_segments:
            if remaining < SMALLEST:
                return
        elif remaining <= SMALL or size >= self._limit:
            return
        rest = _cut(block, size)
        block.pool.put(rest)

    def _merge(self, block: _Block) -> None:
        """Join a block, which is in no list, with its free neighbours, mapped or unmapped as it is."""
        before, after = block.before, block.after
        if before is not None and before.free and before.mapped == block.mapped:
            _forget(before)
            block.address, block.size = before.address, block.size + before.size
            _link(before.before, block)
        if after is not None and after.free and after.mapped == block.mapped:
            _forget(after)
            block.size += after.size
            _link(block, after.after)

    # --- giving back -----------------------------------------------------------------------------------

    def _release(self, block: _Block) -> None:
        block.pool.take(block)
        self.reserved -= block.size

    def _release_oversize(self, pool: _Pool, size: int) -> bool:
        """With max_split_size: one oversize block that is large enough, else the largest until it is."""
        if self.rules.max_split_size is None or self.rules.expandable_segments:
            return False
        wanted = max(size, self._limit)
        enough = next(pool.from_size(wanted), None)
        if enough is not None:
            self._release(enough)
            return True
        released = 0
        for key in reversed(list(pool.keys)):
            if released >= wanted or key[0] < self._limit:
                break
            released += key[0]
            self._release(pool.blocks[key])
        return released >= wanted

    # --- expandable segments ---------------------------------------------------------------------------

    def _grow(self, pool: _Pool, size: int) -> _Block | None:
        """The lowest place with room for `size`, its pages mapped; None where the card is full."""
        block = self._room(pool, size)
        if not block.mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            after = block.after
            assert after is not None
            if not self._map(after, min(size - block.size, after.size)):
                return None
            block = after
        pool.take(block)
        return block

    def _room(self, pool: _Pool, size: int) -> _Block:
        for unmapped in sorted(pool.unmapped, key=lambda one: one.address):
            first = unmapped
            if unmapped.before is not None and unmapped.before.free:
                first = unmapped.before
            room = 0
            block: _Block | None = first
            while room < size and block is not None and block.free:
                room, block = room + block.size, block.after
            if room >= size:
                return first
        self._next_address -= ENDLESS
        made = _Block(pool, self._next_address, ENDLESS, mapped=False)
        pool.unmapped.append(made)
        return made

    def _map(self, block: _Block, size: int) -> bool:
        """Back the first `size` bytes of an unmapped range with pages; it joins its free neighbours."""
        pages = -(-size // block.pool.page) * block.pool.page
        if not self._reserve(pages):
            return False
        block.pool.unmapped.remove(block)
        if pages < block.size:
            rest = _cut(block, pages)
            rest.mapped = False
            block.pool.unmapped.append(rest)
        block.mapped = True
        self._merge(block)
        block.pool.put(block)
        return True

    def _unmap(self, block: _Block) -> None:
        """Give back the pages that lie wholly inside a free block."""
        page = block.pool.page
        begin = -(-block.address // page) * page
        end = (block.address + block.size) // page * page
        if begin >= end:
            return
        block.pool.take(block)
        if end < block.address + block.size:
            block.pool.put(_cut(block, end - block.address))
        middle = block
        if begin > block.address:
            middle = _cut(block, begin - block.address)
            block.pool.put(block)
        middle.mapped = False
        self.reserved -= middle.size
        self._merge(middle)
        middle.pool.unmapped.append(middle)


def _segment_size(size: int) -> int:
    if size <= SMALL:
        return SMALL_SEGMENT
    if size < OWN_SEGMENT:
        return LARGE_SEGMENT
    return -(-size // SEGMENT_MULTIPLE) * SEGMENT_MULTIPLE


def _reach(block: _Block) -> int:
    after = block.after
    return block.size + (after.size if after is not None and not after.mapped else 0)


def _link(first: _Block | None, second: _Block | None) -> None:
    if first is not None:
        first.after = second
    if second is not None:
        second.before = first


def _cut(block: _Block, size: int) -> _Block:
    """Shorten a block to `size`; what it loses is a new block after it."""
    rest = _Block(block.pool, block.address + size, block.size - size, mapped=block.mapped)
    _link(rest, block.after)
    _link(block, rest)
    block.size = size
    return rest


def _forget(block: _Block) -> None:
    """Take a free block out of the list that it is in."""
    if block.mapped:
        block.pool.take(block)
    else:
        block.pool.unmapped.remove(block)
