"""Duplicates and leakage by tasks: what they find must be what one machine finds in the same rows."""

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcheck.dedup import minhash
from ftcheck.dedup.minhash import LikelyPairs, Signed, likely_pairs
from ftcheck.dedup.overlaps import Overlap, overlaps
from ftcheck.dedup.shards import Piece, Shards, shards_of
from ftcheck.errors import InputError
from ftcheck.inputs.prepared import Prepared
from tests.ray import kit

pytest.importorskip("ray")
from ftcheck_plugins.cluster import connection, merged, shuffle

ROWS = 5_000
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the rows."""
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="module")
def here(folder: Path) -> Prepared:
    """The rows as one machine prepares them."""
    return kit.prepared(folder, kit.likened(folder, ROWS, 3))


@pytest.fixture
def there(folder: Path, here: Prepared, on_ray: dict[str, Any]) -> Prepared:
    """The rows as the cluster prepares them, once for all tests."""
    if folder not in _prepared:
        _prepared[folder] = kit.prepared(folder, "part-*.jsonl", **on_ray)
    return _prepared[folder]


_prepared: dict[Path, Prepared] = {}


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


COUNTING = """
from ftcheck_plugins.cluster import connection, merged, shuffle

merged.FEW, shuffle.PART = 1, 1 << 16
begin = connection.Connection.begun


def begun(self, work, *given):
    with open({path!r}, "a") as file:
        file.write(work.__name__ + "\\n")
    return begin(self, work, *given)


connection.Connection.begun = begun
"""
"""What a process imports before all else: tasks are wanted for the fewest rows, and counted."""


def test_the_report_on_duplicates_and_leakage_is_that_of_one_machine(
    tmp_path: Path, on_ray: dict[str, Any]
) -> None:
    """Byte for byte outside the section `run`."""
    sides = ", eval: eval.jsonl, gold: {path: gold.jsonl, input: input, expected: expected}"
    kit.policy(tmp_path, kit.likened(tmp_path, ROWS, 2), data=sides, training=", eval_strategy: epoch")
    flags = ["--no-cache", "-v", "--select", "duplicates", "--select", "leakage"]
    (tmp_path / "first").mkdir()
    told = tmp_path / "begun.txt"
    (tmp_path / "first" / "sitecustomize.py").write_text(COUNTING.format(path=str(told)), encoding="utf-8")
    first = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "first"), os.environ.get("PYTHONPATH", "")])}

    here = kit.run(tmp_path, *flags)
    there = kit.run(tmp_path, *flags, "--engine", "ray", "--ray-address", on_ray["ray_address"], more=first)

    assert there.told == here.told
    found = {
        one["name"]: one["value"]
        for check in ("duplicates", "leakage")
        for one in here.result(check)["measurements"]
    }
    assert found["rows_duplicate"] > ROWS / 50
    assert found["rows_near_duplicate"] > ROWS / 50
    assert found["eval_leaked"] > 10
    assert found["gold_leaked"] > 10
    tasks = Counter(told.read_text(encoding="utf-8").split())
    assert tasks["emit"] > 1
    assert tasks["fetch"] >= tasks["reduce"] > 10
    assert tasks["over"] > 4
    assert "comparing job" in there.out


def test_pairs_and_overlaps_are_those_of_one_machine(
    here: Prepared, there: Prepared, begun: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each task that sorts may hold next to nothing."""
    assert isinstance(there.tokens, Shards)
    expected = pairs(here)
    monkeypatch.setenv("FTCHECK_SORT_MEMORY", "20000")

    same_pairs(expected, pairs(there))
    assert begun["emit"] == 3
    assert begun["fetch"] >= begun["reduce"] > 10

    assert leaked(here) == leaked(there)
    assert len(leaked(here)) > 20
    assert begun["over"] == 2 * 3  # for what is boilerplate, and for what stands in the rows


def test_masks_come_with_the_rows_where_they_are_asked_for(
    here: Prepared, there: Prepared, begun: Counter[str]
) -> None:
    def joined(of: Prepared) -> tuple[list[int], ...]:
        made = list(shards_of(of.tokens).over(wanted(of), lambda piece: piece, masks=True))
        masks = [one.mask for one in made if one.mask is not None]
        rows, ids = [one.rows for one in made], [one.ids for one in made]
        return tuple(np.concatenate(some).tolist() for some in (rows, ids, masks))

    assert joined(here) == joined(there)
    assert begun["over"] == 3


def test_few_rows_are_compared_by_the_process_that_checks(
    here: Prepared, there: Prepared, begun: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged, "FEW", 10**6)

    same_pairs(pairs(here), pairs(there))

    assert not begun


def test_what_work_runs_into_is_raised(there: Prepared, begun: Counter[str]) -> None:
    """A full disk at sorting, say, is one line as on one machine."""

    def full(given: Any) -> Any:
        raise InputError("/tmp: No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        list(shards_of(there.tokens).over(wanted(there), full))
    with pytest.raises(InputError, match="No space left on device"):
        _shuffled(there, EMIT, full)
    assert begun["reduce"] > 1


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
    tmp_path: Path, here: Prepared, there: Prepared, begun: Counter[str]
) -> None:
    """One at emitting, one at reducing."""
    emit = _dies_once(tmp_path / "emit", EMIT)
    reduce = _dies_once(tmp_path / "reduce", lambda pieces: list(minhash.bucket_pairs(pieces)))

    found = _shuffled(there, emit, reduce)

    assert (tmp_path / "emit").exists()
    assert (tmp_path / "reduce").exists()
    assert begun["emit"] == 3
    assert np.array_equal(found, _shuffled(here, EMIT, minhash.bucket_pairs))
    assert len(found) > 1_000


def test_records_that_are_gone_are_emitted_again(
    tmp_path: Path, here: Prepared, there: Prepared, begun: Counter[str]
) -> None:
    """The first part to be reduced takes all that was prepared and emitted away."""
    node, mark = Path(tempfile.gettempdir()) / there.tokens._shards.work.folder, tmp_path / "mark"  # type: ignore[attr-defined]
    assert list(node.glob("*/*"))

    def losing(pieces: Iterable[Any]) -> Iterator[Any]:
        with suppress(FileExistsError):  # one task alone, of those that are reduced side by side
            mark.touch(exist_ok=False)
            for number, one in enumerate(list(node.glob("*/*"))):
                one.rename(tmp_path / str(number))
        return minhash.bucket_pairs(pieces)

    found = _shuffled(there, EMIT, losing)

    assert mark.exists()
    assert begun["emit"] == 6
    assert np.array_equal(found, _shuffled(here, EMIT, minhash.bucket_pairs))


def _lies_on(of: Prepared, node: str) -> bool:
    """Whether rows lie on a node."""
    return any(one.node == node for one in of.tokens._shards.placed)  # type: ignore[attr-defined]


def test_a_node_that_goes_in_the_shuffle_costs_what_lay_there(
    folder: Path, here: Prepared, on_ray: dict[str, Any], cluster: Any, begun: Counter[str]
) -> None:
    gone = list(cluster.worker_nodes)[-1]
    once = kit.Once(lambda: cluster.remove_node(gone, allow_graceful=False), "comparing", "parts")
    # a busy machine may start the second node's process late: then all rows lie on the first
    tries = (kit.prepared(folder, "part-*.jsonl", report=once, **on_ray) for _ in range(5))
    there = next(one for one in tries if _lies_on(one, gone.node_id))

    found = _shuffled(there, EMIT, minhash.bucket_pairs)

    assert once.done
    assert begun["emit"] > 3
    assert np.array_equal(found, _shuffled(here, EMIT, minhash.bucket_pairs))
