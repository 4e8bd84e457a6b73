from dataclasses import replace

import pytest
from ftcheck_rules.data.arrow_nulls import arrow_nulls
from ftcheck_rules.data.cases.arrow_nulls import CASES, FOUND

from ftcheck import Severity
from ftcheck.testing import Case, Ran, inputs, job, prepared, rows, run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(arrow_nulls, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def looked(file: str = "train.parquet", *, command: bool = False, drop: bool = False) -> Ran:
    trainer = {"use": "command", "argv": ("x",)} if command else {}
    made = prepared([9] * 3, trained=[4] * 3, of=replace(rows(3), files=(file,)))
    of = job(trainer=trainer, data={"drop_nulls": drop})
    return run(arrow_nulls, job=of, prepared=made, inputs=inputs(arrow_nulls=FOUND))


def test_the_finding_says_rows_keys_and_trained_tokens() -> None:
    [finding] = looked().findings

    assert finding.severity is Severity.ERROR
    assert finding.message == (
        "the template writes null for 'room', 'number' in 3 of 3 rows with keys that are null only because"
        " other rows have them: 40 tokens, 15 of them in the loss"
    )
    assert finding.change is not None
    assert (finding.change.path, finding.change.new) == ("jobs.job.data.drop_nulls", True)


def test_json_lines_are_not_looked_at_but_for_a_command() -> None:
    assert looked("train.jsonl").result.outcome == "skipped"
    assert looked("train.jsonl", command=True).worst is Severity.ERROR


@pytest.mark.parametrize("file", ["org/name", "train.arrow", "train.feather"])
def test_the_hub_and_arrow_files_are_looked_at_like_parquet(file: str) -> None:
    assert looked(file).worst is Severity.ERROR


def test_rows_that_cannot_be_prepared_without_nulls_are_no_pass() -> None:
    none = replace(FOUND, looked=0, other=0, first_other=None, tokens=0, trained=0, keys=())
    made = prepared([9] * 3, trained=[4] * 3, of=replace(rows(3), files=("train.parquet",)))
    ran = run(arrow_nulls, job=job(), prepared=made, inputs=inputs(arrow_nulls=none))

    assert ran.result.outcome == "skipped"
    assert "none of 3 rows with nulls can be prepared without them" in (ran.result.reason or "")


def test_a_command_drops_nothing_and_is_told_so() -> None:
    said = [one.message for one in looked(command=True, drop=True).findings]

    assert "data.drop_nulls has no effect on a command, which reads the files itself" in said
    assert len(said) == 2


def test_a_key_that_is_no_name_is_content() -> None:
    found = replace(FOUND, keys=("a secret sentence!",))
    made = prepared([9] * 3, trained=[4] * 3, of=replace(rows(3), files=("train.parquet",)))
    [finding] = run(arrow_nulls, job=job(), prepared=made, inputs=inputs(arrow_nulls=found)).findings

    assert "secret" not in finding.message
    assert "1 key" in finding.message
    assert "secret" in (finding.content or "")


def test_nulls_that_may_be_meant_are_a_warning() -> None:
    found = replace(FOUND, meant=3)
    made = prepared([9] * 3, trained=[4] * 3, of=replace(rows(3), files=("train.parquet",)))
    [finding] = run(arrow_nulls, job=job(), prepared=made, inputs=inputs(arrow_nulls=found)).findings

    assert finding.severity is Severity.WARNING
