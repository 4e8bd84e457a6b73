"""`--engine ray` says what `--engine local` says, byte for byte outside the section `run` of the report.

What must be found is worked out by the one-machine engine on the same rows, in the same folder.
"""

from pathlib import Path

import pytest

from tests.ray import kit

pytest.importorskip("ray")


@pytest.mark.parametrize("kind", ["json lines", "parquet"])
def test_the_report_is_that_of_one_machine(tmp_path: Path, kind: str) -> None:
    made = kit.json_lines if kind == "json lines" else kit.parquet
    kit.policy(tmp_path, made(tmp_path, 6_000, 3), data=", outliers: {above_percentile: 99, action: drop}")

    here, there = kit.run(tmp_path, "--no-cache"), kit.run(tmp_path, "--no-cache", "--engine", "ray")

    assert there.told == here.told
    assert there.code == here.code
    assert here.result("percentile-seq-len")["measurements"], "something was measured"
    assert here.report["jobs"]["job"]["ids"] is not None or kind == "json lines"
    assert "ray" in there.out


def test_a_data_set_of_a_few_rows_is_the_same_too(tmp_path: Path) -> None:
    kit.policy(tmp_path, kit.json_lines(tmp_path, 200, 2))

    here, there = kit.run(tmp_path, "--no-cache"), kit.run(tmp_path, "--no-cache", "--engine", "ray")

    assert there.told == here.told


def test_a_shard_that_cannot_be_read_is_a_finding_with_its_file_and_row(tmp_path: Path) -> None:
    """The second of three files is cut off: it is named, and the rows of the others are looked at."""
    kit.policy(tmp_path, kit.parquet(tmp_path, 6_000, 3))
    broken = tmp_path / "part-1.parquet"
    broken.write_bytes(broken.read_bytes()[:-200])

    here, there = kit.run(tmp_path, "--no-cache"), kit.run(tmp_path, "--no-cache", "--engine", "ray")

    assert there.told == here.told
    assert list(kit.places(there)) == [("part-1.parquet", 1)]
    assert there.report["inputs"]["job.train"]["rows"] == 4_001


def test_a_row_group_that_cannot_be_read_is_a_finding_and_the_next_is_read(tmp_path: Path) -> None:
    """The first row group of the second file is overwritten: its 1,000 rows are one finding at line 1."""
    kit.policy(tmp_path, kit.parquet(tmp_path, 6_000, 3))
    broken = tmp_path / "part-1.parquet"
    whole = bytearray(broken.read_bytes())
    whole[4:400] = b"\xff" * 396
    broken.write_bytes(whole)

    here, there = kit.run(tmp_path, "--no-cache"), kit.run(tmp_path, "--no-cache", "--engine", "ray")

    assert there.told == here.told
    assert list(kit.places(there)) == [("part-1.parquet", 1)]
    assert there.report["inputs"]["job.train"]["rows"] == 5_001
