"""What runs on the cluster where rows are compared: work over the tokens of a shard, and the steps of a
shuffle. A task knows of its rows, and of the work that it is given; of no policy, and of no rule.
"""

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ftcheck.dedup.shards import Emit, Piece, Reduce, pieces, reduced
from ftcheck_plugins.cluster import parted_records
from ftcheck_plugins.cluster.data_shards import Shard
from ftcheck_plugins.cluster.tasks import node_name, row_file, same_version
from ftcheck_plugins.cluster.work import Gone, Marked, Shuffle, Work

if TYPE_CHECKING:
    from ftcheck.dedup.records import Records

Made = TypeVar("Made")


def over(
    work: Work, shard: Shard, marked: Marked, make: Callable[[Piece], Made], masks: bool
) -> tuple[str, list[Made]]:
    """What `make` makes of the marked rows of a shard, piece by piece; and the node that has its file now."""
    found = pieces(row_file(work, shard), marked.mask(), masks=masks, first=marked.first)
    return node_name(), [make(piece) for piece in found]


def emit(work: Work, shard: Shard, marked: Marked, make: Emit, shuffle: Shuffle) -> str:
    """Make the records of the marked rows of a shard, and write them: the node on which they are now."""
    node = node_name()
    rows = row_file(work, shard)
    records = map(make, pieces(rows, marked.mask(), first=marked.first))
    parted_records.write(shuffle.place(node, shard.number), records, shuffle.parts)
    return node


def fetch(shuffle: Shuffle, shards: tuple[int, ...], part: int) -> "Records":
    """One part of the records of shards that lie on this node. Raises `Gone`."""
    try:
        return parted_records.read([shuffle.place(node_name(), shard) for shard in shards], part)
    except FileNotFoundError:
        raise Gone(*shards) from None


def reduce(version: str, make: Reduce, memory: int, *fetched: "Records | BaseException") -> list["Records"]:
    """What `make` makes of one part of the records, of which each node has given some."""
    same_version(version)
    records = []
    for one in fetched:
        if isinstance(one, BaseException):
            raise one
        records.append(one)
    return list(reduced(records, make, memory))


def forget(shuffle: Shuffle, shards: tuple[int, ...]) -> None:
    """Remove the records of shards that lie on this node."""
    for shard in shards:
        shutil.rmtree(shuffle.place(node_name(), shard), ignore_errors=True)
