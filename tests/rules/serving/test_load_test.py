import pytest
from ftcheck_rules.serving.cases.load_test import CASES, levels_of
from ftcheck_rules.serving.load_test import serving_target

from ftcheck import Severity
from ftcheck.inputs.finished_run import Generation
from ftcheck.inputs.load_test import Load
from ftcheck.testing import Case, generations, job, run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(serving_target, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def test_of_the_levels_that_answer_enough_the_quickest_is_judged() -> None:
    levels = [Load("a", 500, 0, 50, 20), Load("b", 500, 0, 110, 190), Load("c", 500, 0, 130, 900)]
    assert run(serving_target, **levels_of(*levels)).measured["p95_latency_ms"] == 190


def test_few_requests_and_answers_shorter_than_the_real_ones_are_warnings() -> None:
    made = levels_of(Load("a", 40, 0, 120, 100, 8.0)) | {
        "generations": generations(Generation("x", 50, "stop"))
    }
    ran = run(serving_target, **made)
    assert ran.worst is Severity.WARNING
    assert len(ran.findings) == 2


def test_without_report_or_targets_there_is_nothing_to_hold() -> None:
    assert run(serving_target, **{**levels_of(), "load_report": None}).skipped
    assert run(serving_target, **{**levels_of(), "job": job()}).skipped
