"""The digest over ids and labels: worked out by hand, and the same however the sequences are parted."""

import hashlib
import pickle
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest

from ftcheck.label_digest import CHUNK, IGNORED, LabelDigest, StreamDigest, is_old, like


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def words(values: Any) -> bytes:
    return np.array(values, dtype="<i4").tobytes()


def leaf(rows: list[list[int]]) -> bytes:
    """A chunk by its definition: every label is the id."""
    tokens = words([one for row in rows for one in row])
    return sha(b"\0", sha(words([len(row) for row in rows])), sha(tokens), sha(tokens))


def rows_of(count: int, seed: int = 0) -> list[list[int]]:
    made = Random(seed)
    return [[made.randrange(50_000) for _ in range(made.randrange(0, 5))] for _ in range(count)]


def added(rows: list[list[int]], digest: Any) -> Any:
    flat = np.array([one for row in rows for one in row], dtype=np.int32)
    digest.add_flat(np.array([len(row) for row in rows], dtype=np.int64), flat, flat)
    return digest


def test_a_few_sequences_are_one_chunk() -> None:
    rows = [[1, 2, 3], [], [7]]
    expected = sha(b"\0", sha(words([3, 0, 1])), sha(words([1, 2, 3, 7])), sha(words([1, 2, IGNORED, 7])))
    made = LabelDigest()
    for ids, labels in (([1, 2, 3], [1, 2, IGNORED]), ([], []), ([7], [7])):
        made.add(ids, labels)

    assert made.text() == f"sha256-tree:{expected.hex()}"
    assert added(rows, LabelDigest()).text() == f"sha256-tree:{leaf(rows).hex()}"


def test_no_sequences_have_the_digest_of_nothing() -> None:
    assert LabelDigest().text() == f"sha256-tree:{sha().hex()}"


def test_five_chunks_are_a_tree_whose_fifth_goes_up_as_it_is() -> None:
    rows = rows_of(4 * CHUNK + 1)
    a, b, c, d, e = (leaf(rows[n * CHUNK : (n + 1) * CHUNK]) for n in range(5))
    root = sha(b"\1", sha(b"\1", sha(b"\1", a, b), sha(b"\1", c, d)), e)

    assert added(rows, LabelDigest()).text() == f"sha256-tree:{root.hex()}"


@pytest.mark.parametrize("seed", range(12))
def test_the_digest_is_the_same_however_the_rows_are_parted(seed: int) -> None:
    made = Random(seed)
    rows = rows_of(made.choice((0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 77)), seed)
    whole = added(rows, LabelDigest()).text()
    cuts = sorted({0, len(rows), *(made.randrange(len(rows) + 1) for _ in range(made.randrange(9)))})
    cuts += [cuts[-1]]  # an empty part too
    together = LabelDigest()
    for start, stop in pairwise(cuts):
        part = LabelDigest(start)
        for row in rows[start:stop]:
            part.add(row, row)
        together.add_part(pickle.loads(pickle.dumps(part)))

    assert together.text() == whole


def test_parts_of_parts_are_put_together_too() -> None:
    rows = rows_of(3 * CHUNK)
    middle = added(rows[100:1_500], LabelDigest(100))
    middle.add_part(added(rows[1_500:3_000], LabelDigest(1_500)))
    whole = added(rows[:100], LabelDigest())
    whole.add_part(middle)
    whole.add_part(added(rows[3_000:], LabelDigest(3_000)))

    assert whole.text() == added(rows, LabelDigest()).text()


def test_a_part_that_does_not_follow_is_refused() -> None:
    with pytest.raises(ValueError, match="sequences from 5 on cannot follow those before 0"):
        LabelDigest().add_part(LabelDigest(5))
    with pytest.raises(ValueError, match="the sequences before 5 are missing"):
        LabelDigest(5).text()


def test_order_lengths_and_labels_count() -> None:
    def text(*rows: tuple[list[int], list[int]]) -> str:
        made = LabelDigest()
        for ids, labels in rows:
            made.add(ids, labels)
        return made.text()

    seen = {
        text(([1], [1]), ([2, 3], [2, 3])),
        text(([2, 3], [2, 3]), ([1], [1])),
        text(([1, 2], [1, 2]), ([3], [3])),
        text(([1], [1]), ([2, 3], [IGNORED, 3])),
        text(([1], [1]), ([2, 3], [2, 3]), ([], [])),
    }
    assert len(seen) == 5


def test_what_was_added_may_be_written_over() -> None:
    ids = np.array([1, 2, 3], dtype=np.int32)
    made = LabelDigest()
    made.add_flat(np.array([3]), ids, ids)
    ids[:] = 0

    assert made.text() == added([[1, 2, 3]], LabelDigest()).text()


def test_the_form_before_is_still_made_to_compare_with() -> None:
    rows = [[1, 2], [3]]
    expected = sha(sha(words([2, 1])), sha(words([1, 2, 3])), sha(words([1, 2, 3]))).hex()

    assert added(rows, StreamDigest()).text() == f"sha256:{expected}"
    assert added(rows, like(f"sha256:{expected}")).text() == f"sha256:{expected}"
    assert added(rows, like(None)).text().startswith("sha256-tree:")
    assert [is_old(one) for one in (f"sha256:{expected}", None, "sha256-tree:00")] == [True, False, False]
