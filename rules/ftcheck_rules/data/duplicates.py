"""Duplicate rows in the training data, and questions with several answers."""

import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck import (
    Exclude,
    Finding,
    Inputs,
    Job,
    Measurement,
    Prepared,
    Rows,
    Severity,
    Skip,
    Summary,
    rule,
)
from ftcheck.dedup import copies, fingerprints
from ftcheck.dedup.alike import Comparison, alike
from ftcheck.dedup.copies import GENERIC, Answers
from ftcheck.dedup.fingerprints import NOTHING
from ftcheck.dedup.grams import grams, jaccards
from ftcheck.dedup.groups import groups
from ftcheck.dedup.minhash import Signed, boilerplate, likely_pairs
from ftcheck.dedup.records import Sorter
from ftcheck.dedup.shards import shards_of, sort_memory
from ftcheck.extension.rules import Yield
from ftcheck.inputs.row_texts import RowTexts
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AtLeast, Count, OfSample
from ftcheck_rules.data.row_columns import SHINGLE, place_name, single_rows, slices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

MAX_PAIRS = 1_000_000
"""Pairs of rows that are compared exactly; MinHash proposes few that are not near-duplicates."""
BESIDE = 4
"""The part of the memory for sorting that pairs have: their bands are sorted beside them."""
WORDS = 3
"""Words of an n-gram where the texts of two rows are compared: about as many characters as 5 tokens."""
PAIRS_READ = 5_000
"""Pairs of rows whose texts are read and compared at once."""


@dataclass(frozen=True)
class Duplicates:
    """Parameters of `duplicates`."""

    max_duplicate_share: float = 0.01
    """Share of rows that may be exact duplicates of an earlier row."""
    max_near_duplicate_share: float = 0.05
    """Share of rows that may be near-duplicates of an earlier row."""
    max_conflict_share: float = 0.05
    """Share of rows that may answer a question differently than an earlier row does."""
    likeness: float = 0.9
    """Jaccard index of token 5-grams at and above which two rows are near-duplicates, above 0 and up to 1."""
    min_ngrams: int = 32
    """Rows with fewer 5-grams of their own are not compared for near-duplicates."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a `likeness` outside its range."""
        if not 0 < self.likeness <= 1:
            raise ValueError("likeness must be above 0 and at most 1")


@rule("duplicates", family="data", cases="ftcheck_rules.data.cases.duplicates", texts=True)
def duplicates(job: Job, prepared: Prepared, inputs: Inputs, params: Duplicates) -> Iterator[Yield]:
    """Few rows duplicate another row, and each question has one answer.

    Data that was concatenated twice is learned twice: the model memorises it, and a random split puts one of
    the copies into the evaluation data, which makes the evaluation look better than the model is. A question
    with two different answers teaches neither.

    Two rows are exact duplicates if their messages are equal, ignoring case, punctuation and whitespace,
    under the same system prompt (`2 + 3` is not `2 - 3`, `C++` is not `C#`). They are near-duplicates if the
    Jaccard index of their token 5-grams is at least 0.9, over the row and over its answer alone, and so is
    that of the word 3-grams of what is asked and answered (no system prompt, no tool list). N-grams that
    more than a tenth of the rows share (system prompt, template) are ignored, and rows with fewer than 32
    others are not compared. Pairs are proposed by MinHash (128 permutations) and compared exactly; rows that
    hang together by them are one group. What memory does not hold is sorted on the disk
    (FTCHECK_SORT_MEMORY), with the same results. Questions are compared in rows with one question and one
    answer; a prompt with four or more different answers is a generic one, and that is `info`. Parameters:
    max_duplicate_share (default 0.01), max_near_duplicate_share (default 0.05), max_conflict_share (default
    0.05), likeness (default 0.9), min_ngrams (default 32). Up to these shares a finding is `info`.
    """
    rows = prepared.rows
    spoken = rows.said != NOTHING
    if rows.textless is not None:
        yield Skip(rows.textless)
        return
    if not spoken.any():
        yield Skip("no row contains any text")
        return
    copied, first_copy = _copies(rows)
    near = _near(prepared, inputs, spoken & ~copied, params)
    answers = _answers(rows)
    found = copied.nonzero()[0]
    total = int(spoken.sum())
    yield from _shares(total, len(found), near, answers, params)
    if first_copy is not None:
        yield from _told(_copied(rows, first_copy, len(found), total, params), rows, found)
    if len(near):
        yield from _told(_alike(rows, near, total, params), rows, near.pairs[:, 0])
    if answers.contradiction is not None:
        yield _conflict(rows, answers, answers.contradiction, total, params)
    if answers.prompt is not None:
        yield _generic(rows, answers, answers.prompt, total)


