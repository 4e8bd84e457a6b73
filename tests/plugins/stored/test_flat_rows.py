"""What is made of stored rows: ids, masks and sequences, worked out by hand."""

from typing import Any

import pyarrow as pa
import pytest
from ftcheck_plugins.stored.flat_rows import FlatRows, Reading, are_shifted, read, unmarked

N = -100
Fed = tuple[list[int], list[bool]]


def of(rows: dict[str, list[Any]], **how: Any) -> FlatRows:
    return read(pa.record_batch(rows), Reading(tuple(rows), **how))


def sequences(found: FlatRows) -> list[Fed]:
    bounds = zip(found.starts[:-1].tolist(), found.starts[1:].tolist(), strict=True)
    return [(found.ids[a:b].tolist(), found.mask[a:b].tolist()) for a, b in bounds]


def test_labels_tell_what_is_in_the_loss() -> None:
    found = of({"input_ids": [[5, 6, 7], [8]], "labels": [[N, 6, 7], [N]]})
    assert sequences(found) == [([5, 6, 7], [False, True, True]), ([8], [False])]
    assert found.row.tolist() == [0, 1]


def test_masks_become_labels_as_trl_makes_them() -> None:
    rows: dict[str, list[Any]] = {"input_ids": [[5, 6, 7]], "assistant_masks": [[0, 1, 1]]}
    assert sequences(of(rows)) == [([5, 6, 7], [False, True, True])]
    rows["completion_mask"] = [[1, 1, 0]]
    assert sequences(of(rows)) == [([5, 6, 7], [False, True, True])]
    assert sequences(of(rows, completion_only=True)) == [([5, 6, 7], [False, True, False])]
    assert sequences(of({"input_ids": [[5, 6]]})) == [([5, 6], [True, True])]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("position_ids", [[0, 1, 0, 1, 2], [0, 1]]),
        ("attention_mask", [[1, 1, 2, 2, 2], [1, 1]]),
        ("seq_lengths", [[2, 3], [2]]),
    ],
)
def test_packed_rows_are_taken_apart(column: str, values: list[list[int]]) -> None:
    rows = {"input_ids": [[5, 6, 7, 8, 9], [1, 2]], "labels": [[N, 6, N, 8, 9], [N, 2]], column: values}
    found = of(rows)
    assert [ids for ids, _ in sequences(found)] == [[5, 6], [7, 8, 9], [1, 2]]
    assert found.row.tolist() == [0, 0, 1]
    assert found.offset.tolist() == [0, 2, 0]
    assert found.stored.tolist() == [5, 2]


def test_eos_tells_sequences_apart_where_the_caller_says_so() -> None:
    rows = {"input_ids": [[5, 2, 7, 2, 9]], "labels": [[5, 2, 7, 2, 9]]}
    assert [ids for ids, _ in sequences(of(rows))] == [[5, 2, 7, 2, 9]]
    assert [ids for ids, _ in sequences(of(rows, eos=2))] == [[5, 2], [7, 2], [9]]
    assert [ids for ids, _ in sequences(of(rows, bos=2))] == [[5], [2, 7], [2, 9]]


def test_rows_of_one_length_without_marks_may_be_packed() -> None:
    def asked(rows: dict[str, list[Any]]) -> bool:
        return unmarked(pa.record_batch(rows), Reading(tuple(rows)))

    ids = [[5, 6], [7, 8], [9]]
    assert asked({"input_ids": ids})
    assert asked({"input_ids": ids, "attention_mask": [[1, 1], [1, 1], [1]]})
    assert not asked({"input_ids": ids, "attention_mask": [[1, 2], [1, 1], [1]]})
    assert not asked({"input_ids": ids, "position_ids": [[0, 0], [0, 1], [0]]})
    assert not asked({"input_ids": [[5, 6], [7], [8, 9]]})


def test_padding_is_left_out_marked_or_not() -> None:
    neat = of(
        {
            "input_ids": [[5, 6, 7, 0, 0]],
            "labels": [[N, 6, 7, N, N]],
            "attention_mask": [[1, 1, 2, 0, 0]],
        }
    )
    assert sequences(neat) == [([5, 6], [False, True]), ([7], [True])]
    assert neat.padding == 2
    plain = of(
        {
            "input_ids": [[5, 6, 7, 0, 0]],
            "labels": [[N, 6, 7, N, N]],
            "attention_mask": [[1, 1, 1, 1, 1]],
            "position_ids": [[0, 1, 2, 0, 0]],
        }
    )
    assert sequences(plain) == [([5, 6, 7], [False, True, True])]
    assert plain.padding == 2
    left = of({"input_ids": [[0, 5, 6]], "labels": [[N, N, 6]], "attention_mask": [[0, 1, 1]]})
    assert sequences(left) == [([5, 6], [False, True])]
    assert left.offset.tolist() == [1]


