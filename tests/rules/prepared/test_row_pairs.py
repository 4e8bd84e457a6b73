"""Which row is which: by content, whatever was dropped, added, shuffled, cut or rendered otherwise."""

import random
from collections.abc import Sequence

import pytest
from ftcheck_rules.prepared import row_pairs
from ftcheck_rules.prepared.row_pairs import Pairs, Side, pairs

from ftcheck.testing import prepared, token_store, tokenizer

END, BOS = 1_000_000, 1_000_002
Rows = list[list[int]]


def drawn(count: int, size: int = 40, seed: int = 0) -> Rows:
    chance = random.Random(seed)
    return [[BOS, *(chance.randrange(65, 5_000) for _ in range(size)), END] for _ in range(count)]


def found(here: Rows, there: Rows, cut: int | None = None) -> Pairs:
    def side(rows: Sequence[Sequence[int]]) -> Side:
        made = prepared([len(one) for one in rows], tokens=token_store(*rows))
        return Side(made, tokenizer(bos_token_id=BOS))

    return pairs(side(here), side(there), cut)


def together(made: Pairs) -> set[tuple[int, int]]:
    return {(one, other) for part in (made.same, made.close) for one, other in part.tolist()}


def test_the_same_rows_in_another_order_and_number() -> None:
    rows = drawn(6)
    made = found(rows, [rows[4], rows[1], rows[5]])
    assert together(made) == {(4, 0), (1, 1), (5, 2)}
    assert made.missing.tolist() == [0, 2, 3]
    assert not made.in_order
    assert found(rows, rows).in_order


def test_copies_are_paired_one_by_one() -> None:
    [row] = drawn(1)
    made = found([row, row, row], [row, row])
    assert together(made) == {(0, 0), (1, 1)}
    assert made.missing.tolist() == [2]


def test_rows_with_another_beginning_end_or_header() -> None:
    rows = drawn(4)
    changed = [rows[2][1:], [BOS, *rows[0]], [*rows[3], END, 10], [*rows[1][:3], 7, 8, 9, *rows[1][3:]]]
    made = found(rows, changed)
    assert together(made) == {(2, 0), (0, 1), (3, 2), (1, 3)}
    assert not len(made.extra)


def test_rows_that_are_cut_and_rows_that_max_length_cuts() -> None:
    rows = drawn(3)
    made = found(rows, [rows[1][:20], rows[0][:20]])
    assert together(made) == {(1, 0), (0, 1)}
    same = found(rows, [one[:20] for one in rows], cut=20)
    assert len(same.same) == 3


def test_other_rows_are_none_of_these_though_they_share_a_part() -> None:
    rows = drawn(5)
    system = rows[0][1:9]
    here = [[BOS, *system, *one[1:]] for one in rows]
    other = [[BOS, *system, *one[1:]] for one in drawn(3, seed=1)]
    made = found(here, [*other, here[2]])
    assert together(made) == {(2, 3)}
    assert made.extra.tolist() == [0, 1, 2]
    assert made.missing.tolist() == [0, 1, 3, 4]


def test_of_very_many_rows_the_same_ones_are_looked_at_on_both_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_pairs, "MOST_TOKENS", 2_000)
    rows = drawn(200)
    changed = [[*one[:3], 7, *one[3:]] for one in reversed(rows)]
    made = found(rows, changed)
    assert made.unseen > 100
    assert len(made.close) > 30
    assert all(one == 199 - other for one, other in together(made))
    assert not len(made.missing)
    assert not len(made.extra)
    stale = found(rows, drawn(200, seed=1))
    assert len(stale.extra) > 30
