"""Records in a folder, part by part: the same as all batches parted at once."""

from pathlib import Path

import numpy as np
import pytest
from ftcheck_plugins.cluster import parted_records

from ftcheck.dedup.records import parted


def batches(random: np.random.Generator, count: int, words: int) -> list[np.ndarray]:
    sizes = random.integers(0, 50, size=count)
    return [random.integers(0, 2**63, size=(size, words), dtype=np.uint64) for size in sizes]


@pytest.mark.parametrize("words", [2, 3])
@pytest.mark.parametrize("parts", [1, 7])
@pytest.mark.parametrize("stretch", [1, 900, 1 << 20])
def test_a_part_is_that_of_all_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stretch: int, parts: int, words: int
) -> None:
    monkeypatch.setattr(parted_records, "STRETCH", stretch)
    random = np.random.default_rng(parts)
    shards = [batches(random, count, words) for count in (4, 0, 1)]
    places = [tmp_path / f"shard-{number}" for number in range(len(shards))]

    for place, made in zip(places, shards, strict=True):
        parted_records.write(place, iter(made), parts)

    for part in range(parts):
        expected = [parted(batch, parts)[part] for made in shards for batch in made]
        assert np.array_equal(parted_records.read(places, part), np.concatenate(expected))


def test_records_that_are_written_again_are_the_same(tmp_path: Path) -> None:
    """A task that is done again, where its first try has come to its end or has not."""
    made = batches(np.random.default_rng(0), 3, 2)
    place = tmp_path / "shard"

    for _ in range(2):
        parted_records.write(place, iter(made), 1)

    assert np.array_equal(parted_records.read([place], 0), np.concatenate(made))
    assert [one.name for one in tmp_path.iterdir()] == ["shard"]


def test_no_records_are_none(tmp_path: Path) -> None:
    parted_records.write(tmp_path / "shard", [], 3)

    assert len(parted_records.read([tmp_path / "shard"], 2)) == 0
