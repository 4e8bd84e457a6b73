"""What travels between the process that runs the checks and the tasks that prepare rows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck.label_digest import LabelDigest
from ftcheck.settings import Job, Outliers, Training
from ftcheck_plugins.preparation.gathered import Gathered
from ftcheck_plugins.preparation.truncation_pass import FedRows
from ftcheck_plugins.reading.files import Source
from ftcheck_plugins.reading.raw_rows import RawRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Work:
    """One preparation, as every task of it needs to know it.

    `first` are the first rows of the data set, batch by batch, on which the engine that makes ids is chosen:
    each process chooses on the same ones. `layout` is known from shard `settled` on. Files are made below
    `base`, or below the system's temporary folder where it is None, in folders of the name `folder`.
    `version` is that of ftcheck.
    """

    key: str
    job: Job
    source: Source
    tokenised: bool
    fast: bool
    first: tuple[tuple[RawRow, ...], ...]
    layout: str | None
    settled: int
    folder: str
    base: str | None
    current: str
    offline: bool
    cache: bool
    version: str


@dataclass(frozen=True, slots=True)
class Part:
    """A shard that was prepared: what is said of its rows, their columns and digests (32 bytes each).

    Ids and masks stay in `path` on the machine of `node`. `lines` are those of the piece, blank ones too.
    """

    found: Gathered
    columns: "dict[str, NDArray[np.integer]]"
    records: bytes
    lines: int
    node: str
    path: str


@dataclass(frozen=True, slots=True)
class Feeding:
    """What the second pass wants of a shard: see `truncation_pass`. `broken` are its rows in trouble, `first`
    is the number of its first sequence among all; with `bare` its digest alone is wanted.
    """

    training: Training
    outliers: Outliers | None
    limit: int | None
    layout: str
    broken: tuple[int, ...]
    first: int
    bare: bool = False


@dataclass(frozen=True, slots=True)
class FedPart:
    """What the second pass found: what is fed, its digest, and which ids occur (all, and those in the loss).

    `count` sequences are fed. `rows` and ids are None where the digest alone was wanted.
    """

    count: int
    digest: LabelDigest
    rows: FedRows | None
    ids: "tuple[NDArray[np.int64], NDArray[np.int64]] | None"
