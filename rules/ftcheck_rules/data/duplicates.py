"""Overlap rules: rows that say what other rows say, and rows that say what the model will be tested on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from ftcheck.dedup import fingerprints, minhash
from ftcheck.dedup.fingerprints import NOTHING
from ftcheck.extension.rules import Yield
from ftcheck.inputs.benchmarks import Benchmarks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

SHINGLE = 5
"""Tokens of an n-gram where two rows are compared."""
MAX_PAIRS = 100_000
"""Pairs of rows that are compared exactly; MinHash proposes few that are not alike."""
MAX_TEST_TOKENS = 4_000_000
"""Tokens of evaluation rows that are looked for in the training rows; of more, every nth row is taken."""


@dataclass(frozen=True)
class Duplicates:
    """Parameters of `duplicates`."""

    max_duplicate_share: float = 0.01
    """Share of rows that may say what an earlier row says."""
    max_near_duplicate_share: float = 0.05
    """Share of rows that may say nearly what an earlier row says."""
    max_conflict_share: float = 0.05
    """Share of rows whose question another row answers in another way."""
    likeness: float = 0.9
    """Jaccard index of token 5-grams from which two rows are nearly the same, above 0 and up to 1."""
    min_ngrams: int = 32
    """Rows with fewer 5-grams of their own are not called nearly the same."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a likeness that is no share."""
        if not 0 < self.likeness <= 1:
            raise ValueError("likeness must lie above 0 and not above 1")


@rule("duplicates", family="data", cases="ftcheck_rules.data.cases.duplicates")
def duplicates(job: Job, prepared: Prepared, params: Duplicates) -> Iterator[Yield]:
    """Few rows say what another row says, and one question has one answer.

    A part of the data that was concatenated twice is learned twice: the model memorises it, and a random
    split puts one copy into the evaluation data, which then looks better than the model is. Two answers
    to one question teach neither.

    Rows are the same if everything said in them is, but for case, punctuation and white space, under
    the same system prompt (`2 + 3` is not `2 - 3`, `C++` not `C#`). They are nearly the same from a
    Jaccard index of token 5-grams of 0.9 on, in the row and in its answer alone; n-grams that more than
    a tenth of the rows share (system prompt, template) do not count, and rows with fewer than 32 others
    are left out. Pairs are proposed by MinHash (128 permutations) and compared exactly. Questions are
    compared in rows with one question and one answer. Parameters: max_duplicate_share (default 0.01),
    max_near_duplicate_share (default 0.05), max_conflict_share (default 0.05), likeness (default 0.9),
    min_ngrams (default 32); up to these shares a finding is only `info`.
    """
    rows = prepared.rows
    spoken = rows.said != NOTHING
    if not spoken.any():
        yield Skip("there is no row with words in it")
        return
    first = _first_like(rows.said, rows.system)
    copied = spoken & (first != _numbers(len(rows)))
    near = _near(prepared, spoken & ~copied, params)
    questions, conflicting = _conflicts(rows)
    total = int(spoken.sum())
    yield from _shares(total, int(copied.sum()), len(near), questions, params)
    yield Summary(f"{int(copied.sum()):,} copied · {len(near):,} nearly the same · {total:,} rows")
    if copied.any():
        yield from _told(_copied(rows, first, copied, total, params), rows, copied.nonzero()[0].tolist())
    if near:
        yield from _told(_alike(rows, near, total, params), rows, sorted(near))
    if len(conflicting):
        yield _conflict(rows, questions, conflicting, total, params)


def _told(finding: Finding, rows: Rows, found: Sequence[int]) -> Iterator[Yield]:
    """A finding, and the rows that may go where it is more than a remark."""
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


def _near(prepared: Prepared, distinct: "Mask", params: Duplicates) -> dict[int, int]:
    """Rows that are nearly the same as an earlier one, each with that one."""
    rows = distinct.nonzero()[0].tolist()
    common = minhash.boilerplate(prepared.tokens, rows, SHINGLE)
    pairs = minhash.likely_pairs(prepared.tokens, rows, SHINGLE, params.min_ngrams, common)
    found: dict[int, int] = {}
    for later, earlier in pairs[:MAX_PAIRS]:
        if later not in found and _are_alike(prepared, later, earlier, common, params.likeness):
            found[later] = earlier
    return found


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


