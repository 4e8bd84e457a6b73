"""Leakage rule: test questions in the training data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck import (
    Exclude,
    Finding,
    GoldSet,
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
from ftcheck.dedup import fingerprints, lookup
from ftcheck.dedup.copies import GENERIC
from ftcheck.dedup.fingerprints import NOTHING
from ftcheck.dedup.grams import grams
from ftcheck.dedup.overlaps import Overlap, overlaps
from ftcheck.dedup.shards import shards_of
from ftcheck.extension.rules import Yield
from ftcheck.inputs.benchmarks import Benchmarks
from ftcheck.plurals import agreeing, counted
from ftcheck.sampling.statistics import AtLeast, NotOfRows
from ftcheck_rules.data.row_columns import SHINGLE, place_name, single_rows, slices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

BEGINS = 0.95
"""The share of a row's answers that stands in a longer row with the same question: then that goes on."""
CANDIDATES = 256
"""Training rows with the same first question that an evaluation row is compared with, token by token."""
MAX_TEST_TOKENS = 4_000_000
"""Tokens of evaluation rows that are searched for in the training rows; of more, every nth row is used."""


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
        self._prepared, self._tokenizer, self._params = prepared, tokenizer, params
        self._blank: dict[int, bool] = {}

    def texts(self, name: str, item: str, items: Sequence[tuple[str, Location]]) -> Side:
        """The leaks among questions."""
        long = [
            one for one in items if len(fingerprints.normalised(one[0]).split()) >= self._params.min_words
        ]
        words = fingerprints.fingerprints([text for text, _ in long])
        asked, said = self._asked(words, 1), self._said(words)
        leaks = {}
        for number, (one, (_, at)) in enumerate(zip(words.tolist(), long, strict=True)):
            found = asked.get(one) or said.get(one)
            if found:
                leaks[number] = Leak(at, found[0])
        left = [number for number in range(len(long)) if number not in leaks]
        ids = [self._tokenizer.encode(long[number][0]) for number in left]
        for index, one in self._overlapping(ids, self._params.min_ngrams):
            leaks[left[index]] = Leak(long[left[index]][1], one.row, one.share)
        return Side(name, item, len(long), tuple(leaks[number] for number in sorted(leaks)), True)

    def rows(self, tests: Prepared) -> Side:
        """The leaks among evaluation rows."""
        rows, leaks = tests.rows, {}
        single, generic = single_rows(rows), self._generic(tests)
        asked, said = self._asked(rows.asked, CANDIDATES), self._said(rows.said)
        prompts: list[Location] = []
        spoken = (rows.said != NOTHING).nonzero()[0].tolist()
        for number in spoken:
            at, same = rows.at(number), said.get(int(rows.said[number]))
            question = asked.get(int(rows.asked[number]), [])
            if same:
                leaks[number] = Leak(at, same[0])
            elif (begun := self._begun(tests, number, question)) is not None:
                leaks[number] = begun
            elif single[number] and question:
                if int(rows.asked[number]) in generic:
                    prompts.append(at)
                else:
                    leaks[number] = Leak(at, question[0], how="question")
        apart = tests.masked or rows.format == "text"
        asked_alone = {int(number) for number in spoken if int(rows.asked[number]) in generic}
        left = [number for number in spoken if number not in leaks and number not in asked_alone and apart]
        step = max(-(-int(tests.length[left].sum()) // MAX_TEST_TOKENS), 1)
        whole, left = len(left), left[::step]
        prompted = [_prompt(tests, number) for number in left]
        for index, one in self._overlapping(prompted, self._params.min_row_ngrams):
            leaks[left[index]] = Leak(rows.at(left[index]), one.row, one.share)
        ordered = tuple(leaks[number] for number in sorted(leaks))
        sampled = (len(left), whole) if step > 1 else None
        return Side("eval", "evaluation row", len(spoken), ordered, False, tuple(prompts), sampled)

    def _asked(self, words: "Ints", most: int) -> dict[int, list[int]]:
        """Training rows that ask what these fingerprints are of, up to `most` of each."""
        return _rows_with(self._prepared.rows.asked, words, most)

    def _said(self, words: "Ints") -> dict[int, list[int]]:
        """The first training row that says what these fingerprints are of."""
        return _rows_with(self._prepared.rows.said, words, 1)

    def _generic(self, tests: Prepared) -> frozenset[int]:
        """Questions (fingerprints) with so many different answers that they are prompts, on both sides."""
        import numpy as np

        wanted = np.unique(tests.rows.asked[single_rows(tests.rows)])
        most = GENERIC + 1
        parts = (
            lookup.different_answers(rows.asked[some], rows.said[some], wanted, most)
            for rows in (self._prepared.rows, tests.rows)
            for some in _single_numbers(rows)
        )
        pairs = lookup.every_answer(parts, most)
        questions, answers = np.unique(pairs[:, 0], return_counts=True)
        return frozenset(questions[answers > GENERIC].tolist())

    def _begun(self, tests: Prepared, number: int, question: Sequence[int]) -> Leak | None:
        """A training row that begins with all of this conversation, or all of which this one begins with.

        `question` are training rows with the same first question.
        """
        at, mine = tests.rows.at(number), _spoken_turns(tests.rows, number)
        for row in question:
            if max(mine, _spoken_turns(self._prepared.rows, row)) <= 2:
                continue
            if tests.length[number] <= self._prepared.length[row]:
                if self._begins((tests, number), (self._prepared, row)):
                    return Leak(at, row, how="beginning")
            elif self._begins((self._prepared, row), (tests, number)):
                return Leak(at, row, how="continued")
        return None

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
        made = grams([answers, others], SHINGLE)
        if not len(made.of(0)) or (not side.masked and _spoken_turns(side.rows, row) <= 2):
            return False
        return bool(_contained(made.of(0), made.of(1)) >= BEGINS)

    def _is_blank(self, token: int) -> bool:
        """Whether a token ends a turn, or is blank: what may stand behind an answer."""
        if token not in self._blank:
            special = token in self._tokenizer.special_ids
            self._blank[token] = special or not self._tokenizer.show([token]).strip()
        return self._blank[token]

    def _overlapping(self, texts: Sequence[Any], least: int) -> list[tuple[int, Overlap]]:
        params, tokens = self._params, self._prepared.tokens
        spoken = self._prepared.rows.said != NOTHING
        found = overlaps(texts, shards_of(tokens), spoken, params.ngram, least)
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


def _rows_with(column: "Ints", words: "Ints", most: int) -> dict[int, list[int]]:
    """Rows that have one of these fingerprints in a column, by fingerprint: the first `most` of each."""
    import numpy as np

    wanted = np.unique(words[words != NOTHING])
    found = lookup.together(
        lookup.find(column[some], wanted, most, some.start) for some, _ in slices(len(column))
    )
    rows: dict[int, list[int]] = {}
    for place, row in zip(found.places.tolist(), found.rows.tolist(), strict=True):
        rows.setdefault(int(wanted[place]), []).append(row)
    return rows


def _single_numbers(rows: Rows) -> Iterator["Ints"]:
    """The rows with one question and at most one answer, some at a time."""
    for some, _ in slices(len(rows)):
        yield single_rows(rows, some).nonzero()[0] + some.start


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
        message = _how(leak, side.item, place_name(rows.at(leak.row)))
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
