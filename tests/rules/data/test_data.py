from typing import Any

import pytest
from ftcheck_rules.data.cases.data import CASES
from ftcheck_rules.data.data import data_readable, data_schema

from ftcheck import Severity
from ftcheck.inputs.prepared import RowError
from ftcheck.testing import Case, Ran, inputs, job, prepared, rows, run, tokenizer

RULES = {one.id: one for one in (data_readable, data_schema)}
JOB = job(data={"train": "train.jsonl"})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def readable(**opened: Any) -> Ran:
    return run(data_readable, job=JOB, inputs=inputs(JOB, **opened))


def test_a_broken_row_is_reported_at_its_line_and_column() -> None:
    broken = rows(3, row_errors={1: RowError("json", "not JSON: expecting value", "mend it", column=7)})

    ran = readable(rows=broken)

    [finding] = ran.findings
    assert str(finding.at) == "train.jsonl:2:7"
    assert finding.message == "not JSON: expecting value"
    assert finding.fix == "mend it"
    assert ran.measured == {"rows": 3, "rows_broken": 1}


def test_rows_that_only_the_template_or_the_schema_refuses_can_be_read() -> None:
    others = rows(3, row_errors={0: RowError("schema", "no"), 1: RowError("template", "no")})
    assert readable(rows=others).measured["rows_broken"] == 0


def test_one_row_is_enough_to_pass() -> None:
    assert readable(rows=rows(1)).result.outcome == "passed"


def test_a_file_that_cannot_be_opened_fails_the_check_at_the_policy_key() -> None:
    ran = run(data_readable, job=JOB, inputs=inputs(JOB, broken={"rows": "no such file: train.jsonl"}))

    [finding] = ran.findings
    assert finding.message == "no such file: train.jsonl"
    assert finding.at == JOB.at("data.train")
    assert ran.measured == {"rows": 0}


def test_a_file_without_rows_fails_at_the_policy_key() -> None:
    [finding] = readable(rows=rows(0)).findings
    assert finding.at == JOB.at("data.train")


def test_a_job_without_data_fails_unless_a_command_reads_its_own() -> None:
    bare = job()
    command = job(trainer={"use": "command"})
    broken = {"rows": "job job names no data.train"}

    ours = run(data_readable, job=bare, inputs=inputs(bare, broken=broken))
    theirs = run(data_readable, job=command, inputs=inputs(command, broken=broken))

    assert ours.worst is Severity.ERROR
    assert theirs.result.outcome == "skipped"


def schema(*, layout: str = "messages", training: dict[str, object] | None = None, **made: object) -> Ran:
    one = job(data={"train": "train.jsonl"}, training=training or {})
    return run(data_schema, job=one, rows=rows(4, layout=layout, **made))  # type: ignore[arg-type]


def test_a_row_that_does_not_fit_is_reported_on_its_line() -> None:
    ran = schema(row_errors={2: RowError("schema", "'messages' is empty")})

    [finding] = ran.findings
    assert str(finding.at) == "train.jsonl:3:1"
    assert finding.severity is Severity.ERROR
    assert ran.measured == {"format": "messages", "rows_wrong": 1}


def test_a_row_that_is_wrong_in_two_ways_counts_once() -> None:
    ran = schema(remarks={"role": [1], "null-content": [1, 2]})

    assert len(ran.findings) == 3
    assert ran.measured["rows_wrong"] == 2


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        ("role", Severity.ERROR),
        ("null-content", Severity.ERROR),
        ("empty-answer", Severity.WARNING),
        ("no-answer", Severity.WARNING),
    ],
)
def test_each_remark_has_its_severity_and_its_row(code: str, severity: Severity) -> None:
    [finding] = schema(remarks={code: [1]}).findings
    assert finding.severity is severity
    assert str(finding.at) == "train.jsonl:2:1"


@pytest.mark.parametrize(
    ("layout", "training", "severity"),
    [
        ("messages", {"assistant_only_loss": True}, Severity.ERROR),
        ("prompt-completion", {}, Severity.ERROR),
        ("prompt-completion", {"completion_only_loss": False}, Severity.WARNING),
        ("messages", {}, Severity.WARNING),
    ],
)
def test_a_missing_answer_is_an_error_where_only_answers_are_in_the_loss(
    layout: str, training: dict[str, object], severity: Severity
) -> None:
    assert schema(layout=layout, training=training, remarks={"no-answer": [0]}).worst is severity


def test_mapped_sharegpt_roles_are_noted_and_pass() -> None:
    ran = schema(layout="sharegpt")

    assert ran.result.outcome == "passed"
    assert ran.worst is Severity.INFO


def test_data_of_which_no_row_can_be_read_is_skipped() -> None:
    broken = RowError("json", "not JSON")
    assert schema(row_errors=dict.fromkeys(range(4), broken)).skipped == "no row can be read"


WITH_EVAL = job(data={"train": "train.jsonl", "eval": "eval.jsonl"}, training={"eval_strategy": "epoch"})


def test_a_broken_row_of_the_evaluation_data_is_a_finding_too() -> None:
    bad = prepared([5, 0], row_errors={1: RowError("json", "not JSON: expecting value")})
    opened = inputs(WITH_EVAL, rows=rows(3), tokenizer=tokenizer(), prepared_eval=bad)

    ran = run(data_readable, job=WITH_EVAL, inputs=opened)

    [finding] = ran.findings
    assert (finding.message, finding.at and finding.at.row) == ("not JSON: expecting value", 2)
    assert ran.measured["eval_rows"] == 2


def test_evaluation_data_that_cannot_be_opened_is_a_finding_at_its_place() -> None:
    broken = {"prepared_eval": "no such file: eval.jsonl"}
    opened = inputs(WITH_EVAL, broken=broken, rows=rows(3), tokenizer=tokenizer())

    ran = run(data_readable, job=WITH_EVAL, inputs=opened)

    [finding] = ran.findings
    assert finding.message == "no such file: eval.jsonl"
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.job.data.eval"


def test_a_summary_counts_the_rows_of_each_defect_and_agrees_in_number() -> None:
    remarks = {"empty-answer": (0, 1), "role": (2,)}

    assert schema(remarks=remarks).result.summary == (
        "messages · 1 of 4 rows are valid; 2 have empty answers, 1 has an unknown role"
    )
