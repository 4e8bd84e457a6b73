"""The histogram of lengths inside a pipeline of Ray Data is that of numpy over the same rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("ray")
LENGTHS = [(7 * n) % 41 for n in range(600)]
ABSENT = 9
"""Rows of so many tokens are null."""
KEPT = np.array([n for n in LENGTHS if n != ABSENT])

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray Data warns of its own settings


def test_the_histogram_is_that_of_all_rows(on_ray: dict[str, Any]) -> None:
    import ray
    from ftcheck_plugins.cluster import connection

    from ftcheck.inputs.container import Run
    from ftcheck.packing.ray_data import LengthHistogram, histogram_of

    connection.connect(Run(folder=None, **on_ray))  # type: ignore[arg-type]
    rows = [{"input_ids": list(range(n)) if n != ABSENT else None} for n in LENGTHS]
    data = ray.data.from_items(rows, override_num_blocks=2)

    found = histogram_of(data.aggregate(LengthHistogram("input_ids")))

    assert found.counts.tolist() == np.bincount(KEPT).tolist()
    assert found.percentile(95) == int(np.sort(KEPT)[int(np.ceil(0.95 * len(KEPT))) - 1])


@pytest.mark.parametrize("kind", [pa.int32(), pa.list_(pa.int32()), pa.large_list(pa.int64())])
def test_a_column_of_lengths_or_of_ids_is_counted_block_by_block(kind: pa.DataType) -> None:
    from ftcheck.packing.ray_data import LengthHistogram

    values = [n if pa.types.is_integer(kind) else [5] * n for n in LENGTHS]
    column = [None if n == ABSENT else value for n, value in zip(LENGTHS, values, strict=True)]
    blocks = [pa.table({"x": pa.array(part, kind)}) for part in (column[:7], column[7:], [])]
    counting = LengthHistogram("x")

    counts: list[int] = []
    for block in blocks:
        counts = counting.combine(counts, counting.aggregate_block(block))

    assert counts == np.bincount(KEPT).tolist()


def test_a_column_of_texts_has_no_lengths() -> None:
    from ftcheck.packing.ray_data import LengthHistogram

    with pytest.raises(TypeError, match="'x' holds string, not token ids or lengths"):
        LengthHistogram("x").aggregate_block(pa.table({"x": ["a"]}))
