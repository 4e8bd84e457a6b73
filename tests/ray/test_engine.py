"""`--engine ray` says what `--engine local` says of the same rows, which is what must be found.

The whole report is compared once; the other tests compare what all rules look at.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ftcheck.settings import Outliers
from tests.ray import kit

pytest.importorskip("ray")

DROP, TRUNCATE = (Outliers(above_percentile=99, action=one) for one in ("drop", "truncate"))


def test_the_report_is_that_of_one_machine(tmp_path: Path) -> None:
    """Byte for byte outside the section `run`; on a Ray that is started for it, and ends with it."""
    checks = "data-readable data-schema duplicates vocabulary special-tokens percentile-seq-len truncation"
    flags = [word for one in checks.split() for word in ("--select", one)]
    kit.policy(tmp_path, kit.parquet(tmp_path, 4_000, 2))

    here = kit.run(tmp_path, "--no-cache", "-v", *flags)
    there = kit.run(tmp_path, "--no-cache", "-v", *flags, "--engine", "ray", "--workers", "2")

    assert there.told == here.told
    assert there.code == here.code
    assert here.report["jobs"]["job"]["ids"] is not None
    assert "on a local Ray (2 CPUs)" in there.out
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(one.info["cmdline"])]


@pytest.mark.parametrize("made", [kit.json_lines, kit.parquet])
@pytest.mark.parametrize("outliers", [None, DROP, TRUNCATE])
def test_every_row_is_that_of_one_machine(
    tmp_path: Path, on_ray: dict[str, Any], made: Callable[[Path, int, int], str], outliers: Outliers | None
) -> None:
    train = made(tmp_path, 12_000, 3)

    here = kit.prepared(tmp_path, train, data={"outliers": outliers})
    there = kit.prepared(tmp_path, train, data={"outliers": outliers}, **on_ray)

    assert kit.on_cluster(there)
    kit.same(here, there)
    some = here.tokens.used_ids()[-3:].tolist()
    assert here.tokens.rows_with(some).tolist() == there.tokens.rows_with(some).tolist()


def test_few_rows_are_prepared_here(tmp_path: Path, on_ray: dict[str, Any]) -> None:
    train = kit.json_lines(tmp_path, 200, 2)

    here, there = kit.prepared(tmp_path, train), kit.prepared(tmp_path, train, **on_ray)

    assert not kit.on_cluster(there)
    kit.same(here, there)


def test_a_file_that_cannot_be_read_is_one_row_in_trouble(tmp_path: Path, on_ray: dict[str, Any]) -> None:
    """The second of three files is cut off: it is named, and the rows of the others are looked at."""
    train = kit.parquet(tmp_path, 6_000, 3)
    broken = tmp_path / "part-1.parquet"
    broken.write_bytes(broken.read_bytes()[:-200])

    here, there = kit.prepared(tmp_path, train), kit.prepared(tmp_path, train, **on_ray)

    kit.same(here, there)
    assert len(there) == 4_001
    [row] = there.row_errors
    assert (there.at(row).path, there.at(row).line) == (str(broken), 1)


def test_a_row_group_that_cannot_be_read_is_one_row_in_trouble(
    tmp_path: Path, on_ray: dict[str, Any]
) -> None:
    """The first row group of the second file is overwritten: its 1,000 rows are one finding, at line 1."""
    train = kit.parquet(tmp_path, 6_000, 3)
    broken = tmp_path / "part-1.parquet"
    whole = bytearray(broken.read_bytes())
    whole[4:400] = b"\xff" * 396
    broken.write_bytes(whole)

    here, there = kit.prepared(tmp_path, train), kit.prepared(tmp_path, train, **on_ray)

    kit.same(here, there)
    assert len(there) == 5_001
    [row] = there.row_errors
    assert (there.at(row).path, there.at(row).line) == (str(broken), 1)
    assert "row group 0 cannot be read" in there.row_errors[row].message


def test_a_killed_worker_costs_its_task_only(tmp_path: Path, on_ray: dict[str, Any]) -> None:
    train = kit.json_lines(tmp_path, 24_000, 2)
    once = kit.Once(kit.kill_a_worker)

    there = kit.prepared(tmp_path, train, report=once, **on_ray)

    assert once.done
    kit.same(kit.prepared(tmp_path, train), there)


def test_a_node_that_is_gone_costs_what_lay_there(
    tmp_path: Path, on_ray: dict[str, Any], cluster: Any
) -> None:
    train = kit.json_lines(tmp_path, 24_000, 2)
    gone = list(cluster.worker_nodes)[-1]
    once = kit.Once(lambda: cluster.remove_node(gone, allow_graceful=False))

    there = kit.prepared(tmp_path, train, report=once, **on_ray)

    assert once.done
    kit.same(kit.prepared(tmp_path, train), there)


def test_ids_of_a_node_whose_disk_is_gone_are_made_again(tmp_path: Path, on_ray: dict[str, Any]) -> None:
    train = kit.json_lines(tmp_path, 12_000, 2)
    there = kit.prepared(tmp_path, train, **on_ray)
    for one in {Path(placed.path).parent for placed in there.tokens._shards.placed}:  # type: ignore[attr-defined]
        shutil.rmtree(one)

    kit.same(kit.prepared(tmp_path, train), there)
