"""Shards in a bucket are prepared as those of a folder are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ray import kit
from tests.s3_server import put

pytest.importorskip("ray")


@pytest.mark.parametrize("made", [kit.json_lines, kit.parquet])
def test_shards_in_a_bucket(
    tmp_path: Path, on_ray: dict[str, Any], made: Callable[[Path, int, int], str]
) -> None:
    train = made(tmp_path, 6_000, 2)
    put(tmp_path, "corpus", f"{made.__name__}/")

    here = kit.prepared(tmp_path, train)
    there = kit.prepared(tmp_path, f"s3://corpus/{made.__name__}/{train}", **on_ray)

    assert kit.on_cluster(there)
    kit.same(here, there, but="files")
    assert there.rows.files == tuple(
        f"s3://corpus/{made.__name__}/{Path(one).name}" for one in here.rows.files
    )
