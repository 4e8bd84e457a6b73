"""What a job states about its rows as they are read: renamed columns, renamed roles, the first rows only, and
the rows that are held out for evaluation.

It is applied to every row that leaves `reading.files`, whatever kind of file it stands in.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftcheck.inputs.prepared import RowError
from ftcheck.settings import Job

ROLE_KEYS = ("role", "from")
"""Where a message holds its role: as chat templates have it, and as ShareGPT does."""


@dataclass(frozen=True, slots=True)
class Split:
    """The training rows of a data set, or those that are held out of it for evaluation."""

    share: float
    seed: int
    held_out: bool

    def rows(self, total: int) -> list[bool]:
        """Which of so many rows these are. Raises `ValueError` where one of the two would have none.

        As datasets 5.2 divides them (`Dataset.train_test_split(test_size=share, seed=seed)`): the first of
        the rows that numpy's generator shuffles, rounded up, are held out. Here rows keep their order.
        """
        import numpy as np

        held = math.ceil(self.share * total)
        if not 0 < held < total:
            raise ValueError(
                f"{total:,} rows leave {max(0, total - held):,} to train on and {held:,} to evaluate"
            )
        chosen = np.zeros(total, dtype=bool)
        chosen[np.random.default_rng(self.seed).permutation(total)[:held]] = True
        mine: list[bool] = (chosen if self.held_out else ~chosen).tolist()
        return mine


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows are changed before anybody sees them; of the `first` ones those of the `split` are left.

    `columns` and `roles` say new names by old ones.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    first: int | None = None
    split: Split | None = None

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return bool(self.columns or self.roles or self.split) or self.first is not None

    def of(self, data: dict[str, Any]) -> dict[str, Any] | RowError:
        """The data of a row, changed; an error where two of its columns would have one name."""
        names = [self.columns.get(name, name) for name in data]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            return RowError("schema", f"data.columns gives two columns of this row the name '{twice}'")
        values = map(self._value, data.values()) if self.roles else data.values()
        return dict(zip(names, values, strict=True))

    def _value(self, value: Any) -> Any:
        """A column; the messages of a conversation with their roles renamed."""
        return list(map(self._message, value)) if isinstance(value, list) else value

    def _message(self, message: Any) -> Any:
        if not isinstance(message, dict):
            return message
        return {key: self._role(value) if key in ROLE_KEYS else value for key, value in message.items()}

    def _role(self, role: Any) -> Any:
        return self.roles.get(role, role) if isinstance(role, str) else role


def shape_of(job: Job, split: str) -> Shape:
    """What a job states of a split, `train` or `eval`; data.max_rows is about the rows of data.train."""
    data, share = job.data, job.data.validation_split
    of_train = split == "train" or share is not None
    part = Split(share, job.training.seed, split == "eval") if share is not None else None
    return Shape(data.columns or {}, data.role_map or {}, data.max_rows if of_train else None, part)