def _conflicts(rows: Rows) -> "tuple[int, Ints]":
    """How many questions have several answers, and the rows that give another one than the first."""
    import numpy as np

    single = (rows.asked != NOTHING) & (rows.turns - (rows.system >= 0) <= 2)
    first = _first_like(rows.asked, rows.system)
    other = single & single[first] & (rows.said != rows.said[first])
    return len(np.unique(first[other])), other.nonzero()[0]


def _shares(total: int, copied: int, near: int, questions: int, params: Duplicates) -> Iterator[Measurement]:
    yield Measurement("rows", total, unit="rows")
    yield Measurement("rows_duplicate", copied, unit="rows", limit=_limit(params.max_duplicate_share, total))
    limit = _limit(params.max_near_duplicate_share, total)
    yield Measurement("rows_near_duplicate", near, unit="rows", limit=limit)
    yield Measurement("duplicate_share", round(copied / total, 4), limit=f"<= {params.max_duplicate_share}")
    yield Measurement("questions_with_other_answers", questions, unit="questions")


def _limit(share: float, total: int) -> str:
    return f"<= {int(share * total)}"


def _copied(rows: Rows, first: "Ints", copied: "Mask", total: int, params: Duplicates) -> Finding:
    count, row = int(copied.sum()), int(copied.nonzero()[0][0])
    like = _name(rows.at(int(first[row])))
    message = (
        f"{_of(count, total)} say what an earlier row says, but for case and punctuation;"
        f" this is the first copy, of {like}"
    )
    fix = "take the copies out; if they are there to weigh more, say so with max_duplicate_share"
    return Finding(message, _above(count, total, params.max_duplicate_share), at=rows.at(row), fix=fix)


def _alike(rows: Rows, near: dict[int, int], total: int, params: Duplicates) -> Finding:
    row = min(near)
    message = (
        f"{_of(len(near), total)} say nearly what an earlier row says ({params.likeness:.0%} of the"
        f" token 5-grams or more); this is the first, compare {_name(rows.at(near[row]))}"
    )
    severity = _above(len(near), total, params.max_near_duplicate_share)
    return Finding(message, severity, at=rows.at(row), fix="keep one row of each kind")


def _conflict(rows: Rows, questions: int, conflicting: "Ints", total: int, params: Duplicates) -> Finding:
    row = int(conflicting[0])
    first = int(_first_like(rows.asked, rows.system)[row])
    several = "question has" if questions == 1 else "questions have"
    message = f"{questions:,} {several} other answers in other rows; compare {_name(rows.at(first))}"
    fix = "keep one answer to each question, unless several are meant to be learned"
    severity = _above(len(conflicting), total, params.max_conflict_share)
    return Finding(message, severity, at=rows.at(row), fix=fix)


def _above(count: int, total: int, share: float) -> Severity:
    return Severity.WARNING if count > share * total else Severity.INFO


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} rows ({count / total:.1%})"


def _name(at: Location) -> str:
    return f"{Path(at.path or '').name}:{at.line}"


@dataclass(frozen=True)
class Leakage:
    """Parameters of `leakage`."""

    max_leaked_share: float = 0.05
    """Share of a test set that may be in the training data before the finding is an error."""
    min_words: int = 3
    """Gold and benchmark questions with fewer words are not looked for: greetings come back by themselves."""
    ngram: int = 13
    """Tokens of the n-grams that are looked for, as in the contamination studies of GPT-3."""
    min_ngrams: int = 8
    """Gold and benchmark questions with fewer n-grams of their own are compared as a whole only."""
    min_row_ngrams: int = 32
    """The same for evaluation rows, whose short ones differ in little more than a name."""
    overlap: float = 0.8
    """Share of a text's n-grams in training rows from which it counts as leaked, above 0 and up to 1."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for an overlap that is no share."""
        if not 0 < self.overlap <= 1:
            raise ValueError("overlap must lie above 0 and not above 1")


@dataclass(frozen=True, slots=True)
class Leak:
    """A test item that is in the training data: its place, the row, and the share if not all of it is."""

    at: Location
    row: int
    share: float | None = None


@dataclass(frozen=True)
class Side:
    """A test set: its name, how many items were looked for, what leaked, and the place of a remedy."""

    name: str
    item: str
    total: int
    leaks: tuple[Leak, ...]
    overlap_is_error: bool


