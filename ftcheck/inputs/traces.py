"""Work that is done once for several jobs: what was read while it was done, and what came of it.

A loader and a rule are functions of what they read: fields of the job, other inputs. While one runs for a
job, each reading is recorded. For the next job the same readings are looked up, in the same order: where all
are the same, so is the result, and nothing is done again. Nothing has to be declared, and nothing that is not
looked at (the learning rate, where rows are prepared) keeps two jobs apart.
"""

import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import count
from typing import Any

from ftcheck.inputs.observed import Cell
from ftcheck.inputs.prepared import Prepared, Sample

Now = Callable[[Cell], Any]
"""What a cell holds for another job. Raises `LookupError` where it holds nothing."""
Effect = tuple[str, bool, str]
"""What a loader told the run: `cached` or `note`, whether the job's label came first, and the rest."""
KEPT = 8
"""So many results of one loader or rule are held at once: those that were used last."""


@dataclass(eq=False)
class Trace:
    """What one piece of work read, in order, what came of it, and what it told the run on its way."""

    cells: dict[Cell, Any] = field(default_factory=dict)
    answer: Any = None
    effects: list[Effect] = field(default_factory=list)
    token: int = 0
    taken: "list[weakref.ref[Any]]" = field(default_factory=list)
    """Who took the answer over, as objects with `now`."""

    def tell(self, cell: Cell, value: Any) -> None:
        """Record a reading. One that comes late must hold for all who took the answer over."""
        if cell in self.cells:
            return
        self.cells[cell] = value
        for one in self.taken:
            other = one()
            if other is not None and not _holds(cell, value, other.now):
                raise RuntimeError(
                    f"{cell[1]} was read after the result was shared with a job where it differs"
                )

    def holds(self, now: Now) -> bool:
        """Whether all that was read is the same for another job."""
        return all(_holds(cell, value, now) for cell, value in list(self.cells.items()))


def _holds(cell: Cell, value: Any, now: Now) -> bool:
    try:
        found = now(cell)
    except (LookupError, AttributeError):
        return False
    return same(found, value)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types, inside of lists, mappings and records too.

    `1`, `1.0` and `true` are three values of YAML.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if is_dataclass(one):
        return all(same(getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    return bool(one == other)


class Traces:
    """The results that are held, by the name of the loader or the rule."""

    def __init__(self) -> None:
        """Nothing was worked out yet."""
        self._held: dict[Hashable, list[Trace]] = {}
        self._tokens = count(1)

    def find(self, name: Hashable, by: Any) -> Trace | None:
        """The result of the same work for another job, all of whose readings hold for `by.now`."""
        held = self._held.get(name, [])
        for number, trace in enumerate(held):
            if trace.holds(by.now):
                held.insert(0, held.pop(number))
                trace.taken.append(weakref.ref(by))
                return trace
        return None

    def keep(self, name: Hashable, trace: Trace, answer: Any) -> Trace:
        """Hold a result, or an earlier one that is the same: what was made of that holds for this too."""
        held = self._held.setdefault(name, [])
        trace.answer, trace.token = answer, next(self._tokens)
        for other in held:
            if _same(answer, other.answer):
                trace.answer, trace.token = other.answer, other.token
        held.insert(0, trace)
        del held[KEPT:]
        return trace


def _same(one: Any, other: Any) -> bool:
    """Whether two preparations, or two samples of rows, are the same."""
    if isinstance(one, Prepared):
        return isinstance(other, Prepared) and one.alike(other)
    return isinstance(one, Sample) and one == other


class ToldDigests(Mapping[str, str]):
    """The digests of data files by their names in the report; tells which are asked for."""

    def __init__(self, real: Mapping[str, str], label: str, tell: Callable[[Cell, Any], None]) -> None:
        """`real` are the digests of all jobs."""
        self._real, self._label, self._tell = real, label, tell

    def __getitem__(self, name: str) -> str:
        """The digest of one data set."""
        self._tell(("digest", name.removeprefix(self._label)), self._real.get(name))
        return self._real[name]

    def __iter__(self) -> Iterator[str]:
        """All names."""
        return iter(self._real)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._real)
