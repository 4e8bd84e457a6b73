"""What the first pass found out of rows beside their columns and tokens: gathered batch by batch, or part by
part, in data order, and kept as JSON beside the columns.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ftcheck.inputs import columns
from ftcheck.inputs.columns import Keys, KeySet
from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.row_numbers import RowNumbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DONE = "done.json"
MAX_SYSTEM_PROMPTS = 1_000
MAX_KEY_SETS = 1_000


class Some(Protocol):
    """What is said of some rows that follow one another, under their own numbers: see `Batch`.

    `prompts` are the different system prompts in their order; beyond the first ones digests may stand in
    their place.
    """

    @property
    def layout(self) -> str | None: ...
    @property
    def row_errors(self) -> Mapping[int, RowError]: ...
    @property
    def remarks(self) -> Mapping[str, Sequence[int]]: ...
    @property
    def marks(self) -> Mapping[str, Sequence[int]]: ...
    @property
    def prompts(self) -> Sequence[str | bytes]: ...
    @property
    def engine(self) -> str: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def key_sets(self) -> Mapping[Keys, list[int]]: ...
    @property
    def opening(self) -> Mapping[str, str] | None: ...


@dataclass
class Gathered:
    """What is said of the rows so far. `whole` is false for a part of a data set: it leaves to the whole what
    is said of the first ones only.
    """

    whole: bool = True
    layout: str | None = None
    row_errors: dict[int, RowError] = field(default_factory=dict)
    remarks: dict[str, RowNumbers] = field(default_factory=dict)
    marks: dict[str, RowNumbers] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    key_sets: dict[Keys, list[int]] = field(default_factory=dict)
    opening: Mapping[str, str] | None = None
    engine: str = "tokenizers"
    seen: int = 0
    tokens: int = 0
    _texts: list[str] = field(default_factory=list)
    _prompts: dict[bytes, int] = field(default_factory=dict)

    @property
    def prompts(self) -> Sequence[str | bytes]:
        """The different system prompts: the texts of the first ones, sha256 of the others."""
        return [*self._texts, *list(self._prompts)[len(self._texts) :]]

    def add(self, some: Some, system: "NDArray[np.integer[Any]]", tokens: int) -> None:
        """Take over what is said of the next rows. `system` holds the index of each one's system prompt among
        `some.prompts` (-1: none), and is changed to that among all.
        """
        self.layout = self.layout or some.layout
        self.row_errors.update((self.seen + n, trouble) for n, trouble in some.row_errors.items())
        for mine, theirs in ((self.remarks, some.remarks), (self.marks, some.marks)):
            for code, found in theirs.items():
                mine.setdefault(code, RowNumbers()).add(found, self.seen)
        if self.opening is None:
            self.opening = some.opening
        for one, (number, first) in some.key_sets.items():
            held = self.key_sets.setdefault(self._keys(one), [0, self.seen + first])
            held[0] += number
        self._number(some.prompts, system)
        self.engine = some.engine
        self.notes.extend(note for note in some.notes if note not in self.notes)
        self.tokens += tokens
        self.seen += len(system)

    def _keys(self, one: Keys) -> Keys:
        """A set of keys; of very many, beyond the first ones, those that TRL looks at."""
        if one in self.key_sets or len(self.key_sets) < MAX_KEY_SETS or not self.whole:
            return one
        return one._replace(names=tuple(sorted({*one.names} & {*columns.LOOKED_AT})))

    def _number(self, prompts: Sequence[str | bytes], system: "NDArray[np.integer[Any]]") -> None:
        """Number system prompts as they are numbered over all rows."""
        import numpy as np

        if prompts:
            numbers = np.array([self._system(one) for one in prompts], dtype=system.dtype)
            some = system >= 0
            system[some] = numbers[system[some]]

    def _system(self, prompt: str | bytes) -> int:
        """The number of a prompt; of a whole data set's prompts beyond the first ones, the next one."""
        digest = prompt if isinstance(prompt, bytes) else _digest(prompt)
        known = self._prompts.get(digest)
        if known is not None:
            return known
        if len(self._prompts) >= MAX_SYSTEM_PROMPTS and self.whole:
            return len(self._prompts)
        if isinstance(prompt, str) and len(self._texts) < MAX_SYSTEM_PROMPTS:
            self._texts.append(prompt)
        return self._prompts.setdefault(digest, len(self._prompts))

    def save(self, folder: Path, files: Iterable[str], sample: list[int] | None = None) -> None:
        """Write it into a folder; `files` are those of the rows, `sample` says of how many they are drawn."""
        about = {
            "files": list(files),
            "format": self.layout or "unknown",
            "row_errors": [
                [row, t.code, t.message, t.fix, t.column, t.content] for row, t in self.row_errors.items()
            ],
            "remarks": {code: found.text() for code, found in self.remarks.items()},
            "marks": {mark: found.text() for mark, found in self.marks.items()},
            "system_prompts": self._texts,
            "notes": self.notes,
            "key_sets": [[*one, *counts] for one, counts in self.key_sets.items()],
            "opening": self.opening or {},
            "engine": self.engine,
            "sample": sample,
        }
        (folder / DONE).write_text(json.dumps(about), encoding="utf-8")


def _digest(prompt: str) -> bytes:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()


def key_set(names: list[str], switches: bool, talks: list[str], rows: int, first: int) -> KeySet:
    """As `Gathered.save` wrote it."""
    return KeySet(Keys(tuple(names), switches, tuple(talks)), rows, first)


def token_count(number: int) -> str:
    """So many tokens, in few characters."""
    return f"{number / 1e6:,.2f} M" if number >= 1e6 else f"{number:,}"