def _told(finding: Finding, rows: Rows, found: "Ints") -> Iterator[Yield]:
    """A finding, and the rows that may be excluded where it is more than a remark."""
    yield finding
    if finding.severity is not Severity.INFO:
        yield Exclude(array("q", found.tobytes()), rows.at)


def _copies(rows: Rows) -> tuple["Mask", tuple[int, int] | None]:
    """Which rows are exact duplicates of an earlier one; the first of them, with that row."""
    import numpy as np

    copied = np.zeros(len(rows), dtype=bool)
    firsts: list[tuple[int, int]] = []
    with Sorter(sort_memory()) as sorter:
        for some, numbers in slices(len(rows)):
            sorter.add(copies.copy_records(rows.said[some], rows.system[some], numbers))
        for found in copies.copies(sorter.pieces()):
            copied[found[:, 0]] = True
            if len(found):
                firsts.append(tuple(found[found[:, 0].argmin()].tolist()))
    return copied, min(firsts, default=None)


def _answers(rows: Rows) -> Answers:
    """Rows with one question and one answer, by question and system prompt."""
    with Sorter(sort_memory()) as sorter:
        for some, numbers in slices(len(rows)):
            asked, said, system = rows.asked[some], rows.said[some], rows.system[some]
            sorter.add(copies.answer_records(asked, said, system, single_rows(rows, some), numbers))
        return copies.answers(sorter.pieces())


@dataclass(frozen=True)
class _Near:
    """Near-duplicates of an earlier row, each with that row (shape (n, 2), in order); how many proposed pairs
    were not compared.
    """

    pairs: "Ints"
    left_out: int

    def __len__(self) -> int:
        """Rows that are near-duplicates of an earlier one."""
        return len(self.pairs)


