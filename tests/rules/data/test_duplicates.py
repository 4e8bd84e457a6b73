from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ftcheck_rules.data.cases.duplicates import CASES
from ftcheck_rules.data.duplicates import duplicates
from ftcheck_rules.data.leakage import leakage

from ftcheck import Severity
from ftcheck.dedup.fingerprints import fingerprint
from ftcheck.inputs.benchmarks import Benchmarks, Question
from ftcheck.inputs.prepared import RowError
from ftcheck.records import Location
from ftcheck.testing import Case, FakeTokenizer, Ran, gold, inputs, job, prepared, rows, run, tokenizer

RULES = {one.id: one for one in (duplicates, leakage)}
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


class Store:
    """Rows of given ids; the last `answer` tokens are in the loss."""

    def __init__(self, texts: list[Any], answer: int = 40) -> None:
        self.texts, self.answer = [np.asarray(text, dtype=np.int32) for text in texts], answer

    def ids(self, row: int) -> Any:
        return self.texts[row]

    def mask(self, row: int) -> Any:
        return np.arange(len(self.texts[row])) >= len(self.texts[row]) - self.answer


class Said:
    """Texts whose words are the rows' ids."""

    def __init__(self, texts: list[Any]) -> None:
        self.texts = texts

    def said(self, rows: Any) -> list[str]:
        return [" ".join(map(str, self.texts[row])) for row in rows]


def words(count: int) -> list[int]:
    return RANDOM.integers(1_000, 50_000, size=count).tolist()  # type: ignore[no-any-return]


def near(texts: list[Any], **params: Any) -> Ran:
    lengths = [len(text) for text in texts]
    made = prepared(lengths, trained=[40] * len(texts), tokens=Store(texts))
    return run(duplicates, params, job=job(), prepared=made, inputs=inputs(row_texts=Said(texts)))


def copies(said: list[int], **made: Any) -> Ran:
    count = len(said)
    of = rows(count, said=said, **made)
    return run(duplicates, job=job(), prepared=prepared([5] * count, of=of), inputs=inputs())


def test_copies_are_one_finding_at_the_first_copy() -> None:
    [finding] = copies([1, 2, 3, 2, 1]).findings
    assert str(finding.at) == "train.jsonl:4:1"
    assert "2 of 5 rows (40.0%)" in finding.message
    assert "train.jsonl:2" in finding.message


def test_few_copies_are_only_worth_knowing() -> None:
    ran = copies([*range(1, 200), 1])
    assert ran.worst is Severity.INFO
    assert ran.measured["rows_duplicate"] == 1


def test_the_same_words_under_another_system_prompt_are_no_copy() -> None:
    ran = copies([1, 1], system=[0, 1], system_prompts=("a", "b"))
    assert ran.measured["rows_duplicate"] == 0


def test_rows_without_words_are_no_copies_of_each_other() -> None:
    assert copies([0, 0, 1]).measured["rows_duplicate"] == 0
    assert copies([0, 0]).result.outcome == "skipped"


def test_one_question_with_two_answers_is_found_and_counted_once() -> None:
    ran = copies([1, 2, 3, 4], asked=[7, 8, 7, 7], turns=[2, 2, 2, 2])
    assert ran.measured["questions_with_other_answers"] == 1
    assert str(ran.findings[0].at) == "train.jsonl:3:1"


def test_conversations_that_open_alike_do_not_contradict_each_other() -> None:
    ran = copies([1, 2, 3], asked=[7, 7, 7], turns=[5, 5, 5])
    assert ran.measured["questions_with_other_answers"] == 0


def test_a_long_row_with_one_other_token_is_nearly_the_same() -> None:
    texts = [words(200) for _ in range(20)]
    changed = list(texts[3])
    changed[100] = 7
    ran = near([*texts, changed], max_near_duplicate_share=0)
    [finding] = ran.findings
    assert str(finding.at) == "train.jsonl:21:1"
    assert "train.jsonl:4" in finding.message
    assert finding.severity is Severity.WARNING


def test_a_long_system_prompt_makes_no_rows_alike() -> None:
    shared = words(2_000)
    assert near([shared + words(80) for _ in range(30)]).measured["rows_near_duplicate"] == 0


def test_two_answers_about_one_document_are_not_nearly_the_same() -> None:
    document = words(2_000)
    others = [words(200) for _ in range(20)]
    texts = [document + words(40), document + words(40), *others]
    assert near(texts).measured["rows_near_duplicate"] == 0


def test_short_rows_are_never_nearly_the_same() -> None:
    text = words(30)
    assert near([text, [*text[:-1], 1], *(words(60) for _ in range(9))]).measured["rows_near_duplicate"] == 0


