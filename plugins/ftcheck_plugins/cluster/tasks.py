"""What runs on the cluster: the preparation of one shard, and its second pass.

A task is a function of its arguments alone. What it makes may be lost with its process or its machine, and
is made again by whoever needs it.
"""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ftcheck import distribution
from ftcheck.errors import InputError
from ftcheck.inputs.container import Run
from ftcheck.inputs.tokenizer import Tokenizer
from ftcheck.label_digest import LabelDigest
from ftcheck_plugins.cluster.data_shards import Shard
from ftcheck_plugins.cluster.node_folder import node_folder
from ftcheck_plugins.cluster.work import FedPart, Feeding, Kept, Part, Work
from ftcheck_plugins.model import tokenizer
from ftcheck_plugins.preparation import truncation_pass
from ftcheck_plugins.preparation.arrow_store import INT32, INT64, ROWS, RowFile, RowWriter
from ftcheck_plugins.preparation.batches import BatchMaker, batches
from ftcheck_plugins.preparation.gathered import Gathered
from ftcheck_plugins.preparation.processes import sendable, uncollected
from ftcheck_plugins.preparation.trl_tokenize import RowTokenizer, row_tokenizer
from ftcheck_plugins.preparation.truncation_pass import ScratchArrays

Made = TypeVar("Made")


def answered(work: Callable[..., Made], *arguments: Any) -> Made | BaseException:
    """What a task returns: its result, or what it ran into, which Ray would wrap."""
    try:
        return work(*map(_taken_out, arguments))
    except Exception as error:
        return sendable(error)


_values: dict[str, Any] = {}
"""The value that this process keeps, by its key."""


def _taken_out(argument: Any) -> Any:
    """An argument as its task wants it."""
    if not isinstance(argument, Kept):
        return argument
    if argument.key not in _values:
        _values.clear()
        _values[argument.key] = sys.modules["ray"].get(argument.reference)
    return _values[argument.key]


def prepare(work: Work, shard: Shard) -> Part:
    """The first pass over a shard. Raises `Differs` and `InputError`."""
    opened, node = _opened(work), node_name()
    folder = node_folder(work.base, work.folder, node)
    found, records, lines = _written(work, opened, shard, folder / _name(work, shard))
    path = folder / _name(work, shard) / ROWS
    file = RowFile(path)
    columns = {name: file.column(name).copy() for name in (*INT32, *INT64)}
    return Part(found, columns, records, lines, node, str(path))


def feed(work: Work, shard: Shard, feeding: Feeding) -> FedPart:
    """The second pass over a shard, which is prepared again where its file is not here."""
    opened, file = _opened(work), row_file(work, shard)
    desk = ScratchArrays(node_folder(work.base, work.folder, node_name()))
    digest = LabelDigest(feeding.first)
    length = file.column("length")
    good = truncation_pass.good_rows(len(length), feeding.broken)
    stretches, outlier = truncation_pass.sequences(
        length, good, feeding.outliers, feeding.limit, feeding.layout, desk
    )
    rows = truncation_pass.feed(file, stretches, outlier, feeding.training, opened.tokenizer, desk, digest)
    if feeding.bare:
        return FedPart(len(rows.sequences), digest, None, None)
    return FedPart(len(rows.sequences), digest, rows, (file.used_ids(), file.used_ids(trained=True)))


def rows_with(work: Work, shard: Shard, ids: tuple[int, ...]) -> Any:
    """The rows of a shard (by number in it) that have any of these ids."""
    return row_file(work, shard).rows_with(ids)


def token_files(work: Work, shard: Shard) -> list[tuple[str, bytes]]:
    """The files of a shard, ids and masks and what lies beside them: names and bytes."""
    place = _file(work, shard).parent
    return [(one.name, one.read_bytes()) for one in sorted(place.iterdir())]


def same_version(version: str) -> None:
    """Raise `InputError` where this node has another version of ftcheck."""
    if version != distribution.version():
        raise InputError(
            f"a node of the Ray cluster has ftcheck {distribution.version()}, this is {version}: install the"
            " same version on all nodes"
        )


def row_file(work: Work, shard: Shard) -> RowFile:
    """The rows of a shard, which is prepared again where its file is not on this node."""
    same_version(work.version)
    return RowFile(_file(work, shard))


def node_name() -> str:
    """The name of the node that this task runs on."""
    ray = sys.modules["ray"]
    name: str = ray.get_runtime_context().get_node_id()
    return name


@dataclass(slots=True)
class _Opened:
    """What a process opens once for all its tasks of a preparation."""

    key: str
    tokenizer: Tokenizer | None
    rows: RowTokenizer | None


_known: dict[str, _Opened] = {}


def _opened(work: Work) -> _Opened:
    if work.key not in _known:
        _known.clear()
        _known[work.key] = _open(work)
    return _known[work.key]


def _open(work: Work) -> _Opened:
    """The tokenizer, and the engine as it was chosen on the first rows."""
    same_version(work.version)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with suppress(OSError):
        os.chdir(work.current)
    _one_thread()
    if not work.tokenised:
        return _Opened(work.key, None, None)
    run = Run(folder=Path(), offline=work.offline, cache=work.cache)
    opened = tokenizer.tokenizer.open(work.job, run)
    rows = row_tokenizer(opened, work.job.training, fast=work.fast)
    maker = BatchMaker(work.job, opened, rows)
    for raws in work.first:
        maker.make(raws)
    return _Opened(work.key, opened, rows)


def _one_thread() -> None:
    """Each task has one processor."""
    import pyarrow as pa

    pa.set_cpu_count(1)


def _file(work: Work, shard: Shard) -> Path:
    """The file of ids and masks on this node, made again where it is not there."""
    place = node_folder(work.base, work.folder, node_name()) / _name(work, shard)
    if not (place / ROWS).is_file():
        _written(work, _opened(work), shard, place)
    return place / ROWS


def _written(work: Work, opened: _Opened, shard: Shard, place: Path) -> tuple[Gathered, bytes, int]:
    """Prepare a shard into a folder, which appears whole: what is said of its rows, digests, lines."""
    found, records = Gathered(whole=False), []
    layout = work.layout if shard.number >= work.settled else None
    maker = BatchMaker(work.job, opened.tokenizer, opened.rows, layout)
    making = place.with_name(f"{place.name}.{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    rows = shard.rows(work.source)
    with RowWriter(making / ROWS) as writer:
        for raws in batches(iter(rows)):
            with uncollected():
                batch = maker.make(raws)
            found.add(batch, batch.columns["system"], len(batch.tokens.ids.flat))
            writer.add(batch)
            records.append(batch.records)
    shutil.rmtree(place, ignore_errors=True)
    making.rename(place)
    return found, b"".join(records), rows.count


def _name(work: Work, shard: Shard) -> str:
    return f"{work.key}-{shard.number}"
