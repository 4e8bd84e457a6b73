"""What answers may have in them: which share makes a remark a warning, and what is told by others."""

from typing import Any

import pytest
from ftcheck_rules.data.answers import Answers, answers
from ftcheck_rules.data.cases.answers import ONE, Texts, given

from ftcheck.inputs.prepared import CLOSED, OPEN
from ftcheck.records import Severity
from ftcheck.testing import Ran, gold, inputs, job, prepared, rows, run, tokenizer

LOUD = (Severity.WARNING, Severity.ERROR)


def loud(ran: Ran) -> list[str]:
    """Messages above info."""
    return [one.message for one in ran.findings if one.severity in LOUD]


@pytest.mark.parametrize(
    ("code", "warning", "error"),
    [
        ("placeholder", 0.02, 0.8),
        ("bracket", 0.05, None),
        ("mojibake", 0.01, None),
        ("replacement", 0.01, None),
        ("refusal", 0.3, None),
        ("as-an-ai", 0.15, None),
        ("email", 0.1, None),
        ("phone", 0.1, None),
    ],
)
def test_a_kind_has_a_share_at_which_it_is_a_warning_and_an_error(
    code: str, warning: float, error: float | None
) -> None:
    count = 1_000

    def severity(found: int) -> Severity:
        [one] = run(answers, **given(count=count, remarks={f"answer:{code}": range(found)})).findings
        return one.severity

    at = round(warning * count)
    assert (severity(at - 1), severity(at)) == (Severity.INFO, Severity.WARNING)
    if error is None:
        assert severity(count) is Severity.WARNING
    else:
        at = round(error * count)
        assert (severity(at - 1), severity(at)) == (Severity.WARNING, Severity.ERROR)


def test_few_rows_of_a_small_set_are_a_remark() -> None:
    ran = run(answers, **given(count=6, remarks={"answer:mojibake": range(5)}))

    assert [one.severity for one in ran.findings] == [Severity.INFO]


def test_shares_can_be_set() -> None:
    remarks = {"answer:refusal": range(8)}

    assert run(answers, {"refusal_warning": 0.5}, **given(remarks=remarks)).worst is Severity.INFO
    assert run(answers, {"refusal_error": 0.1}, **given(remarks=remarks)).worst is Severity.ERROR
    assert Answers().refusal_error is None


def test_the_finding_names_the_first_row_and_no_words() -> None:
    ran = run(answers, **given([ONE] * 114 + [f"answer {n} of all" for n in range(6)]))

    [finding] = ran.findings
    assert finding.severity is Severity.WARNING
    assert finding.message.startswith("one sentence is the answer of 114 of 120 rows (95.0%)")
    assert finding.at is not None
    assert finding.at.line == 1
    assert ONE not in finding.message
    assert finding.content == ONE


def test_a_refusal_in_all_rows_is_told_once() -> None:
    said = [ONE] * 114 + [f"answer {n} of all" for n in range(6)]

    ran = run(answers, **given(said, remarks={"answer:refusal": range(114)}))

    assert len(ran.findings) == 1


def test_copies_of_a_row_are_told_by_another_rule() -> None:
    said = [ONE] * 30 + [f"answer {n} of all" for n in range(10)]

    assert loud(run(answers, **given(said)))
    assert not loud(run(answers, **given(said, said=[1] * 30 + list(range(2, 12)))))


@pytest.mark.parametrize(
    "said",
    [
        ["ham"] * 36 + ["spam"] * 24,
        ["None"] * 38 + ["Ada Lovelace", "Alan Turing"],
        ['{"entities": []}' + " " * 0] * 30 + ['{"entities": ["a"]}', '{"entities": ["b"]}'],
        ["The text supports the claim."] * 40 + ["There is not enough information."] * 20,
        ["The text supports the claim.", "There is not enough information."] * 20,
    ],
)
def test_labels_and_empty_results_may_come_again(said: list[str]) -> None:
    assert run(answers, **given(said)).findings == ()


def test_an_answer_that_the_prompt_ends_in_again_and_again_is_a_choice() -> None:
    remarks = {"answer:ends-prompt": range(40)}

    assert run(answers, **given(["no"] * 40, remarks=remarks)).findings == ()
    assert run(answers, **given(["no", "maybe"] * 20, remarks=remarks)).worst is Severity.ERROR


@pytest.mark.parametrize(("count", "worst"), [(35, "warning"), (36, "error"), (19, "info")])
def test_answers_at_the_end_of_their_prompts(count: int, worst: str) -> None:
    ran = run(answers, **given(remarks={"answer:ends-prompt": range(count)}))

    assert ran.worst is not None
    assert ran.worst.value == worst


