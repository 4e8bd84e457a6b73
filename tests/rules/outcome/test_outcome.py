from typing import Any

import pytest
from ftcheck_rules.outcome.cases.outcome import CASES, went
from ftcheck_rules.outcome.outcome import adapter_loads, loss_convergence, memory_peak

from ftcheck import Severity
from ftcheck.inputs.finished_run import RunArtifacts
from ftcheck.inputs.run_folder import State
from ftcheck.testing import Case, Ran, adapter, inputs, job, prepared, run, run_artifacts

RULES = {
    "loss-convergence": loss_convergence,
    "adapter-loads": adapter_loads,
    "memory-peak": memory_peak,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def worst(ran: Ran) -> list[str]:
    return [one.message for one in ran.findings if one.severity is Severity.ERROR]


def test_a_run_that_did_not_finish_fails_with_its_last_word() -> None:
    ran = run(loss_convergence, **went(state=State.FAILED, reason="out of memory; lower the batch"))
    assert worst(ran) == ["the run did not finish: failed at step 30: out of memory; lower the batch"]


def test_the_rows_that_another_program_prepared_are_not_called_the_checked_ones() -> None:
    ran = run(loss_convergence, **went(ids="unverified"))
    assert ran.worst is Severity.INFO
    assert "another program prepared the rows" in ran.findings[0].message


@pytest.mark.parametrize(("key", "what"), [("model", "base model"), ("template", "chat template")])
def test_a_run_on_another_model_or_template_is_not_this_jobs(key: str, what: str) -> None:
    ran = run(loss_convergence, **went(ticket={key: "sha256:other"}))
    assert worst(ran) == [f"the run's {what} differs from that of the policy now"]


def test_the_best_step_is_named_and_no_error_where_the_best_model_was_kept() -> None:
    made = went(eval_losses=[1.0, 0.8, 0.9, 1.2])
    assert run(loss_convergence, **made).measured["best_step"] == 15
    kept = job(training={"extra": {"load_best_model_at_end": True}})
    assert run(loss_convergence, **{**made, "job": kept}).worst is Severity.INFO


def test_a_loss_that_is_almost_nothing_is_not_said_to_rise() -> None:
    tail = [0.001, 0.002] * 10
    assert run(loss_convergence, **went(2.0, 1.0, 0.5, 0.1, *tail)).result.outcome == "passed"


def test_what_a_check_of_stage_during_found_while_the_run_went_on_is_an_error() -> None:
    spike = {"step": 7, "message": "loss 9.1, median 0.8", "severity": "error", "fix": None}
    result: dict[str, Any] = {
        "id": "job::loss-spike",
        "outcome": "failed",
        "acted": "warn",
        "findings": [spike],
    }
    assert worst(run(loss_convergence, **went(during=[result]))) == [
        "job::loss-spike at step 7: loss 9.1, median 0.8"
    ]
    waived = {**result, "outcome": "waived"}
    assert run(loss_convergence, **went(during=[waived])).result.outcome == "passed"


def test_a_run_without_metrics_is_an_error_of_ours_and_a_commands_way() -> None:
    made: dict[str, Any] = {"job": job(), "prepared": prepared([5])}
    assert worst(run(loss_convergence, run_artifacts=run_artifacts([]), **made))
    assert (
        run(loss_convergence, run_artifacts=run_artifacts([], trainer="command"), **made).worst
        is Severity.INFO
    )


def test_what_another_program_trained_is_skipped() -> None:
    bare = RunArtifacts(run_artifacts().folder, None, run_artifacts().folder)
    ran = run(loss_convergence, job=job(), run_artifacts=bare, prepared=prepared([5]))
    assert "contains no run.json" in (ran.skipped or "")
    assert "was not trained" in (
        run(loss_convergence, job=job(), run_artifacts=None, prepared=prepared([5])).skipped or ""
    )


def loaded(trained_as: RunArtifacts | None = None, **changes: Any) -> Ran:
    made = job(training={"lora": {"r": 16}})
    return run(
        adapter_loads, job=made, run_artifacts=trained_as or run_artifacts(), adapter=adapter(**changes)
    )


def test_a_base_that_changed_since_training_is_an_error() -> None:
    ran = loaded(run_artifacts(ticket={"model": "sha256:other"}))
    assert worst(ran) == ["the base model is not the one that the adapter was trained on"]


def test_lora_b_that_is_zero_in_part_another_rank_and_another_revision_are_warnings() -> None:
    base = {"base_model_name_or_path": "model", "r": 8, "revision": "v2"}
    ran = loaded(zero=2, config=base)
    assert ran.worst is Severity.WARNING
    assert len(ran.findings) == 3


def test_an_adapter_without_tokenizer_is_worth_a_word() -> None:
    assert loaded(tokens=None).worst is Severity.INFO


def test_a_run_that_left_no_adapter_is_skipped_with_the_reason() -> None:
    gone = run_artifacts(missing="run contains no adapter: its run is failed")
    ran = run(adapter_loads, job=job(), run_artifacts=gone, adapter=None)
    assert ran.skipped == "run contains no adapter: its run is failed"


def test_a_run_on_a_cpu_has_no_peak_to_compare() -> None:
    made = job()
    told: list[dict[str, Any]] = [{"device": {"kind": "cpu"}}, {"packages": {"torch": "2.13.0+cpu"}}]
    for about in told:
        ran = run(
            memory_peak,
            job=made,
            run_artifacts=run_artifacts(memory_peak_gib=0.9, **about),
            inputs=inputs(made),
        )
        assert ran.skipped == "the run was on a CPU"


def test_a_peak_above_the_target_is_an_error_though_it_was_predicted() -> None:
    made = job(targets={"memory_gib": 11.0})
    about: dict[str, Any] = {"memory_peak_gib": 11.6, "expected": {"memory_gib": {"low": 11.0, "high": 12.0}}}
    ran = run(memory_peak, job=made, run_artifacts=run_artifacts(**about), inputs=inputs(made))
    assert worst(ran) == ["the peak was 11.6 GiB, targets.memory_gib is 11"]


def test_item_18_names_of_a_compiled_model_want_renaming_and_no_training() -> None:
    names = tuple(f"base_model.model._orig_mod.model.layers.{n}.lora_A.weight" for n in range(8))

    ran = run(
        adapter_loads,
        job=job(),
        run_artifacts=run_artifacts(),
        adapter=adapter(unexpected=names, not_loaded=tuple(one.replace("_orig_mod.", "") for one in names)),
    )

    [finding] = [one for one in ran.findings if "_orig_mod" in one.message]
    assert finding.severity is Severity.ERROR
    assert "rename the tensors" in (finding.fix or "")
    assert not any("train again" in (one.fix or "") for one in ran.findings)
