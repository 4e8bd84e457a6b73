from typing import Any

import pytest
from ftcheck_rules.data.cases.hosted import CASES
from ftcheck_rules.data.hosted import hosted_file

from ftcheck import Severity
from ftcheck.testing import Case, Ran, inputs, job, prepared, rows, run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(hosted_file, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def hosted(model: str = "gpt-4o-mini-2024-07-18", lengths: list[int] | None = None, **made: Any) -> Ran:
    one = job(model={"name": model}, data={"train": "train.jsonl"})
    opened: dict[str, Any] = {"prepared": prepared(lengths)} if lengths is not None else {}
    return run(hosted_file, job=one, inputs=inputs(one, rows=rows(12, **made), **opened))


def test_a_row_that_the_service_refuses_is_an_error_on_its_line() -> None:
    [finding] = hosted(remarks={"weight": [4]}).findings
    assert str(finding.at) == "train.jsonl:5:1"
    assert finding.severity is Severity.ERROR


def test_another_layout_is_refused() -> None:
    assert "'sharegpt'" in hosted(layout="sharegpt").findings[0].message


def test_rows_over_the_models_limit_are_a_warning_where_they_can_be_counted() -> None:
    ran = hosted(lengths=[10] * 11 + [70_000])
    assert ran.worst is Severity.WARNING
    assert str(ran.findings[0].at) == "train.jsonl:12:1"
    assert hosted().result.outcome == "passed"


def test_without_training_data_nothing_is_looked_at() -> None:
    bare = job()
    assert run(hosted_file, job=bare, inputs=inputs(bare)).result.outcome == "skipped"