def leaks(questions: list[str], asked: list[str], **more: Any) -> Ran:
    of = rows(len(asked), asked=[fingerprint(one) for one in asked])
    given = {"prepared_eval": None, "benchmarks": None, "tokenizer": tokenizer(), **more}
    items = gold(*((one, "x") for one in questions))
    return run(leakage, job=job(), prepared=prepared([5] * len(asked), of=of), gold=items, **given)


def test_a_leaked_question_is_found_whatever_its_case_and_punctuation() -> None:
    [finding] = leaks(["Where IS it, then?"], ["what is this", "where is it then"]).findings
    assert finding.severity is Severity.ERROR
    assert str(finding.at) == "gold.json:1"
    assert "train.jsonl:2" in finding.message


def test_one_leaked_question_of_many_is_a_warning() -> None:
    ran = leaks([f"what is question {n}" for n in range(40)], ["what is question 3"])
    assert ran.worst is Severity.WARNING
    assert ran.measured["gold_leaked"] == 1


def test_greetings_are_not_looked_for() -> None:
    assert leaks(["thank you"], ["thank you"]).result.outcome == "skipped"


def test_a_long_question_inside_a_prompt_leaks_by_its_n_grams() -> None:
    question = "a train leaves the station at nine and another one follows an hour later at twice the speed"
    letters = [ord(letter) for letter in f"Question: {question}\nAnswer:"]
    made = prepared([len(letters)], tokens=Store([letters]))
    test = Benchmarks(("test.jsonl",), (Question(question, Location("test.jsonl", 4)),))

    ran = run(
        leakage,
        job=job(),
        prepared=made,
        prepared_eval=None,
        gold=None,
        benchmarks=test,
        tokenizer=tokenizer(),
    )

    [finding] = ran.findings
    assert str(finding.at) == "test.jsonl:4"
    assert "100% of its token n-grams" in finding.message


def test_without_a_test_set_nothing_is_looked_for_and_the_check_says_so() -> None:
    ran = run(
        leakage,
        job=job(),
        prepared=prepared([5]),
        prepared_eval=None,
        gold=None,
        benchmarks=None,
        tokenizer=tokenizer(),
    )
    assert ran.result.outcome == "skipped"


def test_a_gold_set_of_unusable_rows_is_skipped_with_their_number() -> None:
    broken = (Location("gold.json", 1), RowError("schema", "has no key 'input'"))
    ran = run(
        leakage,
        job=job(),
        prepared=prepared([5], of=rows(1, asked=[fingerprint("one two three")])),
        prepared_eval=None,
        gold=replace(gold(), row_errors=(broken, broken)),
        benchmarks=None,
        tokenizer=tokenizer(),
    )
    assert ran.result.outcome == "skipped"
    assert "2 gold rows cannot be used (see gold-set)" in str(ran.result.reason)


def test_a_long_evaluation_row_leaks_by_its_question_and_a_shared_answer_is_no_leak() -> None:
    question, answer = words(100), words(60)
    train = [words(100) + answer, words(3) + question + words(60), *(words(160) for _ in range(9))]
    tests = [words(100) + answer, question + words(60)]
    ran = run(
        leakage,
        job=job(),
        prepared=prepared([len(text) for text in train], tokens=Store(train, 60)),
        prepared_eval=prepared(
            [160] * 2,
            trained=[60] * 2,
            of=rows(2, asked=[101, 102], said=[101, 102]),
            tokens=Store(tests, 60),
        ),
        gold=None,
        benchmarks=None,
        tokenizer=tokenizer(),
    )

    [finding] = ran.findings
    assert finding.at is not None
    assert finding.at.row == 2
    assert "train.jsonl:2" in finding.message
    assert finding.severity is Severity.WARNING


