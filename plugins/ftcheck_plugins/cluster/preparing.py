"""The first pass on a cluster: shards are prepared by tasks, and their parts put together in data order."""

import os
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck import distribution
from ftcheck.inputs.container import Run
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.records import Progress
from ftcheck.settings import Job
from ftcheck_plugins.cluster import connection, data_shards, merged, tasks
from ftcheck_plugins.cluster.connection import Connection
from ftcheck_plugins.cluster.data_shards import Shard
from ftcheck_plugins.cluster.mapped import ColumnFiles
from ftcheck_plugins.cluster.merged import COLUMNS, MergedRows
from ftcheck_plugins.cluster.placed_shards import PREPARING, Placed
from ftcheck_plugins.cluster.work import Part, Work
from ftcheck_plugins.preparation.batches import BatchMaker, batches
from ftcheck_plugins.preparation.gathered import Gathered, token_count
from ftcheck_plugins.preparation.rendering import Differs
from ftcheck_plugins.preparation.trl_tokenize import row_tokenizer
from ftcheck_plugins.reading.files import Source
from ftcheck_plugins.reading.raw_rows import RawRow

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rows_of(
    job: Job, run: Run, source: Source, tokenizer: Tokenizer | None, name: str, folder: Path
) -> MergedRows | None:
    """The rows of a data set, prepared on the cluster now or by a worker before this one.

    None for one that is not shared: its rows cannot be read piece by piece, or they are so few that no engine
    is chosen for them. `name` is that of the job, and of the split if it is another than `train`. Raises
    `InputError`.
    """
    if not folder.is_dir():
        cut = data_shards.cut(source, connection.processors(run))
        if cut is None or not _FirstPass(job, run, source, tokenizer, name, cut).write(folder):
            return None
    return MergedRows(folder, run, name) if merged.is_merged(folder) else None


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What the first rows of a data set decide: the engine, by `first`, and the layout from a shard on."""

    first: tuple[tuple[RawRow, ...], ...]
    layout: str | None
    settled: int


@dataclass
class _FirstPass:
    """One pass over the shards of a data set."""

    job: Job
    run: Run
    source: Source
    tokenizer: Tokenizer | None
    name: str
    shards: Sequence[Shard]
    found: Gathered = field(default_factory=Gathered)
    began: float = field(default_factory=time.monotonic)

    def write(self, folder: Path) -> bool:
        """Do the pass; the folder appears whole, or not at all. False for too few rows."""
        making = folder.with_name(f"{folder.name}.{os.getpid()}")
        try:
            try:
                done = self._write(making, fast=True)
            except Differs as differs:
                # as on one machine: from now on the trainer's own libraries do all the work
                self.found = Gathered(notes=[str(differs)])
                done = self._write(making, fast=False)
            if done:
                self.found.save(making, self.source.files)
                making.rename(folder)
            return done
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _write(self, making: Path, *, fast: bool) -> bool:
        chosen = self._choose(fast)
        if chosen is None:
            return False
        cluster = connection.connect(self.run)
        work = self._work(chosen, cluster, fast)
        shutil.rmtree(making, ignore_errors=True)
        (making / COLUMNS).mkdir(parents=True)
        placed: list[Placed] = []
        lines = _Lines()
        kept = cluster.kept(work)
        given = [(kept, shard, None) for shard in self.shards]
        with ColumnFiles(making / COLUMNS) as files:
            for part in cluster.in_order(tasks.prepare, given, lambda: self._tell(cluster)):
                shard = self.shards[len(placed)]
                files.add(self._added(part, lines.before(shard, part.lines)))
                placed.append(Placed(shard, len(part.columns["line"]), part.node, part.path))
                self._tell(cluster)
        merged.keep(making, work, placed)
        self._tell(cluster, finished=True)
        return True

    def _choose(self, fast: bool) -> _Chosen | None:
        """Prepare rows from the beginning until it is known how all are prepared; None if it never is."""
        rows = row_tokenizer(self.tokenizer, self.job.training, fast=fast)
        maker = BatchMaker(self.job, self.tokenizer, rows)
        taken: list[tuple[RawRow, ...]] = []
        settled = 0
        for shard in self.shards:
            for raws in batches(iter(shard.rows(self.source))):
                settled = settled if maker.layout is not None else shard.number + 1
                maker.make(raws)
                taken.append(tuple(raws))
                if maker.settled:
                    return _Chosen(tuple(taken), maker.layout, settled)
        return None

    def _work(self, chosen: _Chosen, cluster: Connection, fast: bool) -> Work:
        return Work(
            key=secrets.token_hex(4),
            job=self.job,
            source=self.source,
            tokenised=self.tokenizer is not None,
            fast=fast,
            first=chosen.first,
            layout=chosen.layout,
            settled=chosen.settled,
            folder="nodes" if cluster.base is not None else f"ftcheck-ray-{secrets.token_hex(4)}",
            base=cluster.base,
            current=os.getcwd(),
            offline=self.run.offline,
            cache=self.run.cache,
            version=distribution.version(),
        )

    def _added(self, part: Part, before: int) -> "dict[str, NDArray[Any]]":
        """Take over what is said of a shard's rows; their columns as they are among all rows."""
        import numpy as np

        columns = part.columns | {"line": part.columns["line"] + before}
        columns["system"] = columns["system"].copy()
        self.found.add(part.found, columns["system"], part.found.tokens)
        return columns | {"records": np.frombuffer(part.records, dtype=np.uint8)}

    def _tell(self, cluster: Connection, *, finished: bool = False) -> None:
        detail = cluster.words()
        if finished:
            took = time.monotonic() - self.began
            detail = f"{token_count(self.found.tokens)} tokens  {detail}  {took:.1f} s"
        self.run.report(Progress(f"{PREPARING} {self.name}", self.found.seen, None, "rows", finished, detail))


class _Lines:
    """How many lines of its file stand before each shard."""

    def __init__(self) -> None:
        self._file, self._before = -1, 0

    def before(self, shard: Shard, lines: int) -> int:
        """Those before the next shard, which has so many itself."""
        if shard.file != self._file:
            self._file, self._before = shard.file, 0
        before, self._before = self._before, self._before + lines
        return before
