from typing import Any

import pytest
from ftcheck_rules.labels.cases.stop_after_call import CASES, MARKS, behind
from ftcheck_rules.labels.stop_after_call import stop_after_call

from ftcheck import Severity
from ftcheck.testing import Case, Ran, prepared, rows, run, token_store, tokenizer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(stop_after_call, case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def check(*tokens: str, params: dict[str, Any] | None = None, **more: Any) -> Ran:
    return run(stop_after_call, params, **behind(*tokens, **more))


def test_a_job_without_calls_is_skipped() -> None:
    made = {**behind(), "prepared": prepared([9])}
    assert run(stop_after_call, **made).skipped == "no row has a tool call that another message follows"


def test_calls_that_the_template_does_not_write_are_no_pass() -> None:
    made = {**behind(), "prepared": prepared([9], of=rows(1, remarks={"calls-unclear": [0]}))}
    assert "not found in the rendered text" in str(run(stop_after_call, **made).skipped)


def test_a_masked_stop_names_its_token_and_the_first_row() -> None:
    [finding] = check("+</tool_call>", "-<|end|>").findings
    assert finding.severity is Severity.ERROR
    assert finding.message == "the calls of 2 of 2 rows end with <|end|>, which is not in the loss"
    assert finding.at is not None
    assert finding.at.line == 1


def test_few_calls_without_a_stop_are_a_warning() -> None:
    assert check("+<|user|>", params={"min_stop_share": 0.0}).worst is Severity.WARNING


def test_a_stop_that_no_generation_config_tells_of_is_a_remark() -> None:
    assert check("+<|call|>").worst is Severity.INFO
    assert check("+<|call|>", generation={"eos_token_id": 1_000_000}).worst is Severity.WARNING


def test_a_stop_that_trained_tokens_tells_of_is_not_told_twice() -> None:
    ids = [ord("a"), 1_000_002]
    made = behind("+<|call|>", using=tokenizer(marks=MARKS, training_template="<|call|>"))
    held = prepared(
        [2, 2],
        of=made["prepared"].rows,
        tokens=token_store(ids, ids),
        ends_in_stop=made["prepared"].used & False,
    )
    assert not run(stop_after_call, **{**made, "prepared": held}).findings


def test_results_in_a_completion_are_a_warning_with_the_change_that_masks_them() -> None:
    marked = "{% generation %}x{% endgeneration %}"
    using = tokenizer(marks=MARKS, chat_template=marked, training_template=marked)
    [finding] = check("+<|end|>", result="tool", using=using, layout="prompt-completion").findings
    assert finding.severity is Severity.WARNING
    assert finding.change is not None
    assert finding.change.path == "jobs.job.training.assistant_only_loss"
    [other] = check("+<|end|>", result="tool", layout="prompt-completion").findings
    assert other.change is None
    assert (other.fix or "").startswith("add {% generation %} markers")


def test_results_inside_the_assistants_mask_are_an_error() -> None:
    assert check("+<|end|>", result="tool", assistant_only_loss=True).worst is Severity.ERROR
