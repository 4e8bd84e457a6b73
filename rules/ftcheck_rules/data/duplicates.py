"""Overlap rules: duplicate rows in the training data, and test questions in the training data."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck import (
    Exclude,
    Finding,
    GoldSet,
    Inputs,
    Job,
    Location,
    Measurement,
    Prepared,
    Rows,
    Severity,
    Skip,
    Summary,
    Tokenizer,
    rule,
)
from ftcheck.dedup import fingerprints, minhash
from ftcheck.dedup.fingerprints import NOTHING
from ftcheck.extension.rules import Yield
from ftcheck.inputs.benchmarks import Benchmarks
from ftcheck.inputs.row_texts import RowTexts
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AtLeast, Count, NotOfRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

GENERIC = 3
"""A prompt with more different answers than this is a generic one (`Write a poem`): not a question."""
BEGINS = 0.95
"""The share of a row's answers that stands in a longer row with the same question: then that goes on."""
CANDIDATES = 256
"""Training rows with the same first question that an evaluation row is compared with, token by token."""
SHINGLE = 5
"""Tokens of an n-gram where two rows are compared."""
MAX_PAIRS = 100_000
"""Pairs of rows that are compared exactly; MinHash proposes few that are not near-duplicates."""
WORDS = 3
"""Words of an n-gram where the texts of two rows are compared: about as many characters as 5 tokens."""
PAIRS_READ = 5_000
"""Pairs of rows whose texts are read and compared at once."""
MAX_TEST_TOKENS = 4_000_000
"""Tokens of evaluation rows that are searched for in the training rows; of more, every nth row is used."""


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
    others are not compared. Pairs are proposed by MinHash (128 permutations) and compared exactly. Questions
    are compared in rows with one question and one answer; a prompt with four or more different answers is a
    generic one, and that is `info`. Parameters: max_duplicate_share (default 0.01),
    max_near_duplicate_share (default 0.05), max_conflict_share (default 0.05), likeness (default 0.9),
    min_ngrams (default 32). Up to these shares a finding is `info`.
    """
    rows = prepared.rows
    spoken = rows.said != NOTHING
    if rows.textless is not None:
        yield Skip(rows.textless)
        return
    if not spoken.any():
        yield Skip("no row contains any text")
        return
    first = _first_like(rows.said, rows.system)
    copied = spoken & (first != _numbers(len(rows)))
    near, left_out = _near(prepared, inputs, spoken & ~copied, params)
    answers = _conflicts(rows)
    total = int(spoken.sum())
    yield from _shares(total, int(copied.sum()), len(near), answers.questions, params)
    under = len(answers.under_prompts)
    yield Measurement("rows_under_generic_prompts", under, unit="rows", statistic=AtLeast())
    exact = counted(int(copied.sum()), "exact duplicate")
    least = "at least " if left_out else ""
    yield Summary(f"{exact} · {least}{counted(len(near), 'near-duplicate')} · {counted(total, 'row')}")
    if left_out:
        yield Measurement("pairs_not_compared", left_out, unit="pairs")
    if copied.any():
        yield from _told(_copied(rows, first, copied, total, params), rows, copied.nonzero()[0].tolist())
    if near:
        yield from _told(_alike(rows, near, total, params), rows, sorted(near))
    if answers.questions:
        yield _conflict(rows, answers, total, params)
    if answers.prompts:
        yield _generic(rows, answers, total)


def _told(finding: Finding, rows: Rows, found: Sequence[int]) -> Iterator[Yield]:
    """A finding, and the rows that may be excluded where it is more than a remark."""
    yield finding
    if finding.severity is not Severity.INFO:
        yield Exclude(found, rows.at)


def _numbers(count: int) -> "Ints":
    import numpy as np

    return np.arange(count, dtype=np.int64)


def _first_like(words: "Ints", system: "NDArray[np.int32]") -> "Ints":
    """For each row the first row with the same fingerprint under the same system prompt."""
    import numpy as np

    order = np.lexsort((_numbers(len(words)), system, words))
    same = (words[order][1:] == words[order][:-1]) & (system[order][1:] == system[order][:-1])
    place = _numbers(len(words))
    opening = np.maximum.accumulate(np.where(np.concatenate([[False], same])[: len(words)], 0, place))
    first = np.zeros(len(words), dtype=np.int64)
    first[order] = order[opening]
    return first


def _near(
    prepared: Prepared, inputs: Inputs, distinct: "Mask", params: Duplicates
) -> tuple[dict[int, int], int]:
    """Near-duplicates of an earlier row, each with that row; how many proposed pairs were not compared."""
    rows = distinct.nonzero()[0].tolist()
    common = minhash.boilerplate(prepared.tokens, rows, SHINGLE)
    pairs = minhash.likely_pairs(prepared.tokens, rows, SHINGLE, params.min_ngrams, common)
    alike = [pair for pair in pairs[:MAX_PAIRS] if _are_alike(prepared, *pair, common, params.likeness)]
    found: dict[int, int] = {}
    for start in range(0, len(alike), PAIRS_READ):
        some = [pair for pair in alike[start : start + PAIRS_READ] if pair[0] not in found]
        for later, earlier in _say_the_same(inputs, some, params):
            found.setdefault(later, earlier)
    return found, max(0, len(pairs) - MAX_PAIRS)


def _say_the_same(
    inputs: Inputs, pairs: Sequence[tuple[int, int]], params: Duplicates
) -> Iterator[tuple[int, int]]:
    """Pairs that are alike in what is asked and answered: a shared tool list is none of it."""
    if not pairs:
        return
    texts: RowTexts = inputs.get("row_texts")
    rows = sorted({row for pair in pairs for row in pair})
    made = minhash.grams([_word_ids(text) for text in texts.said(rows)], WORDS)
    place = {row: number for number, row in enumerate(rows)}
    for later, earlier in pairs:
        one, other = made.of(place[later]), made.of(place[earlier])
        enough = min(len(one), len(other)) >= params.min_ngrams / 2
        if enough and minhash.jaccard(one, other) >= params.likeness:
            yield later, earlier


def _word_ids(text: str) -> list[int]:
    """The words of a text as numbers: without case and punctuation."""
    return [zlib.crc32(word) for word in fingerprints.words_of([text])[0].split()]


def _are_alike(prepared: Prepared, one: int, other: int, common: Any, least: float) -> bool:
    store = prepared.tokens
    made = minhash.grams([store.ids(one), store.ids(other)], SHINGLE).without(common)
    if minhash.jaccard(made.of(0), made.of(1)) < least:
        return False
    return not prepared.masked or _answers_alike(prepared, one, other, least)


def _answers_alike(prepared: Prepared, one: int, other: int, least: float) -> bool:
    """Rows with one long document and different questions about it differ in the answer."""
    store = prepared.tokens
    texts = [store.ids(row)[store.mask(row)] for row in (one, other)]
    if texts[0].tolist() == texts[1].tolist():
        return True
    made = minhash.grams(texts, SHINGLE)
    return minhash.jaccard(made.of(0), made.of(1)) >= least


@dataclass(frozen=True)
class _Answers:
    """Questions with several answers and the rows that contradict an earlier one; generic prompts apart."""

    questions: int
    conflicting: "Ints"
    prompts: int
    under_prompts: "Ints"


def _conflicts(rows: Rows) -> _Answers:
    """Rows with one question and one answer, by question and system prompt."""
    import numpy as np

    single = _single(rows)
    first = _first_like(rows.asked, rows.system)
    answers = _different_answers(first, rows.said, single)
    other = single & single[first] & (rows.said != rows.said[first]) & (answers[first] <= GENERIC)
    under = single & (answers[first] > GENERIC)
    return _Answers(
        questions=len(np.unique(first[other])),
        conflicting=other.nonzero()[0],
        prompts=len(np.unique(first[under])),
        under_prompts=under.nonzero()[0],
    )


def _single(rows: Rows) -> "Mask":
    """Rows with one question and at most one answer."""
    single: Mask = (rows.asked != NOTHING) & (rows.turns - (rows.system >= 0) <= 2)
    return single


def _different_answers(first: "Ints", said: "Ints", wanted: "Mask") -> "Ints":
    """For each row that is the first of its question: how many different answers the wanted rows give it."""
    import numpy as np

    pairs = np.unique(np.stack([first[wanted], said[wanted]], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=len(first)).astype(np.int64)


def _shares(total: int, copied: int, near: int, questions: int, params: Duplicates) -> Iterator[Measurement]:
    yield Measurement("rows", total, unit="rows", statistic=Count())
    for name, found, share in (
        ("rows_duplicate", copied, params.max_duplicate_share),
        ("rows_near_duplicate", near, params.max_near_duplicate_share),
    ):
        yield Measurement(name, found, unit="rows", limit=_limit(share, total), statistic=AtLeast())
    yield Measurement("duplicate_share", round(copied / total, 4), limit=f"<= {params.max_duplicate_share}")
    yield Measurement("questions_with_other_answers", questions, unit="questions", statistic=AtLeast())


def _limit(share: float, total: int) -> str:
    return f"<= {int(share * total)}"


def _copied(rows: Rows, first: "Ints", copied: "Mask", total: int, params: Duplicates) -> Finding:
    count, row = int(copied.sum()), int(copied.nonzero()[0][0])
    like = _name(rows.at(int(first[row])))
    message = (
        f"{_of(count, total)} {agreeing(count, 'duplicates', 'duplicate')} an earlier row"
        f" (ignoring case and punctuation); this row is the first, a duplicate of {like}"
    )
    fix = "remove the duplicates; if they are meant as extra weight, raise max_duplicate_share"
    why = "Duplicated rows are memorised, and a random split leaks them into the evaluation data."
    severity = _above(count, total, params.max_duplicate_share)
    return Finding(message, severity, at=rows.at(row), fix=fix, why=why)


def _alike(rows: Rows, near: dict[int, int], total: int, params: Duplicates) -> Finding:
    row = min(near)
    message = (
        f"{_of(len(near), total)} {agreeing(len(near), 'is a near-duplicate', 'are near-duplicates')} of an"
        f" earlier row (Jaccard index of token 5-grams of {params.likeness:g} or more);"
        f" this row is the first, compare {_name(rows.at(near[row]))}"
    )
    severity = _above(len(near), total, params.max_near_duplicate_share)
    why = "Near-duplicates weigh as much as repeated rows, and leak between training and evaluation data."
    return Finding(message, severity, at=rows.at(row), fix="keep one row of each group", why=why)


def _conflict(rows: Rows, answers: _Answers, total: int, params: Duplicates) -> Finding:
    count, row = len(answers.conflicting), int(answers.conflicting[0])
    first = int(_first_like(rows.asked, rows.system)[row])
    has = agreeing(answers.questions, "has", "have")
    message = (
        f"{counted(answers.questions, 'question')} {has} different answers: {_of(count, total)}"
        f" {agreeing(count, 'answers', 'answer')} otherwise than an earlier row; this row contradicts"
        f" {_name(rows.at(first))}"
    )
    fix = "keep one answer to each question, unless the model is meant to learn several"
    severity = _above(count, total, params.max_conflict_share)
    why = "Different answers to the same question pull the model in different directions."
    return Finding(message, severity, at=rows.at(row), fix=fix, why=why)


def _generic(rows: Rows, answers: _Answers, total: int) -> Finding:
    """Prompts that many rows share: they do not say what the answer is, so none contradicts another."""
    count = len(answers.under_prompts)
    message = (
        f"{_of(count, total)} {agreeing(count, 'stands', 'stand')} under"
        f" {counted(answers.prompts, 'generic prompt')} with more than {GENERIC} different answers each;"
        " this row is the first"
    )
    fix = "nothing, if the answers are meant to vary; else add what tells them apart to the prompts"
    return Finding(message, Severity.INFO, at=rows.at(int(answers.under_prompts[0])), fix=fix)


def _above(count: int, total: int, share: float) -> Severity:
    return Severity.WARNING if count > share * total else Severity.INFO


def _of(count: int, total: int) -> str:
    return f"{count:,} of {counted(total, 'row')} ({count / total:.1%})"


def _name(at: Location) -> str:
    return f"{Path(at.path or '').name}:{at.line}"


@dataclass(frozen=True)
class Leakage:
    """Parameters of `leakage`."""

    max_leaked_share: float = 0.05
    """Share of a test set that may be in the training data; above it the findings are errors."""
    min_words: int = 3
    """Gold and benchmark questions with fewer words are not searched for: greetings recur by chance."""
    ngram: int = 13
    """Length in tokens of the n-grams that are compared, as in the contamination study of GPT-3."""
    min_ngrams: int = 8
    """Gold and benchmark questions with fewer n-grams of their own are only compared as a whole."""
    min_row_ngrams: int = 32
    """The same for evaluation rows: short ones often differ in little more than a name."""
    overlap: float = 0.8
    """Share of a text's n-grams in training rows at which it counts as leaked, above 0 and up to 1."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for an `overlap` outside its range."""
        if not 0 < self.overlap <= 1:
            raise ValueError("overlap must be above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Leak:
    """A test item that is in the training data: its place, the row, and the share if not all of it is.

    `how` tells what is there of an evaluation row: the whole `row`, its `beginning` (or it is that of the
    training row: `continued`), or only its `question`.
    """

    at: Location
    row: int
    share: float | None = None
    how: str = "row"

    @property
    def copied(self) -> bool:
        """Whether the training row says what the test item says, answer included."""
        return self.share is None and self.how != "question"


@dataclass(frozen=True)
class Side:
    """A test set: its name, how many items were searched for, and which leaked."""

    name: str
    item: str
    total: int
    leaks: tuple[Leak, ...]
    overlap_is_error: bool
    prompts: tuple[Location, ...] = ()
    """Items of which only a generic prompt is in the training data."""
    sampled: tuple[int, int] | None = None
    """Of very many tokens: how many items were searched for n-grams, and of how many."""


@rule("leakage", family="data", cases="ftcheck_rules.data.cases.duplicates", texts=True)
def leakage(
    job: Job,
    prepared: Prepared,
    prepared_eval: Prepared | None,
    gold: GoldSet | None,
    benchmarks: Benchmarks | None,
    tokenizer: Tokenizer,
    params: Leakage,
) -> Iterator[Yield]:
    """No question of the evaluation rows, the gold set or the benchmarks is in the training rows.

    A model that has seen the test answers from memory: every score after that is too good, the wrong
    checkpoint is kept, and the users are the first to notice.

    Questions are compared as a whole, ignoring case, punctuation and whitespace; conversations of several
    turns and plain text by all their messages. Longer texts also count as leaked if 80 % of their token
    13-grams occur in training rows (for evaluation rows: of the question, where the loss separates it from
    the answer, because answers of one form are similar by design). N-grams that more than a tenth of the rows
    share are ignored. Each leaked item is a warning, and an error where more than 5 % of its set leaked. Of
    evaluation rows only copies count towards that, question and answer, and conversations that begin, or go
    on from, one in the training rows; a question with another answer is a warning, and a generic prompt (with
    more than three different answers) is `info`. Parameters: max_leaked_share (default 0.05), min_words
    (default 3), ngram (default 13), min_ngrams (default 8), min_row_ngrams (default 32), overlap (default
    0.8).
    """
    rows = prepared.rows
    if prepared_eval is None and gold is None and benchmarks is None:
        yield Skip("none of data.eval, data.gold and data.benchmarks is set")
        return
    if rows.textless is not None:
        yield Skip(rows.textless)
        return
    if not (rows.said != NOTHING).any():
        yield Skip("no training row contains any text")
        return
    known = _Known(prepared, tokenizer, params)
    sides = []
    if gold is not None:
        items = [(_question(item.messages), item.at) for item in gold.items]
        sides.append(known.texts("gold", "question of the gold set", items))
    if benchmarks is not None:
        asked = [(one.text, one.at) for one in benchmarks.questions]
        sides.append(known.texts("benchmark", "benchmark question", asked))
    if prepared_eval is not None:
        sides.append(known.rows(prepared_eval))
    for side in sides:
        yield Measurement(f"{side.name}_compared", side.total, unit="items", statistic=NotOfRows())
        leaked, least = len(side.leaks), AtLeast()
        yield Measurement(f"{side.name}_leaked", leaked, unit="items", limit="0", statistic=least)
        if side.name == "eval":
            shared = sum(leak.how == "question" for leak in side.leaks)
            yield Measurement("eval_questions_shared", shared, unit="rows", limit="0", statistic=least)
            yield Measurement("eval_prompts_shared", len(side.prompts), unit="rows", statistic=least)
    yield Summary(" · ".join(map(_side, sides)) + " leaked")
    for side in sides:
        yield from _leaked(side, rows, params)
    if not sum(side.total for side in sides):
        broken = len(gold.row_errors) if gold is not None else 0
        why = f": {counted(broken, 'gold row')} cannot be used (see gold-set)" if broken else ""
        yield Skip("the evaluation data, the gold set and the benchmarks contain nothing to search for" + why)


def _side(side: Side) -> str:
    """`eval 3 of 120`; of a set too large to be searched whole, at least so many."""
    if side.sampled is None:
        return f"{side.name} {len(side.leaks):,} of {side.total:,}"
    looked, whole = side.sampled
    part = f"{looked:,} of {whole:,} searched for shared n-grams"
    return f"{side.name} at least {len(side.leaks):,} of {side.total:,} ({part})"


def leaked_questions(
    prepared: Prepared, tokenizer: Tokenizer, gold: GoldSet, params: Leakage
) -> tuple[Leak, ...]:
    """The gold questions that are in the training rows, as `leakage` finds them."""
    if not (prepared.rows.said != NOTHING).any():
        return ()
    items = [(_question(item.messages), item.at) for item in gold.items]
    return _Known(prepared, tokenizer, params).texts("gold", "question of the gold set", items).leaks


def _question(turns: Sequence[Any]) -> str:
    """What is asked: all that is said before the answer, where the item is a longer conversation."""
    single = not any(turn.get("role") == "assistant" for turn in turns)
    return fingerprints.asked(turns) if single else fingerprints.whole(turns)


class _Known:
    """The training rows, indexed so that test items can be searched for."""

    def __init__(self, prepared: Prepared, tokenizer: Tokenizer, params: Leakage) -> None:
        import numpy as np

        self._prepared, self._tokenizer, self._params = prepared, tokenizer, params
        self._asked = np.unique(prepared.rows.asked, return_index=True)
        self._said = np.unique(prepared.rows.said, return_index=True)
        self._rows = (prepared.rows.said != NOTHING).nonzero()[0].tolist()
        self._order = np.argsort(prepared.rows.asked, kind="stable")
        self._sorted = prepared.rows.asked[self._order]
        self._blank: dict[int, bool] = {}

    def texts(self, name: str, item: str, items: Sequence[tuple[str, Location]]) -> Side:
        """The leaks among questions."""
        long = [
            one for one in items if len(fingerprints.normalised(one[0]).split()) >= self._params.min_words
        ]
        leaks = {}
        for number, (text, at) in enumerate(long):
            row = self._row_of(fingerprints.fingerprint(text))
            if row is not None:
                leaks[number] = Leak(at, row)
        left = [number for number in range(len(long)) if number not in leaks]
        ids = [self._tokenizer.encode(long[number][0]) for number in left]
        for index, one in self._overlapping(ids, self._params.min_ngrams):
            leaks[left[index]] = Leak(long[left[index]][1], one.row, one.share)
        return Side(name, item, len(long), tuple(leaks[number] for number in sorted(leaks)), True)

    def rows(self, tests: Prepared) -> Side:
        """The leaks among evaluation rows."""
        rows, leaks = tests.rows, {}
        single, generic = _single(rows), self._generic(tests)
        prompts: list[Location] = []
        spoken = (rows.said != NOTHING).nonzero()[0].tolist()
        for number in spoken:
            at, row = rows.at(number), _found(self._said, int(rows.said[number]))
            if row is not None:
                leaks[number] = Leak(at, row)
            elif (begun := self._begun(tests, number)) is not None:
                leaks[number] = begun
            elif single[number] and (row := _found(self._asked, int(rows.asked[number]))) is not None:
                if int(rows.asked[number]) in generic:
                    prompts.append(at)
                else:
                    leaks[number] = Leak(at, row, how="question")
        apart = tests.masked or rows.format == "text"
        asked_alone = {int(number) for number in spoken if int(rows.asked[number]) in generic}
        left = [number for number in spoken if number not in leaks and number not in asked_alone and apart]
        step = max(-(-int(tests.length[left].sum()) // MAX_TEST_TOKENS), 1)
        whole, left = len(left), left[::step]
        asked = [_prompt(tests, number) for number in left]
        for index, one in self._overlapping(asked, self._params.min_row_ngrams):
            leaks[left[index]] = Leak(rows.at(left[index]), one.row, one.share)
        ordered = tuple(leaks[number] for number in sorted(leaks))
        sampled = (len(left), whole) if step > 1 else None
        return Side("eval", "evaluation row", len(spoken), ordered, False, tuple(prompts), sampled)

    def _generic(self, tests: Prepared) -> frozenset[int]:
        """Questions (fingerprints) with so many different answers that they are prompts, on both sides."""
        import numpy as np

        both = [self._prepared.rows, tests.rows]
        asked = np.concatenate([one.asked[_single(one)] for one in both])
        said = np.concatenate([one.said[_single(one)] for one in both])
        pairs = np.unique(np.stack([asked, said], axis=1), axis=0)
        questions, answers = np.unique(pairs[:, 0], return_counts=True)
        return frozenset(questions[answers > GENERIC].tolist())

    def _begun(self, tests: Prepared, number: int) -> Leak | None:
        """A training row that begins with all of this conversation, or all of which this one begins with."""
        at, words = tests.rows.at(number), int(tests.rows.asked[number])
        mine = _spoken_turns(tests.rows, number)
        for row in self._same_question(words):
            if max(mine, _spoken_turns(self._prepared.rows, row)) <= 2:
                continue
            if tests.length[number] <= self._prepared.length[row]:
                if self._begins((tests, number), (self._prepared, row)):
                    return Leak(at, row, how="beginning")
            elif self._begins((self._prepared, row), (tests, number)):
                return Leak(at, row, how="continued")
        return None

    def _same_question(self, words: int) -> list[int]:
        """Training rows with this first question."""
        import numpy as np

        if words == NOTHING:
            return []
        low, high = (int(np.searchsorted(self._sorted, words, side)) for side in ("left", "right"))
        found: list[int] = self._order[low : min(high, low + CANDIDATES)].tolist()
        return found

    def _begins(self, short: tuple[Prepared, int], long: tuple[Prepared, int]) -> bool:
        """Whether the longer row says all of the shorter one first, up to the end of a turn.

        A template may write the last turn otherwise than earlier ones: then the answers are compared.
        """
        ids, others = (side.tokens.ids(row) for side, row in (short, long))
        end = len(ids)
        while end and self._is_blank(int(ids[end - 1])):
            end -= 1
        ended = end == len(others) or (end < len(others) and self._is_blank(int(others[end])))
        if end and ended and (ids[:end] == others[:end]).all():
            return True
        side, row = short
        answers = ids[side.tokens.mask(row)] if side.masked else ids
        made = minhash.grams([answers, others], SHINGLE)
        if not len(made.of(0)) or (not side.masked and _spoken_turns(side.rows, row) <= 2):
            return False
        return bool(_contained(made.of(0), made.of(1)) >= BEGINS)

    def _is_blank(self, token: int) -> bool:
        """Whether a token ends a turn, or is blank: what may stand behind an answer."""
        if token not in self._blank:
            special = token in self._tokenizer.special_ids
            self._blank[token] = special or not self._tokenizer.show([token]).strip()
        return self._blank[token]

    def _row_of(self, words: int) -> int | None:
        row = _found(self._asked, words)
        return row if row is not None else _found(self._said, words)

    def _overlapping(self, texts: Sequence[Any], least: int) -> list[tuple[int, minhash.Overlap]]:
        params = self._params
        found = minhash.overlaps(texts, self._prepared.tokens, self._rows, params.ngram, least)
        return [(number, one) for number, one in sorted(found.items()) if one.share >= params.overlap]


def _spoken_turns(rows: Rows, row: int) -> int:
    """Messages of a row but for its system message."""
    return int(rows.turns[row]) - int(rows.system[row] >= 0)


def _contained(some: Any, others: Any) -> float:
    """The share of n-grams that are among the others, as sets."""
    import numpy as np

    some = np.unique(some)
    return float(np.isin(some, others).mean()) if len(some) else 0.0


def _prompt(tests: Prepared, row: int) -> Any:
    """The tokens of a row that are not learned: the question, where the loss tells it from the answer."""
    ids = tests.tokens.ids(row)
    return ids[~tests.tokens.mask(row)] if tests.masked else ids


def _found(known: "tuple[Ints, Ints]", words: int) -> int | None:
    """The first row with these words; None if there is none."""
    import numpy as np

    values, first = known
    place = int(np.searchsorted(values, words))
    there = words != NOTHING and place < len(values) and int(values[place]) == words
    return int(first[place]) if there else None


def _leaked(side: Side, rows: Rows, params: Leakage) -> Iterator[Yield]:
    whole = sum(leak.copied or side.overlap_is_error for leak in side.leaks)
    much = whole > params.max_leaked_share * side.total
    fixes = {
        "gold": "remove the row from the training data, or the question from the gold set",
        "benchmark": "remove the row from the training data, and look for others from the same source",
        "eval": "split the data again, with all rows of a question or document on the same side",
    }
    for number, leak in enumerate(side.leaks):
        counts = leak.copied or side.overlap_is_error
        severity = Severity.ERROR if much and counts else Severity.WARNING
        message = _how(leak, side.item, _name(rows.at(leak.row)))
        if number == 0:
            message += f" ({len(side.leaks):,} of {side.total:,} leaked, {len(side.leaks) / side.total:.1%})"
        yield Finding(message, severity, at=leak.at, fix=fixes[side.name])
        if leak.copied:
            yield Exclude([leak.row], rows.at)
    if side.prompts:
        count = len(side.prompts)
        has = agreeing(count, "shares", "share")
        yield Finding(
            f"{count:,} of {counted(side.total, side.item)} {has} a generic prompt with training rows, but no"
            " answer",
            Severity.INFO,
            at=side.prompts[0],
            fix="nothing: a prompt with many different answers gives none of them away",
        )


def _how(leak: Leak, item: str, row: str) -> str:
    if leak.share is not None:
        return f"this {item} has {leak.share:.0%} of its token n-grams in the training data, {row}"
    return {
        "row": f"this {item} is in the training data, {row}",
        "question": f"the question of this {item} is in the training data with another answer, {row}",
        "beginning": f"this {item} is the beginning of a row in the training data, {row}",
        "continued": f"this {item} goes on from a row in the training data, {row}",
    }[leak.how]
