from typing import Any

import pytest
from ftcheck_rules.during import during
from ftcheck_rules.during.cases.during import CASES

from ftcheck.errors import PolicyError
from ftcheck.extension.plugin_host import make_host
from ftcheck.inputs.metric_history import MetricHistory, Span
from ftcheck.policy import make_params
from ftcheck.records import Outcome, Severity, Stage
from ftcheck.testing import Case, Ran, job, run, window

NAN = float("nan")
RULES = make_host().rules
FALLING = [2.0, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_case(case: Case) -> None:
    expected = Outcome.FAILED if case.fails else Outcome.PASSED

    assert run(RULES[case.rule], case.params, **case.inputs()).result.outcome is expected


@pytest.mark.parametrize(
    "rule", [one for one in RULES.values() if one.family == "during"], ids=lambda one: one.id
)
def test_a_run_that_logged_nothing_yet_is_skipped_and_never_passed(rule: Any) -> None:
    given = {"metrics": MetricHistory(), **({"job": job()} if "job" in rule.inputs else {})}

    result = run(rule, None, **given).result

    assert rule.stage is Stage.DURING
    assert result.outcome is Outcome.SKIPPED
    assert result.reason


def finite(losses: list[float | None], params: dict[str, Any] | None = None, **more: Any) -> Ran:
    values = {name: values for name, values in more.items() if name == "grad_norm"}
    training = {"fp16": True} if more.get("fp16") else {}
    return run(during.finite_loss, params, job=job(training=training), metrics=window(loss=losses, **values))


def test_patience_counts_logs_in_a_row() -> None:
    assert finite([1.0, NAN], {"patience": 2}).findings == ()
    assert finite([NAN, 1.0, NAN], {"patience": 2}).findings == ()
    [finding] = finite([1.0, NAN, NAN], {"patience": 2}).findings

    assert finding.message == "the loss is not finite in 2 consecutive logs, since step 2"
    assert finding.severity is Severity.ERROR


def test_a_zero_counts_only_if_it_is_exact_and_stays() -> None:
    assert finite([1.0, 0.0, 0.0]).findings == ()
    assert finite([1.0, 1e-9, 1e-9, 1e-9]).findings == ()
    [finding] = finite([1.0, 0.0, 0.0, 0.0]).findings

    assert "exactly 0 in 3 consecutive logs, since step 2" in finding.message


def test_fp16_may_overflow_a_few_times() -> None:
    few, many = [NAN] * 4, [NAN] * 10

    assert len(finite([1.0] * 4, grad_norm=few).findings) == 1
    assert finite([1.0] * 4, grad_norm=few, fp16=True).findings == ()
    assert len(finite([1.0] * 10, grad_norm=many, fp16=True).findings) == 1


def test_an_action_that_does_not_stop_is_a_warning() -> None:
    [finding] = finite([NAN], {"action": "warn"}).findings

    assert finding.severity is Severity.WARNING


def test_an_action_that_nobody_knows_is_refused() -> None:
    with pytest.raises(PolicyError, match="action"):
        make_params(during.loss_spike, {"action": "halt"})


def test_a_spike_is_judged_by_the_logs_before_it() -> None:
    def spike(*losses: float, **params: Any) -> Ran:
        return run(during.loss_spike, params, metrics=window(loss=losses))

    noisy = [1.0, 3.0, 0.5, 2.5, 1.2, 2.8, 0.8, 3.1]
    assert spike(*FALLING, 4.0, 4.0).findings == ()
    assert spike(*noisy, 3.4, 3.4, 3.4).findings == ()
    assert spike(*[0.03] * 8, 0.4, 0.4, 0.4).findings == ()
    [finding] = spike(*FALLING, 4.0, 4.5, 5.0).findings
    assert finding.message == (
        "the loss is 5, above the limit of 3.43 in 3 consecutive logs; the median of the"
        " 8 logs before is 1.65"
    )
    assert spike(*[0.03] * 8, 0.4, rise=0.1, patience=1).findings != ()


def test_progress_is_judged_after_its_patience() -> None:
    def progress(losses: list[float]) -> Ran:
        return run(during.loss_progress, metrics=window(loss=losses))

    assert progress([2.0] * 29).result.outcome is Outcome.SKIPPED
    [finding] = progress([2.0] * 30).findings
    assert finding.message.startswith("the loss has not fallen in 30 steps: it started at 2 and is now 2")
    assert progress([2.0] * 500 + [1.5] * 400).findings == ()


def test_an_evaluation_far_above_training_is_told_from_one_that_rises() -> None:
    def evaluated(*losses: float) -> list[str]:
        made = window(loss=[0.2] * 12, eval_loss=losses)
        return [one.message for one in run(during.eval_loss, metrics=made).findings]

    assert evaluated(0.5, 0.4, 0.41, 0.4) == []
    assert evaluated(0.5, 0.4, 0.5, 0.6) == [
        "the evaluation loss has risen from 0.4 at step 6 to 0.6; the training loss is 0.2"
    ]
    assert evaluated(2.0, 1.9) == ["the evaluation loss, 1.9, exceeds the training loss, 0.2, by more than 1"]


def test_speed_without_a_plan_says_so_and_still_sees_a_run_that_slows_down() -> None:
    steady = run(during.training_speed, metrics=window(tokens_per_second=[5000.0] * 12))
    slower = run(during.training_speed, metrics=window(tokens_per_second=[5000.0] * 12 + [2000.0] * 5))

    assert steady.result.outcome is Outcome.PASSED
    assert "there is no planned speed" in (steady.result.summary or "")
    [finding] = slower.findings
    assert "of its median of 5,000" in finding.message


def test_memory_that_nobody_predicted_is_skipped_with_the_reason() -> None:
    def memory(**about: Any) -> Ran:
        return run(during.training_memory, metrics=window(memory_peak_gib=[20.0] * 12, **about))

    unknown, cpu = memory(device="cuda"), memory(device="cpu")
    predicted = {"memory_gib": Span(22.0, 24.0, "memory-fit")}
    below = memory(device="cuda", expected=predicted)
    full = memory(device="cuda", memory_gib=20.1)

    assert [one.result.outcome for one in (unknown, cpu)] == [Outcome.SKIPPED] * 2
    assert "no expected range is known" in (unknown.result.reason or "")
    assert "trains on cpu" in (cpu.result.reason or "")
    assert below.result.outcome is Outcome.PASSED
    assert [one.severity for one in below.findings] == [Severity.INFO]
    assert "less than 3% is free" in full.findings[0].message


def test_batches_without_a_trained_token_are_found_at_once() -> None:
    got = run(during.fed_batches, metrics=window(trained_share=[0.3, 0.0], padding_share=[0.0, 0.0]))

    assert [one.message for one in got.findings] == ["no token is in the loss at step 2"]


def test_without_the_checked_share_padding_is_still_looked_at() -> None:
    made = window(trained_share=[0.3] * 10, padding_share=[0.7] * 10)

    [finding] = run(during.fed_batches, metrics=made).findings

    assert (
        finding.message
        == "70.0% of the computed tokens are padding (mean of 10 consecutive logs), more than 40%"
    )
