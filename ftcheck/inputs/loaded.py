"""What `datasets.load_dataset` makes of a job's data files, held against the values in the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reread:
    """Rows in which something is read otherwise in one way.

    `rows` counts them, `first` is the index of the first one; of the first value that differs there: `path`
    within the row, `column` (its first part), `written` in the file and `read` by datasets.
    """

    rows: int
    first: int
    path: str
    column: str
    written: str
    read: str


@dataclass(frozen=True, slots=True)
class AsLoaded:
    """What load_dataset makes of some files.

    `refused` is what it raises (or that its rows are not those of the files), None where it reads them.
    `types` are the types of its columns. `reread` holds what it reads otherwise, by kind: `number` (another
    number), `type` (a text, number or date became another kind of value), `null` (a value became null),
    `text` (another text), `filled` (a key that the row does not have, with null), `lost` (a key is missing).
    """

    total: int
    refused: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    reread: Mapping[str, Reread] = field(default_factory=dict)
