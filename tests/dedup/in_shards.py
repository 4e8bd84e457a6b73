"""Rows in shards, as an engine with many processes would have them: work is pickled, parts are apart."""

import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ftcheck.dedup.records import parted
from ftcheck.dedup.shards import Emit, Piece, Reduce, pieces, reduced


@dataclass
class Texts:
    """Rows of given ids; the last `answer` tokens of each are in the loss."""

    texts: Sequence[Sequence[int]]
    answer: int

    def ids(self, row: int) -> Any:
        return np.array(self.texts[row], dtype=np.int32)

    def mask(self, row: int) -> Any:
        return np.arange(len(self.texts[row])) >= len(self.texts[row]) - self.answer

    def used_ids(self, *, trained: bool = False) -> Any:
        raise NotImplementedError

    def rows_with(self, ids: Sequence[int]) -> Any:
        raise NotImplementedError


@dataclass
class InShards(Texts):
    """The same in `shards` shards; records in `parts` parts, each sorted in little memory."""

    shards: int = 3
    parts: int = 4

    def _each(self, wanted: Any, masks: bool) -> Iterator[Piece]:
        ends = [len(self.texts) * n // self.shards for n in range(self.shards + 1)]
        for start, stop in pairwise(ends):
            here = Texts(self.texts[start:stop], self.answer)
            yield from pieces(here, wanted[start:stop], masks=masks, first=start)

    def over(self, wanted: Any, work: Callable[[Piece], Any], *, masks: bool = False) -> Iterator[Any]:
        shipped = pickle.dumps(work)
        return (pickle.loads(shipped)(piece) for piece in self._each(wanted, masks))

    def shuffled(self, wanted: Any, emit: Emit, reduce: Reduce) -> Iterator[Any]:
        made = [parted(records, self.parts) for records in self.over(wanted, emit)]
        random.Random(0).shuffle(made)
        for part in range(self.parts):
            yield from reduced([one[part] for one in made], pickle.loads(pickle.dumps(reduce)), 20_000)
