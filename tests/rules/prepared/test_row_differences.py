"""Each kind of difference between two preparations of one row, planted by hand."""

import numpy as np
import pytest
from ftcheck_rules.prepared.row_differences import Comparison, Difference, Kind, Tokens

from ftcheck.testing import tokenizer

END, BOS, HEAD = 1_000_000, 1_000_002, 1_000_004
ASK, ANSWER = [65, 66, 67, 68], [70, 71, 72]
SPACE = 32


def row(text: str, *ids: int) -> Tokens:
    """A row of these ids; `+` in the text are those in the loss."""
    return Tokens(np.array(ids, dtype=np.int32), np.array([one == "+" for one in text]))


HERE = row("------+++++", BOS, *ASK, HEAD, *ANSWER, END, SPACE)


def told(there: Tokens, here: Tokens = HERE) -> list[Kind]:
    return [one.kind for one in differences(there, here)]


def differences(there: Tokens, here: Tokens = HERE) -> list[Difference]:
    return Comparison(tokenizer(bos_token_id=BOS)).of(here, there)


def of(text: str) -> Tokens:
    return row(text, *HERE.ids.tolist())


@pytest.mark.parametrize(
    ("there", "kind"),
    [
        (row("-----+++++", *ASK, HEAD, *ANSWER, END, SPACE), Kind.BOS_MISSING),
        (row("-------+++++", BOS, BOS, *ASK, HEAD, *ANSWER, END, SPACE), Kind.BOS_ADDED),
        (row("------+++", BOS, *ASK, HEAD, *ANSWER), Kind.STOP_MISSING),
        (row("------++++++", BOS, *ASK, HEAD, *ANSWER, END, END, SPACE), Kind.STOP_ADDED),
        (row("------++++", BOS, *ASK, HEAD, *ANSWER, END), Kind.BLANK_END),
        (row("------++", BOS, *ASK, HEAD, *ANSWER[:2]), Kind.CUT),
        (row("----+++++", BOS, *ASK[:2], HEAD, *ANSWER, END, SPACE), Kind.LEFT_OUT),
        (row("------+++++", BOS, *ASK, HEAD, 70, 90, 72, END, SPACE), Kind.TEXT),
        (of("+++++++++++"), Kind.ALL_TRAINED),
        (of("-----------"), Kind.NONE_TRAINED),
        (of("-----++++++"), Kind.HEADER_TRAINED),
        (of("--+---+++++"), Kind.PROMPT_TRAINED),
        (of("------++++-"), Kind.NEWLINE_MASKED),
        (of("------+++--"), Kind.STOP_MASKED),
        (of("------+-+++"), Kind.PART_MASKED),
    ],
)
def test_a_planted_difference_has_its_name(there: Tokens, kind: Kind) -> None:
    assert told(there) == [kind]


def test_equal_rows_have_none() -> None:
    assert told(HERE) == []


def test_the_loss_behind_an_answer() -> None:
    masked = of("------+++--")
    assert told(of("------++++-"), masked) == [Kind.STOP_TRAINED]
    assert told(HERE, of("------++++-")) == [Kind.NEWLINE_TRAINED]


def test_an_answer_that_is_left_out_and_one_that_begins_early() -> None:
    two = [BOS, *ASK, *ANSWER, END, *ASK, *ANSWER, END]
    both, last = row("-----++++----++++", *two), row("-------------++++", *two)
    assert told(last, both) == [Kind.ANSWER_MASKED]
    assert told(row("-----++++---+++++", *two), both) == [Kind.STARTS_EARLY]


def test_a_difference_names_its_first_token_in_the_folder() -> None:
    [found] = differences(row("------+++++", BOS, *ASK, HEAD, 70, 90, 72, END, SPACE))
    assert found.place == 7
    assert found.change == ((71,), (90,))
    assert 90 in found.there
    assert 71 in found.here


def test_labels_need_not_be_compared() -> None:
    assert Comparison(tokenizer(bos_token_id=BOS)).of(HERE, of("+++++++++++"), labels=False) == []