def test_22_rows_that_share_a_tool_list_alone_are_no_near_duplicates() -> None:
    """Ten tool lists of two rows each: none is boilerplate, and what is asked and answered differs."""
    tools = [words(900) for _ in range(10)]
    said = [words(50) for _ in range(20)]
    texts = [tools[n // 2] + said[n] for n in range(20)]
    whole = prepared([len(one) for one in texts], tokens=Store(texts, answer=950))
    same = [said[0], *said[1:-1], [*said[0][:-1], 7]]

    apart = run(duplicates, job=job(), prepared=whole, inputs=inputs(row_texts=Said(said)))
    assert apart.measured["rows_near_duplicate"] == 0
    texts[-1] = tools[0] + same[-1]
    whole = prepared([len(one) for one in texts], tokens=Store(texts, answer=950))
    alike = run(duplicates, job=job(), prepared=whole, inputs=inputs(row_texts=Said(same)))
    assert alike.measured["rows_near_duplicate"] == 1


def test_24_generic_prompts_are_told_by_their_rows_and_contradict_nothing() -> None:
    made = copies(list(range(1, 41)), asked=[7] * 20 + [8] * 18 + [9, 10], turns=[2] * 40)

    [finding] = made.findings
    assert finding.severity is Severity.INFO
    assert finding.message.startswith(
        "38 of 40 rows (95.0%) stand under 2 generic prompts with more than 3 different answers each"
    )
    assert made.measured["questions_with_other_answers"] == 0


def evaluated(
    train: list[list[int]], tests: list[list[int]], train_of: dict[str, Any], tests_of: dict[str, Any]
) -> Ran:
    """Evaluation rows against training rows, all of it in the loss."""
    side = [
        prepared([len(one) for one in texts], tokens=Store(texts, answer=10_000), of=rows(len(texts), **of))
        for texts, of in ((train, train_of), (tests, tests_of))
    ]
    given: dict[str, Any] = {"gold": None, "benchmarks": None, "tokenizer": Spaced()}
    return run(leakage, job=job(), prepared=side[0], prepared_eval=side[1], **given)


class Spaced(FakeTokenizer):
    """One whose token 2 ends turns."""

    special_ids = frozenset({2})

    def show(self, ids: Any) -> str:
        return "".join("<end>" if one == 2 else "w" for one in ids)


def test_24_conversations_exploded_by_turn_are_all_told_in_both_directions() -> None:
    first, second, third = (words(30) for _ in range(3))
    one, two, three = [*first, 2], [*first, 2, *second, 2], [*first, 2, *second, 2, *third, 2]
    asked = {"asked": [7, 9], "turns": [4, 2]}

    ran = evaluated(
        [two, words(40)],
        [one, three],
        {"said": [1, 2], **asked},
        {"said": [3, 4], "asked": [7, 7], "turns": [2, 6]},
    )

    assert [one.message.partition(" (")[0] for one in ran.findings] == [
        "this evaluation row is the beginning of a row in the training data, train.jsonl:1",
        "this evaluation row goes on from a row in the training data, train.jsonl:1",
    ]
    assert ran.worst is Severity.ERROR


def test_24_another_answer_in_the_same_conversation_is_no_copy() -> None:
    first, second = words(30), words(30)
    of = {"asked": [7], "turns": [4]}
    ran = evaluated(
        [[*first, 2, *second, 2]], [[*first[:15], *words(15), 2]], {"said": [1], **of}, {"said": [3], **of}
    )
    assert ran.findings == ()


def test_24_a_question_with_another_answer_is_a_warning_and_a_generic_prompt_none() -> None:
    texts = [words(20) for _ in range(40)]
    train = {"asked": [7] * 10 + list(range(100, 130)), "said": list(range(1, 41)), "turns": [2] * 40}
    tests = {"asked": [7, 7, 105, 900], "said": [501, 502, 503, 504], "turns": [2] * 4}

    ran = evaluated(texts, [words(20) for _ in range(4)], train, tests)

    question, prompts = ran.findings
    assert question.severity is Severity.WARNING
    assert (
        "the question of this evaluation row is in the training data with another answer" in question.message
    )
    assert prompts.severity is Severity.INFO
    assert (
        prompts.message == "2 of 4 evaluation rows share a generic prompt with training rows, but no answer"
    )


def test_pairs_that_are_not_compared_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftcheck_rules.data.duplicates.MAX_PAIRS", 2)
    text = words(200)
    texts = [[*text[:100], number, *text[101:]] for number in range(4)]

    ran = near([*texts, *(words(200) for _ in range(40))])

    assert ran.measured["pairs_not_compared"] > 0
    assert "at least" in (ran.result.summary or "")


def test_evaluation_rows_that_are_not_searched_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftcheck_rules.data.leakage.MAX_TEST_TOKENS", 100)
    texts = [words(60) for _ in range(4)]
    sides = [
        prepared([60] * 4, trained=[40] * 4, tokens=Store(texts), of=rows(4, said=said, asked=said))
        for said in ([1, 2, 3, 4], [5, 6, 7, 8])
    ]
    given: dict[str, Any] = {"gold": None, "benchmarks": None, "tokenizer": tokenizer()}

    ran = run(leakage, job=job(), prepared=sides[0], prepared_eval=sides[1], **given)

    assert "2 of 4 searched for shared n-grams" in (ran.result.summary or "")