def test_quotations_anywhere_in_the_prompt_are_never_an_error() -> None:
    ran = run(answers, **given(remarks={"answer:in-prompt": range(40)}))

    assert ran.worst is Severity.WARNING


def test_fences_matter_where_a_schema_wants_json() -> None:
    remarks = {"answer:fenced-json": range(3)}

    assert run(answers, **given(remarks=remarks)).findings == ()
    assert run(answers, **given(schema="s.json", remarks=remarks)).worst is Severity.WARNING
    remarks = {"answer:fenced-json": range(4)}
    assert run(answers, **given(schema="s.json", remarks=remarks)).worst is Severity.ERROR


def test_marks_that_the_tokenizer_knows_are_told_by_another_rule() -> None:
    def said(found: Any = None, **tokens: Any) -> list[str]:
        remarks = {"answer:markup:<eoh>": range(10)}
        made = given(remarks=remarks, marks=found)
        opened = inputs(row_texts=Texts([]), tokenizer=tokenizer(**tokens))
        return loud(run(answers, **{**made, "inputs": opened}))

    [message] = said()
    assert "<eoh>" in message
    assert said({"<eoh>": range(10)}) == []
    assert said(chat_template="{{ m }}<eoh>") == []
    assert said(marks=("<eoh>",)) == []


def cut(open_among_longest: int, open_among_others: int, shorter: int = 40) -> Ran:
    """30 long answers of 100 tokens and 70 shorter ones, of which so many stop mid-sentence."""
    lengths = [100] * 30 + [shorter] * 70
    ending = [OPEN] * open_among_longest + [CLOSED] * (30 - open_among_longest)
    ending += [OPEN] * open_among_others + [CLOSED] * (70 - open_among_others)
    made = given(count=100, ending=ending)
    return run(answers, **{**made, "prepared": prepared(lengths, of=made["prepared"].rows)})


def test_long_answers_that_stop_where_the_others_do_not_were_cut() -> None:
    assert "30 of the 30 longest" in loud(cut(30, 0))[0]
    assert loud(cut(12, 5))
    assert not loud(cut(8, 0))
    assert not loud(cut(30, 70))
    assert not loud(cut(15, 20))
    assert not loud(cut(30, 0, shorter=10))


def labelled(training: list[str], expected: list[str]) -> Ran:
    """Labels of training rows, and those of gold answers."""
    made = given(training)
    items = gold(*[(f"question {n}", one) for n, one in enumerate(expected)])
    opened = inputs(row_texts=Texts(training), tokenizer=tokenizer(), gold=items)
    return run(answers, **{**made, "job": job(data={"gold": "gold.jsonl"}), "inputs": opened})


def test_labels_are_compared_with_the_gold_answers_as_they_are_written() -> None:
    training = ["credit card", "billing"] * 20

    assert labelled(training, ["credit card", "billing"]).findings == ()
    assert labelled(training, ["something else"]).findings == ()
    assert labelled([f" {one}\n" for one in training], ["billing"]).findings == ()
    [finding] = labelled(training, ["billing", "Credit_Card"]).findings
    assert finding.severity is Severity.WARNING
    assert finding.message.startswith(
        "1 of 2 gold answers (50.0%) is a label of the training rows in another"
    )
    assert "Credit" not in finding.message


def test_json_is_compared_by_its_values() -> None:
    training = ['{"team": "it", "urgent": false}', '{"team": "hr", "urgent": true}'] * 20

    assert labelled(training, ['{"team":"it","urgent":false}']).findings == ()
    assert loud(labelled(training, ['{"team":"IT","urgent":false}']))


def test_a_label_of_two_spellings_is_told_with_the_rarer_one() -> None:
    [finding] = run(answers, **given(["Billing"] * 10 + ["billing"] * 30 + ["sales"] * 20)).findings

    assert finding.severity is Severity.WARNING
    assert "10 of 60 rows" in finding.message
    assert finding.at is not None
    assert finding.at.line == 1


def test_answers_that_are_no_labels_are_not_compared() -> None:
    said = [f"Answer {n}" for n in range(40)] + [f"answer {n}" for n in range(40)]

    assert run(answers, **given(said)).findings == ()


def test_rows_without_answers_are_skipped() -> None:
    from ftcheck.inputs.prepared import RowError

    of = rows(1, row_errors={0: RowError("json", "x")})
    ran = run(answers, job=job(), prepared=prepared([0], of=of), inputs=inputs())

    assert ran.skipped == "no row can be read"
