"""The rules say the same of rows in shards, and of rows that are sorted on the disk, as of rows at hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ftcheck_rules.data.duplicates import duplicates
from ftcheck_rules.data.leakage import leakage

from ftcheck.errors import UsageError
from ftcheck.inputs.prepared import TokenStore
from ftcheck.testing import Ran, gold, inputs, job, prepared, rows, run, tokenizer
from tests.dedup import plain
from tests.dedup.in_shards import InShards, Texts

PARAMS = {"likeness": 0.6, "min_ngrams": 8, "max_near_duplicate_share": 0, "max_duplicate_share": 0}


class Data:
    """Rows with planted copies, near-duplicates, other answers and generic prompts."""

    def __init__(self, seed: int, count: int = 120) -> None:
        random = np.random.default_rng(seed)
        self.answer = int(random.choice([3, 25]))
        self.texts: list[list[int]] = []
        said: list[int] = []
        for row in range(count):
            text, words = random.integers(0, 9_000, size=int(random.integers(5, 90))).tolist(), row + 1
            if row and random.random() < 0.4:
                other = int(random.integers(row))
                text, words = list(self.texts[other]), said[other] if random.random() < 0.3 else words
                text[int(random.integers(len(text)))] = int(random.integers(9_000))
            self.texts.append(text)
            said.append(words)
        columns = {
            "said": said,
            "asked": random.integers(0, 40, size=count).tolist(),
            "system": random.integers(-1, 2, size=count).tolist(),
            "turns": random.integers(2, 5, size=count).tolist(),
        }
        self.rows = rows(count, system_prompts=("a", "b"), **columns)

    def prepared(self, tokens: TokenStore) -> Any:
        lengths = [len(text) for text in self.texts]
        trained = [min(self.answer, length) for length in lengths]
        return prepared(lengths, trained=trained, tokens=tokens, of=self.rows)

    def said(self, rows: Sequence[int]) -> list[str]:
        return [" ".join(map(str, self.texts[row])) for row in rows]

    def duplicates(self, tokens: TokenStore) -> Ran:
        texts = inputs(row_texts=self)
        return run(duplicates, PARAMS, job=job(), prepared=self.prepared(tokens), inputs=texts)

    def leakage(self, tokens: TokenStore, tests: "Data") -> Ran:
        given: dict[str, Any] = {"gold": gold(("what is question 3", "x")), "benchmarks": None}
        evaluation = tests.prepared(Texts(tests.texts, tests.answer))
        params = {"min_row_ngrams": 8}
        mine = self.prepared(tokens)
        sides = {"prepared": mine, "prepared_eval": evaluation, "tokenizer": tokenizer()}
        return run(leakage, params, job=job(), **sides, **given)


def same(one: Ran, other: Ran) -> None:
    assert one.measured == other.measured
    assert one.findings == other.findings
    assert one.result.rows == other.result.rows


@pytest.mark.parametrize(("shards", "parts"), [(1, 1), (4, 3), (11, 7)])
@pytest.mark.parametrize("seed", range(3))
def test_shards_and_parts_make_no_difference(
    seed: int, shards: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, tests = Data(seed), Data(seed, count=60)
    at_hand, here = Texts(data.texts, data.answer), InShards(data.texts, data.answer, shards, parts)
    expected, leaks = data.duplicates(at_hand), data.leakage(at_hand, tests)

    monkeypatch.setenv("FTCHECK_SORT_MEMORY", "20000")

    same(data.duplicates(here), expected)
    same(data.duplicates(at_hand), expected)
    same(data.leakage(here, tests), leaks)
    assert expected.measured["rows_near_duplicate"] > 3
    assert leaks.measured["eval_leaked"] > 3


@pytest.mark.parametrize("seed", range(3))
def test_copies_and_answers_are_counted_as_in_plain_python(seed: int) -> None:
    data = Data(seed)
    table = data.rows
    corpus = plain.Corpus(
        table.asked.tolist(),
        table.said.tolist(),
        table.system.tolist(),
        ((table.asked != 0) & (table.turns - (table.system >= 0) <= 2)).tolist(),
    )
    copies, answers = plain.copies(corpus.said, corpus.system), plain.answers(corpus)

    ran = data.duplicates(Texts(data.texts, data.answer))

    assert ran.measured["rows_duplicate"] == len(copies)
    assert ran.measured["questions_with_other_answers"] == answers.questions
    assert ran.measured["rows_under_generic_prompts"] == len(answers.under_prompts)
    first = min(copies)
    assert ran.findings[0].at == table.at(first)
    assert f"a duplicate of train.jsonl:{copies[first] + 1}" in ran.findings[0].message


def test_rows_that_are_alike_by_a_third_one_are_one_group() -> None:
    random = np.random.default_rng(9)
    data = Data(0)
    data.texts = random.integers(0, 9_000, size=(len(data.texts), 100)).tolist()
    data.rows = rows(len(data.texts))
    for row, (other, place) in {20: (10, 20), 30: (20, 40), 31: (11, 50)}.items():
        data.texts[row] = [*data.texts[other][:place], 9_999, *data.texts[other][place:]]

    ran = data.duplicates(Texts(data.texts, 25))

    assert ran.measured["rows_near_duplicate"] == 3
    assert ran.measured["near_duplicate_groups"] == 2


def test_a_sort_memory_that_is_no_size_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCHECK_SORT_MEMORY", "much")
    data = Data(0)
    with pytest.raises(UsageError, match="FTCHECK_SORT_MEMORY is 'much'; write a size such as 20GiB"):
        data.duplicates(Texts(data.texts, data.answer))
