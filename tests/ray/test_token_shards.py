"""Duplicates and leakage by tasks: what they find must be what one machine finds in the same rows."""

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcheck.dedup import minhash
from ftcheck.dedup.minhash import LikelyPairs, Signed, likely_pairs
from ftcheck.dedup.overlaps import Overlap, overlaps
from ftcheck.dedup.shards import Piece, Shards, shards_of
from ftcheck.inputs.prepared import Prepared
from tests.ray import kit

pytest.importorskip("ray")
from ftcheck_plugins.cluster import connection, merged, shuffle

ROWS = 6_000
SIZE, LEAST, MEMORY = 5, 16, 64 << 20


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many tasks of which kind were begun; however few the rows are, and in parts of some hundred."""
    monkeypatch.setattr(merged, "FEW", 1)
    monkeypatch.setattr(shuffle, "PART", 1 << 16)
    counts: Counter[str] = Counter()
    begin = connection.Connection.begun

    def counted(self: connection.Connection, work: Callable[..., Any], *given: Any) -> Any:
        counts[work.__name__] += 1
        return begin(self, work, *given)

    monkeypatch.setattr(connection.Connection, "begun", counted)
    return counts


def wanted(of: Prepared) -> Any:
    """Nearly all rows: none of the first thousand, and not every third of the others."""
    return (np.arange(len(of)) >= 1_000) & (np.arange(len(of)) % 3 > 0)


def pairs(of: Prepared) -> LikelyPairs:
    none = np.zeros(0, dtype=np.uint64)
    return likely_pairs(shards_of(of.tokens), wanted(of), Signed(SIZE, LEAST, none), MEMORY, 10**6)


def leaked(of: Prepared) -> dict[int, Overlap]:
    texts = [of.tokens.ids(row)[3:-9].copy() for row in range(0, len(of), 101)]
    return overlaps(texts, shards_of(of.tokens), wanted(of), 13, 8)


def same_pairs(here: LikelyPairs, there: LikelyPairs) -> None:
    assert len(here.pairs) > 100
    assert here.pairs.tolist() == there.pairs.tolist()
    assert here.left_out == there.left_out


def test_the_report_on_duplicates_and_leakage_is_that_of_one_machine(
    tmp_path: Path, on_ray: dict[str, Any]
) -> None:
    """Byte for byte outside the section `run`, with more rows than stay with the process that checks."""
    rows = merged.FEW * 5 // 4
    sides = ", eval: eval.jsonl, gold: {path: gold.jsonl, input: input, expected: expected}"
    kit.policy(tmp_path, kit.likened(tmp_path, rows, 2), data=sides, training=", eval_strategy: epoch")
    flags = ["--no-cache", "-v", "--select", "duplicates", "--select", "leakage"]

    here = kit.run(tmp_path, *flags)
    there = kit.run(tmp_path, *flags, "--engine", "ray", "--ray-address", on_ray["ray_address"])

    assert there.told == here.told
    found = {one["name"]: one["value"] for one in here.result("duplicates")["measurements"]}
    found |= {one["name"]: one["value"] for one in here.result("leakage")["measurements"]}
    assert found["rows_duplicate"] > rows / 50
    assert found["rows_near_duplicate"] > rows / 50
    assert found["eval_leaked"] > 10
    assert found["gold_leaked"] > 10
    assert "comparing job" in there.out
    assert "comparing job" not in here.out


def test_pairs_and_overlaps_are_those_of_one_machine(
    tmp_path: Path, on_ray: dict[str, Any], begun: Counter[str]
) -> None:
    train = kit.likened(tmp_path, ROWS, 3)
    here, there = kit.prepared(tmp_path, train), kit.prepared(tmp_path, train, **on_ray)
    assert isinstance(there.tokens, Shards)
    shards = len(list((tmp_path).glob("part-*.jsonl")))

    same_pairs(pairs(here), pairs(there))
    assert begun["emit"] >= shards
    assert begun["reduce"] > 10
    assert begun["fetch"] >= begun["reduce"]

    assert leaked(here) == leaked(there)
    assert len(leaked(here)) > 20
    assert begun["over"] >= 2 * shards  # for what is boilerplate, and for what stands in the rows


def test_masks_come_with_the_rows_where_they_are_asked_for(
    tmp_path: Path, on_ray: dict[str, Any], begun: Counter[str]
) -> None:
    train = kit.likened(tmp_path, ROWS, 2)
    here, there = kit.prepared(tmp_path, train), kit.prepared(tmp_path, train, **on_ray)

    def joined(of: Prepared) -> tuple[list[int], ...]:
        made = list(shards_of(of.tokens).over(wanted(of), lambda piece: piece, masks=True))
        masks = [one.mask for one in made if one.mask is not None]
        rows, ids = [one.rows for one in made], [one.ids for one in made]
        return tuple(np.concatenate(some).tolist() for some in (rows, ids, masks))

    assert joined(here) == joined(there)
    assert begun["over"] > 1


def test_few_rows_are_compared_by_the_process_that_checks(
    tmp_path: Path, on_ray: dict[str, Any], begun: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = kit.likened(tmp_path, ROWS, 2)
    there = kit.prepared(tmp_path, train, **on_ray)
    monkeypatch.setattr(merged, "FEW", 10**6)
    before = dict(begun)

    found = pairs(there)

    assert dict(begun) == before
    same_pairs(pairs(kit.prepared(tmp_path, train)), found)


def _dies_once(mark: Path, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same work, of which the first try is killed."""

    def dying(given: Any) -> Any:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return work(given)

    return dying


