"""Columns in files: read as they were written, and given back to the system when they are too much."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ftcheck_plugins.cluster import mapped
from ftcheck_plugins.cluster.mapped import ColumnFiles, MappedColumns, MappedDigests


def test_columns_are_those_that_were_written_part_by_part(tmp_path: Path) -> None:
    parts = [{"a": np.arange(n, dtype=np.int32), "b": np.arange(n) % 2 == 0} for n in (3, 0, 4)]
    with ColumnFiles(tmp_path) as files:
        for part in parts:
            files.add(part)

    found = MappedColumns(tmp_path)

    for name in ("a", "b"):
        whole = np.concatenate([part[name] for part in parts])
        assert found[name].dtype == whole.dtype
        assert np.array_equal(found[name], whole)
        assert not found[name].flags.writeable


def test_a_column_of_no_rows_is_empty(tmp_path: Path) -> None:
    with ColumnFiles(tmp_path) as files:
        files.add({"a": np.zeros(0, dtype=np.int64)})

    assert MappedColumns(tmp_path)["a"].tolist() == []


def test_digests_are_hex() -> None:
    values = np.arange(96, dtype=np.uint8)
    digests = MappedDigests(values)

    assert len(digests) == 3
    assert digests[1] == digests[-2] == values[32:64].tobytes().hex()
    assert digests[1:9] == [digests[1], digests[2]]
    with pytest.raises(IndexError):
        digests[3]


@pytest.mark.skipif(sys.platform != "linux", reason="nothing else tells how much is resident")
def test_what_is_too_much_is_given_back_and_can_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ColumnFiles(tmp_path) as files:
        files.add({"a": np.arange(8 << 20, dtype=np.int64)})
    column = MappedColumns(tmp_path)["a"]
    total = int(column.sum())
    full = mapped._resident() or 0

    monkeypatch.setattr(mapped, "RESIDENT", 0)
    for _ in range(1_000):
        if (mapped._resident() or 0) < full - (32 << 20):
            break
        time.sleep(0.01)

    assert (mapped._resident() or 0) < full - (32 << 20)
    assert int(column.sum()) == total