def test_padding_in_the_loss_is_told_and_kept() -> None:
    found = of({"input_ids": [[5, 6, 0]], "labels": [[N, 6, 0]], "attention_mask": [[1, 1, 0]]})
    assert found.padded
    assert found.padding == 0
    assert sum(len(ids) for ids, _ in sequences(found)) == 3


def test_shifted_labels_are_put_back() -> None:
    rows = {"input_ids": [[5, 6, 7], [5, 8]], "labels": [[N, 7, N], [8, N]]}
    assert are_shifted(pa.record_batch(rows), tuple(rows)) is True
    assert sequences(of(rows, shifted=True)) == [
        ([5, 6, 7], [False, False, True]),
        ([5, 8], [False, True]),
    ]
    cut = {"input_ids": [[5, 6, 7], [5, 8]], "labels": [[6, 7, 9], [N, 4]]}
    assert are_shifted(pa.record_batch(cut), tuple(cut)) is True
    assert sequences(of(cut, shifted=True)) == [
        ([5, 6, 7, 9], [False, True, True, True]),
        ([5, 8, 4], [False, False, True]),
    ]


def test_labels_in_their_place_are_not_taken_for_shifted() -> None:
    same = {"input_ids": [[5, 5, 5, 6]], "labels": [[5, 5, 5, 6]]}
    assert are_shifted(pa.record_batch(same), tuple(same)) is False
    nothing = {"input_ids": [[5, 6]], "labels": [[N, N]]}
    assert are_shifted(pa.record_batch(nothing), tuple(nothing)) is None


def test_a_label_that_is_another_token_is_told() -> None:
    found = of({"input_ids": [[5, 6], [7, 8]], "labels": [[N, 6], [2, 8]]})
    assert list(found.other) == [1]


def test_rows_that_cannot_be_read_keep_their_places() -> None:
    found = of(
        {
            "input_ids": [[5, 6], [], [7, 8], [9, -1], None],
            "labels": [[5, 6], [], [7], [9, 9], None],
        }
    )
    assert [ids for ids, _ in sequences(found)] == [[5, 6], [], [], [], []]
    assert found.row.tolist() == [0, 1, 2, 3, 4]
    assert found.errors == {
        1: "the row has no tokens: input_ids is empty",
        2: "labels has 1 value, input_ids 2",
        3: "input_ids has a value that is no token id",
        4: "the row has no tokens: input_ids is empty",
    }


@pytest.mark.parametrize("label", [-1, None, 1 << 31])
def test_a_label_that_is_no_id_is_an_error_of_its_row(label: int | None) -> None:
    found = of({"input_ids": [[5, 6], [7, 8]], "labels": [[N, 6], [7, label]]})
    assert dict(found.errors) == {1: "labels has a value that is neither a token id nor -100"}


def test_rows_whose_labels_are_mostly_other_tokens_are_displaced() -> None:
    found = of({"input_ids": [[5, 6, 7], [5, 6, 7]], "labels": [[N, 5, 6], [9, 6, 7]]})
    assert (found.other, found.displaced) == ([0, 1], [0])


def test_tokens_that_a_mask_hides_are_padding_where_they_are_one_token_repeated() -> None:
    rows = {"input_ids": [[1, 1, 7], [5, 6, 7]], "labels": [[N, N, 7]] * 2, "attention_mask": [[0, 0, 1]] * 2}
    found = of(rows)
    assert [ids for ids, _ in sequences(found)] == [[7], [7]]
    assert found.hidden == [1]


@pytest.mark.parametrize(("second", "marks"), [([0, 1, 2, 3], False), ([0, 1, 0, 1], True)])
def test_positions_that_never_begin_again_mark_no_sequences(second: list[int], marks: bool) -> None:
    rows = {"input_ids": [[1, 5, 1, 6]] * 2, "position_ids": [[0, 1, 2, 3], second]}
    assert unmarked(pa.record_batch(rows), Reading(tuple(rows))) is not marks