def _shuffled(of: Prepared, emit: Callable[[Piece], Any], reduce: Callable[..., Any]) -> Any:
    """All records of a shuffle, in order."""
    made = np.concatenate(list(shards_of(of.tokens).shuffled(wanted(of), emit, reduce)))
    return np.sort(made.view([("later", "u8"), ("earlier", "u8")]), axis=0)


EMIT = partial(minhash.band_records, Signed(SIZE, LEAST, np.zeros(0, dtype=np.uint64)))


def test_a_worker_that_is_killed_costs_its_task_only(
    tmp_path: Path, on_ray: dict[str, Any], begun: Counter[str]
) -> None:
    """One at emitting, one at reducing."""
    train = kit.likened(tmp_path, ROWS, 2)
    here, there = kit.prepared(tmp_path, train), kit.prepared(tmp_path, train, **on_ray)
    emit = _dies_once(tmp_path / "emit", EMIT)
    reduce = _dies_once(tmp_path / "reduce", lambda pieces: list(minhash.bucket_pairs(pieces)))

    found = _shuffled(there, emit, reduce)

    assert (tmp_path / "emit").exists()
    assert (tmp_path / "reduce").exists()
    assert np.array_equal(found, _shuffled(here, EMIT, minhash.bucket_pairs))
    assert len(found) > 1_000


def test_records_that_are_gone_are_emitted_again(
    tmp_path: Path, on_ray: dict[str, Any], begun: Counter[str]
) -> None:
    """The first part to be reduced takes all that was prepared and emitted away."""
    train = kit.likened(tmp_path, ROWS, 2)
    here, there = kit.prepared(tmp_path, train), kit.prepared(tmp_path, train, **on_ray)
    folder, mark = Path(tempfile.gettempdir()) / there.tokens._parts.work.folder, tmp_path / "mark"  # type: ignore[attr-defined]
    assert any(folder.iterdir())

    def losing(pieces: Iterable[Any]) -> Iterator[Any]:
        if not mark.exists():
            mark.touch()
            for one in folder.glob("*/*"):
                shutil.rmtree(one)
        return minhash.bucket_pairs(pieces)

    found = _shuffled(there, EMIT, losing)

    assert mark.exists()
    assert begun["emit"] > len({one.shard for one in there.tokens._parts.placed})  # type: ignore[attr-defined]
    assert np.array_equal(found, _shuffled(here, EMIT, minhash.bucket_pairs))


def test_a_node_that_goes_in_the_shuffle_costs_what_lay_there(
    tmp_path: Path, on_ray: dict[str, Any], cluster: Any, begun: Counter[str]
) -> None:
    train = kit.likened(tmp_path, ROWS, 2)
    gone = list(cluster.worker_nodes)[-1]
    once = kit.Once(lambda: cluster.remove_node(gone, allow_graceful=False), "comparing")
    here, there = kit.prepared(tmp_path, train), kit.prepared(tmp_path, train, report=once, **on_ray)

    found = _shuffled(there, EMIT, minhash.bucket_pairs)

    assert once.done
    assert np.array_equal(found, _shuffled(here, EMIT, minhash.bucket_pairs))