@rule("leakage", family="data", cases="ftcheck_rules.data.cases.duplicates")
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

    A model that has seen the test answers from memory: every number after that is too good, the wrong
    checkpoint is kept, and nobody notices before the users do.

    Questions are compared whole, but for case, punctuation and white space; conversations of several
    turns and plain text by all that is said in them. Longer texts leak too if 80 % of their token
    13-grams stand in training rows (of evaluation rows: of the question, where the loss tells it from the
    answer; answers in one form are alike by right); n-grams that more than a tenth of the rows share do not
    count. Each leaked item is a warning, and an error where more than 5 % of its set leaked (evaluation
    rows: whole questions only, as rows about one document overlap). Parameters: max_leaked_share
    (default 0.05), min_words (default 3), ngram (default 13), min_ngrams (default 8),
    min_row_ngrams (default 32), overlap (default 0.8).
    """
    rows = prepared.rows
    if prepared_eval is None and gold is None and benchmarks is None:
        yield Skip("no data.eval, no data.gold and no data.benchmarks: nothing that could leak")
        return
    if not (rows.said != NOTHING).any():
        yield Skip("there is no training row with words in it")
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
        yield Measurement(f"{side.name}_compared", side.total, unit="items")
        yield Measurement(f"{side.name}_leaked", len(side.leaks), unit="items", limit="0")
    yield Summary(" · ".join(f"{one.name} {len(one.leaks):,} of {one.total:,}" for one in sides) + " leaked")
    for side in sides:
        yield from _leaked(side, rows, params)
    if not sum(side.total for side in sides):
        broken = len(gold.row_errors) if gold is not None else 0
        why = f": {broken:,} of {broken:,} gold rows cannot be used (see gold-set)" if broken else ""
        yield Skip("the evaluation data, the gold set and the benchmarks hold nothing to look for" + why)


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
    """The training rows as test items are looked for in them."""

    def __init__(self, prepared: Prepared, tokenizer: Tokenizer, params: Leakage) -> None:
        import numpy as np

        self._prepared, self._tokenizer, self._params = prepared, tokenizer, params
        self._asked = np.unique(prepared.rows.asked, return_index=True)
        self._said = np.unique(prepared.rows.said, return_index=True)
        self._rows = (prepared.rows.said != NOTHING).nonzero()[0].tolist()

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
        single = (rows.asked != NOTHING) & (rows.turns - (rows.system >= 0) <= 2)
        spoken = (rows.said != NOTHING).nonzero()[0].tolist()
        for number in spoken:
            words, known = (rows.asked, self._asked) if single[number] else (rows.said, self._said)
            row = _found(known, int(words[number]))
            if row is not None:
                leaks[number] = Leak(rows.at(number), row)
        apart = tests.masked or rows.format == "text"
        left = [number for number in spoken if number not in leaks and apart]
        step = max(-(-int(tests.length[left].sum()) // MAX_TEST_TOKENS), 1)
        left = left[::step]
        asked = [_prompt(tests, number) for number in left]
        for index, one in self._overlapping(asked, self._params.min_row_ngrams):
            leaks[left[index]] = Leak(rows.at(left[index]), one.row, one.share)
        ordered = tuple(leaks[number] for number in sorted(leaks))
        return Side("eval", "evaluation row", len(spoken), ordered, False)

    def _row_of(self, words: int) -> int | None:
        row = _found(self._asked, words)
        return row if row is not None else _found(self._said, words)

    def _overlapping(self, texts: Sequence[Any], least: int) -> list[tuple[int, minhash.Overlap]]:
        params = self._params
        found = minhash.overlaps(texts, self._prepared.tokens, self._rows, params.ngram, least)
        return [(number, one) for number, one in sorted(found.items()) if one.share >= params.overlap]


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
    whole = sum(leak.share is None or side.overlap_is_error for leak in side.leaks)
    much = whole > params.max_leaked_share * side.total
    fixes = {
        "gold": "take the row out of the training data, or the question out of the gold set",
        "benchmark": "take the row out of the training data, and look for more from the same source",
        "eval": "split the data again, all rows of one question or document on one side",
    }
    for number, leak in enumerate(side.leaks):
        counted = leak.share is None or side.overlap_is_error
        severity = Severity.ERROR if much and counted else Severity.WARNING
        message = f"this {side.item} {_how(leak)} the training data, {_name(rows.at(leak.row))}"
        if number == 0:
            message += f" ({len(side.leaks):,} of {side.total:,} leaked, {len(side.leaks) / side.total:.1%})"
        yield Finding(message, severity, at=leak.at, fix=fixes[side.name])
        yield Exclude([leak.row], rows.at)


def _how(leak: Leak) -> str:
    return "is in" if leak.share is None else f"has {leak.share:.0%} of its token n-grams in"
