"""What is gathered batch by batch is what is gathered part by part, also of very many prompts and keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import pytest
from ftcheck_plugins.preparation import gathered
from ftcheck_plugins.preparation.gathered import Gathered

from ftcheck.inputs.columns import Keys
from ftcheck.inputs.prepared import RowError

ROWS = 7


@dataclass
class Batch:
    """What a batch says of `ROWS` rows, drawn at random."""

    random: Random
    row_errors: dict[int, RowError] = field(default_factory=dict)
    remarks: dict[str, list[int]] = field(default_factory=dict)
    marks: dict[str, list[int]] = field(default_factory=dict)
    key_sets: dict[Keys, list[int]] = field(default_factory=dict)
    engine: str = "tokenizers"
    notes: tuple[str, ...] = ()
    layout: str | None = "messages"
    opening: dict[str, str] | None = None

    def __post_init__(self) -> None:
        """Draw."""
        named = [self.random.randrange(60) for _ in range(ROWS)]
        self.prompts = tuple(f"prompt {n}" for n in dict.fromkeys(named))
        self.system = [self.prompts.index(f"prompt {n}") if n % 3 else -1 for n in named]
        self.remarks = {f"code {n % 4}": [row] for row, n in enumerate(named)}
        self.row_errors = {row: RowError("json", str(n)) for row, n in enumerate(named) if n % 20 == 1}
        self.notes = (f"note {named[0] % 3}",)
        self.opening = {"a": str(named[0])} if named[0] % 2 else None
        for row, n in enumerate(named):
            self.key_sets.setdefault(Keys((f"key {n % 40}", "messages"), False, ()), [0, row])[0] += 1


def added(into: Gathered, some: Any, system: Sequence[int]) -> list[int]:
    """The rows' prompts as they are numbered among all."""
    column = np.array(system, dtype=np.int64)
    into.add(some, column, ROWS)
    numbered: list[int] = column.tolist()
    return numbered


@pytest.mark.parametrize("seed", range(20))
def test_parts_make_the_same_whole(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered, "MAX_SYSTEM_PROMPTS", 12)
    monkeypatch.setattr(gathered, "MAX_KEY_SETS", 9)
    random = Random(seed)
    batches = [Batch(random) for _ in range(24)]
    at_once, in_parts = Gathered(), Gathered()

    alone = [one for batch in batches for one in added(at_once, batch, batch.system)]
    apart: list[int] = []
    for first in range(0, len(batches), 6):
        part = Gathered(whole=False)
        rows = [one for batch in batches[first : first + 6] for one in added(part, batch, batch.system)]
        apart += added(in_parts, part, rows)

    assert apart == alone
    at_once.tokens = in_parts.tokens = 0
    assert in_parts == at_once
    assert list(in_parts.key_sets) == list(at_once.key_sets)
