from typing import Any

import pytest
from ftcheck_rules.serving.guardrails import guardrail

from ftcheck.records import Change, Location, Severity
from ftcheck.testing import gold, inputs, job, model_config, prepared, run

DECLARED: dict[str, Any] = {
    "max_input_tokens": 40,
    "max_new_tokens": 16,
    "over_limit": "rules",
    "log": "token-counts",
}


def guarded(**serving: Any) -> dict[str, Any]:
    """Training prompts of forty tokens."""
    return {
        "job": job(serving={**DECLARED, **serving}),
        "model": model_config(context=128),
        "gold": None,
        "prepared": prepared([50, 50], trained=[10, 10]),
        "endpoint": None,
        "inputs": inputs(),
    }


def test_declared_guardrails_that_just_fit_pass() -> None:
    ran = run(guardrail, **guarded(max_new_tokens=88))

    assert ran.findings == ()
    assert ran.measured == {
        "max_input_tokens": 40,
        "context_needed": 128,
        "input_p99": 40,
        "input_max": 40,
        "inputs_over_limit": 0,
    }
    assert ran.result.summary == "input 40 · output 88 · over limit rules · log token-counts"


@pytest.mark.parametrize("key", ["max_input_tokens", "over_limit", "log"])
def test_what_is_not_declared_is_an_error_at_its_key(key: str) -> None:
    ran = run(guardrail, **guarded(**{key: None}))

    [finding] = ran.findings
    assert finding.message == f"serving.{key} is not set"
    assert finding.at == Location("policy.yaml", 1, 1, f"jobs.job.serving.{key}")


@pytest.mark.parametrize(("log", "severity"), [("content", Severity.ERROR), ("none", Severity.WARNING)])
def test_a_log_of_anything_but_token_counts_is_a_finding_with_the_change(
    log: str, severity: Severity
) -> None:
    [finding] = run(guardrail, **guarded(log=log)).findings

    assert finding.severity is severity
    assert finding.change == Change("jobs.job.serving.log", log, "token-counts")


@pytest.mark.parametrize(
    ("serving", "severity"),
    [
        ({"schema_retries": 3, "output_schema": "s.json"}, None),
        ({"schema_retries": 4, "output_schema": "s.json"}, Severity.WARNING),
        ({"schema_retries": 1}, Severity.INFO),
        ({"output_schema": "s.json"}, Severity.INFO),
    ],
)
def test_retries_go_with_a_schema_and_are_few(serving: dict[str, Any], severity: Severity | None) -> None:
    assert run(guardrail, **guarded(**serving)).worst is severity


def test_input_and_output_above_the_context_are_an_error_with_the_limit_that_fits() -> None:
    [finding] = run(guardrail, **guarded(max_new_tokens=89)).findings

    assert (
        finding.message
        == "max_input_tokens 40 + max_new_tokens 89 = 129 tokens, but the model's context window is 128"
    )
    assert finding.change is None, "a real input has 40 tokens: the next finding would reject the change"
    assert "real inputs exceed 39 tokens" in str(finding.fix)


def test_the_server_may_have_less_than_the_model() -> None:
    [finding] = run(guardrail, **guarded(max_model_len=50)).findings

    assert "serving.max_model_len is 50" in finding.message


def test_an_output_cap_that_leaves_no_input_has_no_limit_that_fits() -> None:
    [finding] = run(guardrail, **guarded(max_new_tokens=128)).findings

    assert finding.change is None
    assert finding.fix == "lower serving.max_new_tokens"


@pytest.mark.parametrize(
    ("action", "severity"),
    [("reject", Severity.ERROR), ("chunk", Severity.WARNING), ("rules", Severity.WARNING)],
)
def test_real_inputs_over_the_limit_are_as_bad_as_what_happens_to_them(
    action: str, severity: Severity
) -> None:
    ran = run(guardrail, **guarded(max_input_tokens=39, over_limit=action))

    assert ran.worst is severity
    assert ran.measured["inputs_over_limit"] == 2
    assert "2 of 2 training inputs" in ran.findings[0].message
    assert ran.findings[0].fix == "raise max_input_tokens to 40 or more"


def test_a_share_of_long_inputs_that_is_allowed_passes() -> None:
    long = guarded() | {"prepared": prepared([50] * 99 + [51], trained=[10] * 100)}

    assert run(guardrail, **long).findings == ()
    assert run(guardrail, {"over_limit_percent": 0.9}, **long).worst is Severity.WARNING


def test_gold_prompts_are_counted_on_their_own() -> None:
    many = guarded() | {"prepared": prepared([50] * 1000, trained=[10] * 1000), "gold": gold(("?" * 90, "A"))}

    [finding] = run(guardrail, **many).findings

    assert finding.message.startswith("1 of 1 gold input ")


def test_rows_that_do_not_tell_prompt_from_answer_are_not_counted() -> None:
    ran = run(guardrail, **guarded() | {"prepared": prepared([50, 50])})

    assert "input_p99" not in ran.measured
    assert ran.result.outcome == "passed"


def test_20_a_job_without_serving_is_skipped_with_the_reason() -> None:
    ran = run(guardrail, **{**guarded(), "job": job()})

    assert ran.skipped is not None
    assert "no `serving` section" in ran.skipped
