"""Which ids the rows on disk have: over several batches, empty rows among them."""

from pathlib import Path

import numpy as np
import pytest
from ftcheck_plugins.preparation.arrow_store import RowFile, RowWriter, _of_mask
from ftcheck_plugins.preparation.batches import Batch
from ftcheck_plugins.preparation.token_engines import Ids
from ftcheck_plugins.preparation.trl_tokenize import Tokens

ROWS: tuple[list[int], ...] = ([3, 1, 3], [], [2**25, 5], [7], [], [1, 9])


def written(path: Path) -> RowFile:
    """The rows in batches of two; the first token of each is not in the loss."""
    with RowWriter(path) as writer:
        for start in range(0, len(ROWS), 2):
            rows = ROWS[start : start + 2]
            flat = np.array([one for ids in rows for one in ids], dtype=np.int32)
            starts = np.cumsum([0, *map(len, rows)])
            mask = np.array([place > 0 for ids in rows for place in range(len(ids))], dtype=bool)
            names: tuple[str, ...] = ("file", "line", "offset", "turns", "system", "asked", "said")
            names += ("answered", "spelled", "ending")
            columns = {name: np.zeros(len(rows), dtype=np.int64) for name in names}
            tokens = Tokens(Ids(flat, starts), mask, np.zeros(len(rows), dtype=np.int32), {})
            writer.add(
                Batch(
                    columns, bytes(32 * len(rows)), tokens, "text", {}, {}, {}, (), "tokenizers", (), {}, None
                )
            )
    return RowFile(path)


def test_ids_are_listed_once_and_in_order(tmp_path: Path) -> None:
    store = written(tmp_path / "rows.arrow")
    assert store.used_ids().tolist() == [1, 3, 5, 7, 9, 2**25]
    assert store.used_ids(trained=True).tolist() == [1, 3, 5, 9]


def test_rows_with_an_id_are_found_over_all_batches(tmp_path: Path) -> None:
    store = written(tmp_path / "rows.arrow")
    assert store.rows_with([1]).tolist() == [0, 5]
    assert store.rows_with([5, 7]).tolist() == [2, 3]
    assert store.rows_with([3]).tolist() == [0]
    assert store.rows_with([4]).tolist() == store.rows_with([]).tolist() == []


def test_masks_of_many_rows_are_counted_as_row_by_row() -> None:
    draw = np.random.default_rng(1)
    rows = [draw.random(draw.integers(0, 9)) < 0.6 for _ in range(500)]
    starts = np.cumsum([0, *map(len, rows)])

    trained, answer = _of_mask(np.concatenate(rows), starts)

    runs = ["".join("x" if one else " " for one in row).split() for row in rows]
    assert trained.tolist() == [int(row.sum()) for row in rows]
    assert answer.tolist() == [len(run[-1]) if run else 0 for run in runs]


def test_memory_of_batches_that_were_passed_is_given_back(tmp_path: Path) -> None:
    """A pass over all rows ends with a few batches resident, not with the file; what it read stays right."""
    path = tmp_path / "rows.arrow"
    rows, tokens = 40, 100_000
    names = ("file", "line", "offset", "turns", "system", "asked", "said", "answered", "spelled", "ending")
    with RowWriter(path) as writer:
        for row in range(rows):
            flat = np.arange(row, row + tokens, dtype=np.int32)
            columns = {name: np.zeros(1, dtype=np.int64) for name in names}
            made = Tokens(Ids(flat, np.array([0, tokens])), None, np.zeros(1, dtype=np.int32), {})
            writer.add(Batch(columns, bytes(32), made, "text", {}, {}, {}, (), "tokenizers", (), {}, None))
    store = RowFile(path)
    first = store.ids(0)

    sums = [int(store.ids(row).sum(dtype=np.int64)) for row in range(rows)]

    assert sums == [tokens * row + tokens * (tokens - 1) // 2 for row in range(rows)]
    assert first.tolist() == list(range(tokens))
    assert resident(path) < path.stat().st_size // 2


def resident(path: Path) -> int:
    """Bytes of a mapped file that this process has resident (Linux)."""
    maps = Path("/proc/self/smaps")
    if not maps.exists():
        pytest.skip("only Linux tells what is resident")
    lines = iter(maps.read_text(encoding="utf-8").splitlines())
    size = 0
    for line in lines:
        if line.endswith(str(path)):
            size += next(int(one.split()[1]) << 10 for one in lines if one.startswith("Rss:"))
    return size
