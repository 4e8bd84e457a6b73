"""Records are sorted outside memory: the same order for any memory, and nothing is left on the disk."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcheck.dedup.records import Sorter, ordered, parted
from ftcheck.errors import InputError


def some(count: int, width: int, different: int, seed: int = 0) -> Any:
    """Records with few different first words, so that the second ones decide."""
    random = np.random.default_rng(seed)
    made = random.integers(0, 2**64 - 1, size=(count, width), dtype=np.uint64)
    made[:, 0] = random.integers(0, 2**64 - 1, size=different, dtype=np.uint64)[
        random.integers(0, different, size=count)
    ]
    return made


def in_order(records: Any) -> list[tuple[int, ...]]:
    return sorted(map(tuple, records.tolist()))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("different", [1, 3, 1_000_000])
def test_records_are_in_the_order_of_their_words(width: int, different: int) -> None:
    records = some(5_000, width, different)
    assert list(map(tuple, ordered(records).tolist())) == in_order(records)


@pytest.mark.parametrize("memory", [16_000, 60_000, 10_000_000])
@pytest.mark.parametrize("different", [1, 50, 1_000_000])
@pytest.mark.parametrize("width", [2, 3])
def test_any_memory_gives_the_same_order(temporary: Path, memory: int, different: int, width: int) -> None:
    records = some(5_000, width, different)
    with Sorter(memory) as sorter:
        for start in range(0, 5_000, 777):
            sorter.add(records[start : start + 777])
        pieces = list(sorter.pieces())
        spilled = sorter.spilled > 0

    assert list(map(tuple, np.concatenate(pieces).tolist())) == in_order(records)
    assert spilled == (memory < records.nbytes)
    assert not any(temporary.iterdir())
    assert max(piece.nbytes for piece in pieces) <= memory / 32


def test_no_records_are_no_pieces() -> None:
    with Sorter(1_000) as sorter:
        sorter.add(np.zeros((0, 2), dtype=np.uint64))
        assert list(sorter.pieces()) == []


def test_parts_hold_each_record_once_and_a_first_word_lies_in_one_part() -> None:
    records = some(3_000, 2, 40)

    parts = parted(records, 7)

    assert len(parts) == 7
    assert in_order(np.concatenate(parts)) == in_order(records)
    words = [set(part[:, 0].tolist()) for part in parts]
    assert sum(map(len, words)) == len(set(records[:, 0].tolist()))


def test_a_full_disk_is_one_line_that_names_the_folder_and_nothing_is_left(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ftcheck.dedup.records._written", full)
    with pytest.raises(InputError) as raised, Sorter(16_000) as sorter:
        sorter.add(some(5_000, 2, 10))

    line = str(raised.value)
    assert "\n" not in line
    assert str(temporary) in line
    assert "No space left on device" in line
    assert "TMPDIR" in line
    assert not any(temporary.iterdir())


def test_a_disk_that_takes_no_more_gives_all_of_it_back(tmp_path: Path) -> None:
    program = """
import resource, numpy as np
from ftcheck.dedup.records import Sorter
from ftcheck.errors import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with Sorter(20_000) as sorter:
        sorter.add(np.zeros((20_000, 2), dtype=np.uint64))
except InputError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = ran.stdout.splitlines()
    assert line.startswith(f"{tmp_path}: File too large")
    assert not any(tmp_path.iterdir())
