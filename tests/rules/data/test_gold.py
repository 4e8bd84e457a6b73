from dataclasses import replace
from typing import Any

import pytest
from ftcheck_rules.data.cases.gold import CASES
from ftcheck_rules.data.gold import gold_set, wilson

from ftcheck import Location, Severity
from ftcheck.inputs.prepared import RowError
from ftcheck.testing import Case, Ran, gold, job, prepared, run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(gold_set, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def asked(questions: list[str], accuracy: float | None = None) -> Ran:
    made = job(targets={"accuracy": accuracy})
    items = gold(*((one, "x") for one in questions))
    return run(gold_set, job=made, gold=items, prepared_eval=None)


def test_the_interval_is_wilsons() -> None:
    low, high = wilson(0.95, 100)
    assert (round(low, 3), round(high, 3)) == (0.888, 0.978)


def test_few_questions_are_a_warning_that_names_the_interval_and_the_number() -> None:
    [finding] = asked([f"q {n}" for n in range(5)], 0.95).findings
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.job.data.gold"
    assert "51% to 100%" in finding.message
    assert finding.fix == "use at least 73 gold questions"


def test_a_target_that_a_perfect_score_cannot_show_is_worth_knowing() -> None:
    ran = asked([f"q {n}" for n in range(100)], 0.99)
    assert ran.worst is Severity.INFO
    assert "cannot confirm targets.accuracy 0.99" in ran.findings[0].message


def test_questions_that_come_twice_count_once() -> None:
    ran = asked([*(f"q {n}" for n in range(60)), "Q 1!", "q 2", "q 3"])
    assert ran.measured["gold_duplicates"] == 3
    assert str(ran.findings[0].at) == "gold.json:61"
    assert ran.worst is Severity.WARNING


def test_rows_that_cannot_be_asked_are_told_with_the_first_reason() -> None:
    at = Location("gold.json", 3)
    trouble = RowError("schema", "has no key 'input'", "set data.gold.input or data.gold.expected")
    items = gold(*((f"q {n}", "x") for n in range(60)))

    ran = run(gold_set, job=job(), gold=replace(items, row_errors=((at, trouble),)), prepared_eval=None)

    [finding] = ran.findings
    assert finding.message == "1 of 61 gold rows cannot be used; the first: has no key 'input'"
    assert (finding.at, finding.fix, ran.worst) == (
        at,
        "set data.gold.input or data.gold.expected",
        Severity.ERROR,
    )


def evaluated(count: int, **training: Any) -> Ran:
    made = job(data={"eval": "eval.jsonl"}, training=training)
    return run(gold_set, job=made, gold=None, prepared_eval=prepared([5] * count))


def test_few_evaluation_rows_matter_where_they_choose_the_checkpoint() -> None:
    best = {"eval_strategy": "epoch", "extra": {"load_best_model_at_end": True}}
    assert evaluated(5, **best).worst is Severity.WARNING
    assert evaluated(50, **best).result.outcome == "passed"
    assert evaluated(5, eval_strategy="epoch").result.outcome == "skipped"