def _near(prepared: Prepared, inputs: Inputs, distinct: "Mask", params: Duplicates) -> _Near:
    """Near-duplicates among rows that are no exact ones."""
    import numpy as np

    shards = shards_of(prepared.tokens)
    common = boilerplate(shards, distinct, SHINGLE)
    signed = Signed(SHINGLE, params.min_ngrams, common)
    likely = likely_pairs(shards, distinct, signed, sort_memory() // BESIDE, MAX_PAIRS)
    comparison = Comparison(SHINGLE, common, prepared.masked, params.likeness)
    found = np.zeros((0, 2), dtype=np.int64)
    for some in alike(shards, likely.pairs, prepared.length, comparison):
        for start in range(0, len(some), PAIRS_READ):
            pairs = some[start : start + PAIRS_READ]
            pairs = pairs[~np.isin(pairs[:, 0], found[-1:, 0])]
            found = np.concatenate([found, _earliest(pairs[_say_the_same(inputs, pairs, params)])])
    return _Near(found, likely.left_out)


def _earliest(pairs: "Ints") -> "Ints":
    """Of each later row the pair with the earliest row."""
    import numpy as np

    return pairs[np.unique(pairs[:, 0], return_index=True)[1]]


def _say_the_same(inputs: Inputs, pairs: "Ints", params: Duplicates) -> "Mask":
    """Which pairs are alike in what is asked and answered: a shared tool list is none of it."""
    import numpy as np

    if not len(pairs):
        return np.zeros(0, dtype=bool)
    texts: RowTexts = inputs.get("row_texts")
    rows, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    made = grams([_word_ids(text) for text in texts.said(rows.tolist())], WORDS)
    enough = made.counts()[places].min(axis=1) >= params.min_ngrams / 2
    same: Mask = enough & (jaccards(made.sets(), places) >= params.likeness)
    return same


def _word_ids(text: str) -> list[int]:
    """The words of a text as numbers: without case and punctuation."""
    return [zlib.crc32(word) for word in fingerprints.words_of([text])[0].split()]


def _shares(
    total: int, copied: int, near: _Near, answers: Answers, params: Duplicates
) -> Iterator[Measurement | Summary]:
    yield Measurement("rows", total, unit="rows", statistic=Count())
    for name, found, share in (
        ("rows_duplicate", copied, params.max_duplicate_share),
        ("rows_near_duplicate", len(near), params.max_near_duplicate_share),
    ):
        yield Measurement(name, found, unit="rows", limit=_limit(share, total), statistic=AtLeast())
    apart = len(set(groups(near.pairs)[1].tolist()))
    yield Measurement("near_duplicate_groups", apart, unit="groups", statistic=OfSample())
    yield Measurement("duplicate_share", round(copied / total, 4), limit=f"<= {params.max_duplicate_share}")
    asked, under = answers.questions, answers.under_prompts
    yield Measurement("questions_with_other_answers", asked, unit="questions", statistic=AtLeast())
    yield Measurement("rows_under_generic_prompts", under, unit="rows", statistic=AtLeast())
    least = "at least " if near.left_out else ""
    exact, alike = counted(copied, "exact duplicate"), counted(len(near), "near-duplicate")
    yield Summary(f"{exact} · {least}{alike} · {counted(total, 'row')}")
    if near.left_out:
        yield Measurement("pairs_not_compared", near.left_out, unit="pairs")


def _limit(share: float, total: int) -> str:
    return f"<= {int(share * total)}"


def _copied(rows: Rows, first: tuple[int, int], count: int, total: int, params: Duplicates) -> Finding:
    row, like = first[0], place_name(rows.at(first[1]))
    message = (
        f"{_of(count, total)} {agreeing(count, 'duplicates', 'duplicate')} an earlier row"
        f" (ignoring case and punctuation); this row is the first, a duplicate of {like}"
    )
    fix = "remove the duplicates; if they are meant as extra weight, raise max_duplicate_share"
    why = "Duplicated rows are memorised, and a random split leaks them into the evaluation data."
    severity = _above(count, total, params.max_duplicate_share)
    return Finding(message, severity, at=rows.at(row), fix=fix, why=why)


def _alike(rows: Rows, near: _Near, total: int, params: Duplicates) -> Finding:
    row, like = near.pairs[0].tolist()
    message = (
        f"{_of(len(near), total)} {agreeing(len(near), 'is a near-duplicate', 'are near-duplicates')} of an"
        f" earlier row (Jaccard index of token 5-grams of {params.likeness:g} or more);"
        f" this row is the first, compare {place_name(rows.at(like))}"
    )
    severity = _above(len(near), total, params.max_near_duplicate_share)
    why = "Near-duplicates weigh as much as repeated rows, and leak between training and evaluation data."
    return Finding(message, severity, at=rows.at(row), fix="keep one row of each group", why=why)


def _conflict(
    rows: Rows, answers: Answers, contradiction: tuple[int, int], total: int, params: Duplicates
) -> Finding:
    count, (row, first) = answers.conflicting, contradiction
    has = agreeing(answers.questions, "has", "have")
    message = (
        f"{counted(answers.questions, 'question')} {has} different answers: {_of(count, total)}"
        f" {agreeing(count, 'answers', 'answer')} otherwise than an earlier row; this row contradicts"
        f" {place_name(rows.at(first))}"
    )
    fix = "keep one answer to each question, unless the model is meant to learn several"
    severity = _above(count, total, params.max_conflict_share)
    why = "Different answers to the same question pull the model in different directions."
    return Finding(message, severity, at=rows.at(row), fix=fix, why=why)


def _generic(rows: Rows, answers: Answers, row: int, total: int) -> Finding:
    """Prompts that many rows share: they do not say what the answer is, so none contradicts another."""
    count = answers.under_prompts
    message = (
        f"{_of(count, total)} {agreeing(count, 'stands', 'stand')} under"
        f" {counted(answers.prompts, 'generic prompt')} with more than {GENERIC} different answers each;"
        " this row is the first"
    )
    fix = "nothing, if the answers are meant to vary; else add what tells them apart to the prompts"
    return Finding(message, Severity.INFO, at=rows.at(row), fix=fix)


def _above(count: int, total: int, share: float) -> Severity:
    return Severity.WARNING if count > share * total else Severity.INFO


def _of(count: int, total: int) -> str:
    return f"{count:,} of {counted(total, 'row')} ({count / total:.1%})"
