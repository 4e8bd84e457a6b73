import pytest
from ftcheck_rules.outcome.cases.valid_output import BROKEN, CASES, GOOD, answered
from ftcheck_rules.outcome.valid_output import valid_output

from ftcheck import Severity
from ftcheck.inputs.finished_run import Generation
from ftcheck.testing import Case, generations, run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(valid_output, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def test_shares_at_both_attempts_are_measured() -> None:
    mended = Generation(BROKEN, 14, "stop", again=Generation(GOOD, 18, "stop"))
    ran = run(valid_output, **answered([GOOD] * 2 + [mended, BROKEN]))
    assert (ran.measured["valid_at_retry_0"], ran.measured["valid_at_retry_1"]) == (0.5, 0.75)


def test_many_retries_are_worth_a_warning_though_all_come_out_valid() -> None:
    mended = Generation(BROKEN, 14, "stop", again=Generation(GOOD, 18, "stop"))
    ran = run(valid_output, **answered([GOOD] * 2 + [mended] * 2))
    assert ran.worst is Severity.WARNING


def test_what_is_wrong_is_said_in_the_schemas_words_with_the_answer_only_as_content() -> None:
    ran = run(valid_output, **answered([GOOD, '{"team": 5}', "secret"]))
    rows = [one for one in ran.findings if one.severity is Severity.INFO]
    assert all("secret" not in one.message for one in ran.findings)
    assert [one.content for one in rows] == ['{"team": 5}', "secret"]
    assert rows[1].message.startswith("row 3: not JSON")


def test_empty_answers_and_answers_over_the_cap_are_errors() -> None:
    ran = run(
        valid_output, **answered([Generation("", 1, "stop"), Generation("x" * 99, 99, "stop")], schema=False)
    )
    said = [one.message for one in ran.findings]
    assert said == ["1 of 2 answers is empty (row 1)", "1 of 2 answers is longer than the cap (row 2)"]


def test_questions_that_nobody_answered_are_skipped() -> None:
    made = answered([Generation(trouble="HTTP 500")])
    assert run(valid_output, **made).skipped == "no question was answered"
    assert (
        run(valid_output, **{**made, "generations": generations(problem="no adapter")}).skipped
        == "no adapter"
    )
