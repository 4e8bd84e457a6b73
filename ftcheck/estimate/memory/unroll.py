"""A step of all layers out of steps of three and four: seconds less for models of many layers.

Where all layers are alike, the longer step is the shorter one with one layer's events put in, in each pass.
They are put in as often as layers are missing; deaths of blocks follow their births.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.shapes import KNOWN, Feed
from ftcheck.estimate.memory.trace import FIRST_PRODUCT, Event, Trace, Weight, trace

FEW = 3
"""Layers of the shorter step: a first one, a last one, and one of those between."""
LAYER = re.compile(r"(?<=\.layers\.)\d+(?=\.)")


def whole_step(config: Mapping[str, Any], program: Program, feed: Feed) -> Trace:
    """The blocks of one step, of three and four layers where that is enough. Raises as `trace`."""
    layers = config.get("num_hidden_layers")
    if isinstance(layers, int) and layers > 2 * FEW + 1 and _alike(config) and program.loss != "smoothed":
        shorter, longer = (trace(config, program, feed, few) for few in (FEW, FEW + 1))
        if (made := unrolled(shorter, longer, layers)) is not None:
            return made
    return trace(config, program, feed)


def _alike(config: Mapping[str, Any]) -> bool:
    """Whether all layers do the same: the families that were looked at, unless config.json says otherwise."""
    kinds = config.get("layer_types") or ()
    return config.get("model_type") in KNOWN and len(set(kinds)) < 2 and not config.get("use_sliding_window")


def unrolled(shorter: Trace, longer: Trace, layers: int) -> Trace | None:
    """The step of so many layers; None where the two do not differ by one layer alone."""
    passes = [_Pass.of(*pair) for pair in zip(_passes(shorter), _passes(longer), strict=True)]
    weights, count = _weights(longer.weights, layers), len(longer.trained) - len(shorter.trained)
    if any(one is None for one in passes) or longer.trained != longer.trained[:count] * (FEW + 1):
        return None
    if shorter.saved != longer.saved:
        return None
    found = _Unroller([one for one in passes if one is not None], layers - FEW - 1).events()
    if found is None:
        return None
    forward, backward, after = found
    standing = {number for events in found for number, size in events if size and number}
    standing -= {number for events in found for number, size in events if not size}
    trained = longer.trained[:count] * layers
    return Trace(forward, backward, after, frozenset(standing), weights, trained, longer.saved)


@dataclass(frozen=True, slots=True)
class _Birth:
    """Where a block is born: the pass, and the event in it."""

    index: int
    at: int


Item = int | _Birth
"""An event without its number: the size of a block that is born, or the birth of one that dies."""


def _passes(made: Trace) -> list[list[Item]]:
    births: dict[int, _Birth] = {}
    found: list[list[Item]] = []
    for index, events in enumerate((made.forward, made.backward, made.after)):
        items: list[Item] = []
        for at, (number, size) in enumerate(events):
            if number and size:
                births[number] = _Birth(index, at)
            items.append(size if size and number else births[number] if number else -1)
        found.append(items)
    return found


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass of both steps; the longer has the events from `cut` on, `block` of them, once more."""

    shorter: Sequence[Item]
    longer: Sequence[Item]
    cut: int
    block: int

    @classmethod
    def of(cls, shorter: Sequence[Item], longer: Sequence[Item]) -> "_Pass | None":
        """With the cut in the middle of where it may be; None where there is no such place."""
        first, second = ([one if isinstance(one, int) else 0 for one in each] for each in (shorter, longer))
        latest = _common(first, second)
        earliest = len(first) - _common(first[::-1], second[::-1])
        if earliest > latest:
            return None
        return cls(shorter, longer, (earliest + latest) // 2, len(longer) - len(shorter))


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many items both have in common at the beginning."""
    pairs = zip(first, second, strict=False)
    return next((at for at, (one, two) in enumerate(pairs) if one != two), min(len(first), len(second)))


class _Unroller:
    """Writes the passes with a layer's events put in `more` times, and numbers the blocks anew."""

    def __init__(self, passes: Sequence[_Pass], more: int) -> None:
        self.passes, self.more = passes, more
        self.numbers: dict[_Birth, int] = {}

    def events(self) -> tuple[tuple[Event, ...], ...] | None:
        """The events of each pass; None where a death is neither where it was nor a layer further."""
        made = [self._pass(index) for index in range(len(self.passes))]
        return None if None in made else tuple(one for one in made if one is not None)

    def _pass(self, index: int) -> tuple[Event, ...] | None:
        one = self.passes[index]
        made: list[Event] = []
        for copy in range(self.more + 1):
            begin = 0 if copy == 0 else one.cut
            end = len(one.longer) if copy == self.more else one.cut + one.block
            for at in range(begin, end):
                event = self._event(index, at, copy, len(made))
                if event is None:
                    return None
                made.append(event)
        return tuple(made)

    def _event(self, index: int, at: int, copy: int, place: int) -> Event | None:
        item = self.passes[index].longer[at]
        if isinstance(item, int):
            if item < 0:
                return FIRST_PRODUCT
            number = self.numbers[_Birth(index, place)] = len(self.numbers) + 1
            return number, item
        born = self._born(index, at, copy, item)
        return (self.numbers[born], 0) if born in self.numbers else None

    def _born(self, index: int, at: int, copy: int, item: _Birth) -> _Birth | None:
        """Where the block of a death is born, when so many copies were put in."""
        one, other = self.passes[index], self.passes[item.index]
        if one.cut <= at < one.cut + one.block:
            # The backward pass goes through the layers the other way round.
            layers = copy if item.index == index else self.more - copy
            return _Birth(item.index, item.at + layers * other.block)
        before = one.shorter[at if at < one.cut else at - one.block]
        assert isinstance(before, _Birth)
        if item == before:
            return item
        moved = item.index == before.index and item.at == before.at + other.block
        return _Birth(item.index, item.at + self.more * other.block) if moved else None


def _weights(longer: Sequence[Weight], layers: int) -> tuple[Weight, ...]:
    """The parameters in order, those of the last layer but one as often as layers are missing."""
    inner, last = str(FEW - 1), str(FEW)
    made: list[Weight] = []
    block: list[Weight] = []
    for one in longer:
        found = LAYER.search(one.name)
        if found is not None and found[0] == inner:
            block.append(one)
            continue
        if block:
            for number in range(FEW - 1, layers - 1):
                made += [_renamed(each, number) for each in block]
            block = []
        made.append(_renamed(one, layers - 1) if found is not None and found[0] == last else one)
    return tuple(made)


def _renamed(one: Weight, layer: int) -> Weight:
    return Weight(LAYER.sub(str(layer), one.name), one.shape, one.quantised)
