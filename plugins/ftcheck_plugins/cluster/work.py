"""What travels between the process that runs the checks and the tasks that prepare rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.label_digest import LabelDigest
from ftcheck.settings import Job, Outliers, Training
from ftcheck_plugins.cluster.node_folder import node_folder
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
class Kept:
    """A value in Ray's store that a process takes out once for many tasks: taking out a `Work` is as much as
    comparing a thousand rows. `key` is that of no other value.
    """

    key: str
    reference: Any


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


@dataclass(frozen=True)
class Marked:
    """Which rows of a shard are wanted: a bit for each of its `count` rows. `first` is the number of its
    first row over all shards.
    """

    bits: "NDArray[np.uint8]"
    count: int
    first: int

    @classmethod
    def of(cls, mask: "NDArray[np.bool_]", first: int) -> "Marked":
        """Those that a mask marks (one bool a row of the shard)."""
        import numpy as np

        return cls(np.packbits(mask), len(mask), first)

    def mask(self) -> "NDArray[np.bool_]":
        """One bool a row of the shard."""
        import numpy as np

        return np.unpackbits(self.bits, count=self.count).view(bool)


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Records that are brought together in `parts` parts by their first words. `name` is that of no other
    shuffle; `base` and `folder` are those of the preparation.
    """

    name: str
    base: str | None
    folder: str
    parts: int

    def place(self, node: str, shard: int) -> Path:
        """Where the records of a shard are on a node."""
        return node_folder(self.base, self.folder, node) / f"{self.name}-{shard}"


class Gone(Exception):
    """Records of these shards are no longer where they were."""

    @property
    def shards(self) -> tuple[int, ...]:
        """The numbers of the shards."""
        return self.args
