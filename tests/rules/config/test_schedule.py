import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ftcheck_rules.config.cases.schedule import CASES
from ftcheck_rules.config.schedule import learning_rate, schedule

from ftcheck import Finding, Severity
from ftcheck.records import ON_COMMAND_LINE, Location
from ftcheck.settings import Job
from ftcheck.testing import Case, Ran, inputs, job, model_config, prepared, run

GIB = 1 << 30
RULES = {one.id: one for one in (schedule, learning_rate)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


def made(*, target: int | None = None, gpus: int = 1, path: str = "policy.yaml", **training: Any) -> Job:
    """A job whose training arguments are stated, at line 2."""
    one = job(
        training={"per_device_train_batch_size": 1, "max_length": 10, **training},
        targets={"effective_batch": target},
        hardware={"count": gpus},
    )
    place = Location(path=path, line=2, column=3)
    return replace(one, places={**one.places, **{f"training.{key}": place for key in training}})


def ran(count: int = 40, params: Any = None, length: int = 10, **settings: Any) -> Ran:
    one = made(**settings)
    rows = prepared([length] * count, max_length=10, packing=one.training.packing)
    return run(schedule, params, job=one, prepared=rows, inputs=inputs(one, scheduler=None))


def only(result: Ran) -> tuple[Severity, str, Any]:
    [finding] = result.findings
    return _said(finding)


def _said(finding: Finding) -> tuple[Severity, str, Any]:
    assert finding.at is not None
    assert finding.fix
    where = (finding.at.yaml_path or "").removeprefix("jobs.job.")
    return finding.severity, where, finding.change.new if finding.change else None


def mended(result: Ran, count: int = 40, **settings: Any) -> Ran:
    """The same job with the proposed change."""
    [change] = [f.change for f in result.findings if f.change is not None]
    return ran(count, **{**settings, change.path.rpartition(".")[2]: change.new})


def test_steps_epochs_batch_and_warm_up_are_measured() -> None:
    result = ran(gradient_accumulation_steps=2, num_train_epochs=2.0, warmup_steps=0.1, gpus=2)

    assert result.result.outcome == "passed"
    assert result.measured == {
        "steps": 20,
        "steps_per_epoch": 10,
        "epochs": 2.0,
        "effective_batch": 4,
        "warmup_steps": 2,
    }
    assert result.result.summary == "20 steps (2 warm-up) in 2 epochs, effective batch 4"


def test_packed_blocks_are_counted_and_not_rows() -> None:
    assert ran(40, length=5, packing=True, num_train_epochs=1.0).measured["steps"] == 20


def test_few_steps_ask_for_less_accumulation() -> None:
    settings: dict[str, Any] = {"gradient_accumulation_steps": 16, "num_train_epochs": 2.0}
    result = ran(**settings)

    assert only(result) == (Severity.WARNING, "training.gradient_accumulation_steps", 13)
    assert result.findings[0].message == (
        "6 optimizer steps in total, below the minimum of 8: 40 rows per epoch, 16 per step"
    )
    assert mended(result, **settings).result.outcome == "passed"


def test_no_accumulation_is_proposed_against_the_recipes_batch() -> None:
    result = ran(gradient_accumulation_steps=16, num_train_epochs=2.0, target=16)
    assert only(result) == (Severity.WARNING, "training.gradient_accumulation_steps", None)


def test_few_steps_without_accumulation_are_reported_at_the_batch_or_the_epochs() -> None:
    large = ran(per_device_train_batch_size=16, num_train_epochs=1.0)
    assert only(large) == (Severity.WARNING, "training.per_device_train_batch_size", None)
    assert only(ran(3, num_train_epochs=1.0)) == (Severity.WARNING, "training.num_train_epochs", None)


def test_enough_steps_are_a_parameter() -> None:
    assert ran(6, {"min_steps": 6}, num_train_epochs=1.0).result.outcome == "passed"


def test_no_steps_are_an_error() -> None:
    assert only(ran(max_steps=0)) == (Severity.ERROR, "training.max_steps", None)


def test_max_steps_beside_epochs_is_an_error_with_the_epochs_it_means() -> None:
    settings: dict[str, Any] = {"max_steps": 12, "num_train_epochs": 2.0}
    result = ran(**settings)

    assert only(result) == (Severity.ERROR, "training.max_steps", -1)
    assert result.findings[0].message == ("max_steps 12 (0.3 epochs) overrides num_train_epochs 2 (80 steps)")
    assert mended(result, **settings).result.outcome == "passed"


def test_max_steps_that_agree_with_the_epochs_or_stand_alone_pass() -> None:
    assert ran(max_steps=80, num_train_epochs=2.0).result.outcome == "passed"
    assert ran(max_steps=12).result.outcome == "passed"


def test_max_steps_on_the_command_line_is_a_trial() -> None:
    trial = made(max_steps=2, num_train_epochs=3.0, logging_steps=5)
    place = Location(path=ON_COMMAND_LINE)
    trial = replace(trial, places={**trial.places, "training.max_steps": place})

    result = run(
        schedule,
        job=trial,
        prepared=prepared([10] * 40, max_length=10),
        inputs=inputs(trial, scheduler=None),
    )

    assert result.result.outcome == "passed"
    assert {f.severity for f in result.findings} == {Severity.INFO}
    assert len(result.findings) == 3


def test_too_many_epochs_propose_a_usual_number() -> None:
    result = ran(num_train_epochs=40.0)
    assert only(result) == (Severity.WARNING, "training.num_train_epochs", 3)
    assert mended(result, num_train_epochs=40.0).result.outcome == "passed"


def test_a_few_rows_are_given_the_epochs_that_make_enough_steps() -> None:
    assert only(ran(2, num_train_epochs=40.0))[2] == 4


def test_epochs_of_max_steps_count_too() -> None:
    assert only(ran(max_steps=800)) == (Severity.WARNING, "training.max_steps", 120)


def test_ten_epochs_pass() -> None:
    assert ran(num_train_epochs=10.0).result.outcome == "passed"


@pytest.mark.parametrize(
    ("warmup", "severity"), [(500, Severity.ERROR), (120, Severity.ERROR), (61, Severity.WARNING)]
)
def test_a_warm_up_that_takes_the_run_is_found(warmup: int, severity: Severity) -> None:
    result = ran(warmup_steps=warmup)
    assert only(result) == (severity, "training.warmup_steps", 0.03)
    assert mended(result, warmup_steps=warmup).result.outcome == "passed"


def test_the_rate_that_is_reached_is_named() -> None:
    [finding] = ran(warmup_steps=240, learning_rate=2e-4).findings
    assert finding.message == (
        "the warm-up takes 240 of 120 steps: the learning rate ends at 0.0001 and never reaches 0.0002"
    )


@pytest.mark.parametrize(
    "settings",
    [{"warmup_steps": 60}, {"warmup_steps": 500, "lr_scheduler_type": "constant"}, {"warmup_steps": 0.5}],
)
def test_half_a_run_and_schedules_without_warm_up_pass(settings: dict[str, Any]) -> None:
    assert ran(**settings).result.outcome == "passed"


def test_another_batch_than_the_recipes_is_an_error_with_the_accumulation() -> None:
    settings: dict[str, Any] = {"target": 8, "gpus": 4}
    result = ran(**settings)

    assert only(result) == (Severity.ERROR, "targets.effective_batch", 2)
    assert (
        result.findings[0].message == "1 x 1 x 4 GPUs = an effective batch of 4, targets.effective_batch is 8"
    )
    assert mended(result, **settings).result.outcome == "passed"


def test_a_batch_that_no_accumulation_makes_has_no_change() -> None:
    assert only(ran(target=10, gpus=4)) == (Severity.ERROR, "targets.effective_batch", None)


def test_logs_beyond_the_run_are_a_warning_that_can_be_mended() -> None:
    result = ran(logging_steps=500)
    assert only(result) == (Severity.WARNING, "training.logging_steps", 6)
    assert result.findings[0].change is not None
    assert result.findings[0].change.safe


def test_saves_and_evaluations_beyond_the_run_come_at_its_end() -> None:
    result = ran(save_steps=500, eval_strategy="steps", eval_steps=500)
    assert result.result.outcome == "passed"
    assert [f.severity for f in result.findings] == [Severity.INFO] * 2


def test_what_the_policy_does_not_state_is_not_reported() -> None:
    one = job(training={"per_device_train_batch_size": 1, "eval_strategy": "steps"})
    opened = inputs(one, scheduler=None)
    assert run(schedule, job=one, prepared=prepared([5] * 3), inputs=opened).findings == ()


def test_an_evaluation_that_is_put_off_beyond_the_run_never_comes() -> None:
    delayed: dict[str, Any] = {"extra": {"eval_delay": 200}, "eval_strategy": "steps"}
    assert only(ran(**delayed))[:2] == (Severity.WARNING, "training.eval_delay")
    assert ran(**{**delayed, "extra": {"eval_delay": 100}}).findings == ()


def test_no_row_and_packing_without_a_length_are_skipped() -> None:
    assert ran(0).skipped == "no row is left to train on"
    assert ran(packing=True, max_length=None).skipped == (
        "packing is on, but max_length is null: TRL refuses to start"
    )


# --- learning rate ------------------------------------------------------------------------------------------


def rate(value: float | None, *, width: int | None = 4096, adapter: Any = (16, 32), **training: Any) -> Ran:
    lora: dict[str, Any] = (
        {"lora": {"r": adapter[0], "lora_alpha": adapter[1], **training.pop("lora", {})}} if adapter else {}
    )
    stated: dict[str, Any] = {} if value is None else {"learning_rate": value}
    config: dict[str, Any] = {} if width is None else {"hidden_size": width}
    return run(learning_rate, job=made(**stated, **lora, **training), model=model_config(**config))


@pytest.mark.parametrize(
    ("value", "settings", "new"),
    [
        (2e-5, {}, 2e-4),
        (1e-3, {}, 2e-4),
        (2e-3, {"width": 2048}, 2e-4),
        (2e-5, {"width": 128}, 2e-4),
        (2e-4, {"adapter": None}, 2e-5),
        (1e-6, {"adapter": None}, 2e-5),
        (1e-3, {"width": None}, 2e-4),
    ],
)
def test_a_rate_outside_the_band_is_a_warning(value: float, settings: dict[str, Any], new: float) -> None:
    result = rate(value, **settings)
    assert only(result) == (Severity.WARNING, "training.learning_rate", new)
    assert rate(new, **settings).result.outcome == "passed"


@pytest.mark.parametrize(
    ("value", "settings"),
    [
        (5e-5, {}),
        (5e-4, {}),
        (1e-3, {"width": 2048}),
        (4e-3, {"width": 128}),
        (1e-2, {"width": 128, "adapter": None}),
        (2e-5, {"adapter": None}),
        (5e-6, {"adapter": None}),
        (2e-5, {"optim": "lion_8bit"}),
        (2e-4, {"optim": "paged_adamw_8bit"}),
        (2e-4, {"adapter": (64, 16)}),
        (2e-4, {"adapter": (64, 1024), "lora": {"use_rslora": True}}),
    ],
)
def test_rates_and_scalings_that_recipes_use_pass(value: float, settings: dict[str, Any]) -> None:
    assert rate(value, **settings).result.outcome == "passed"


def test_trls_default_is_named_as_one() -> None:
    [finding] = rate(None).findings
    assert finding.message == (
        "TRL's default learning_rate, 2e-05, is below the usual range for a LoRA adapter (5e-05 to 0.0005)"
    )


def test_the_width_of_a_model_inside_a_larger_one_counts() -> None:
    one = made(learning_rate=4e-3, lora={"r": 16, "lora_alpha": 32})
    config = model_config(hidden_size=8192, text_config={"hidden_size": 128})
    assert run(learning_rate, job=one, model=config).findings == ()


def test_a_scaling_outside_the_band_is_a_warning_at_alpha() -> None:
    result = rate(2e-4, adapter=(4, 64))
    assert only(result) == (Severity.WARNING, "training.lora.lora_alpha", 8)
    assert result.measured["lora_scaling"] == 16
    assert rate(2e-4, adapter=(4, 8)).result.outcome == "passed"


def test_an_optimizer_without_a_band_is_skipped_where_all_weights_are_trained() -> None:
    assert rate(1e-2, adapter=None, optim="adafactor").skipped == (
        "no range of learning rates is known for the optimizer adafactor"
    )


PROBLEM = "ValueError: One of min_lr or min_lr_rate should be set through the `lr_scheduler_kwargs`"


def test_item_12_a_schedule_without_its_argument_is_an_error_with_its_change() -> None:
    one = made(lr_scheduler_type="cosine_with_min_lr")
    rows = prepared([10] * 40, max_length=10)

    [finding] = run(schedule, job=one, prepared=rows, inputs=inputs(one, scheduler=PROBLEM)).findings

    assert _said(finding) == (Severity.ERROR, "training.lr_scheduler_type", 0.1)
    assert PROBLEM in finding.message
    assert finding.change is not None
    assert finding.change.path == "jobs.job.training.lr_scheduler_kwargs.min_lr_rate"


def test_item_12_decay_steps_are_proposed_for_the_planned_steps() -> None:
    one = made(lr_scheduler_type="warmup_stable_decay")
    rows = prepared([10] * 40, max_length=10)

    [finding] = run(schedule, job=one, prepared=rows, inputs=inputs(one, scheduler="TypeError")).findings

    assert _said(finding) == (Severity.ERROR, "training.lr_scheduler_type", 12)


def test_item_12_an_argument_that_is_there_but_wrong_has_no_change() -> None:
    one = made(lr_scheduler_type="cosine_with_min_lr", extra={"lr_scheduler_kwargs": {"min_lr": "x"}})
    rows = prepared([10] * 40, max_length=10)

    [finding] = run(schedule, job=one, prepared=rows, inputs=inputs(one, scheduler="TypeError")).findings

    assert _said(finding) == (Severity.ERROR, "training.lr_scheduler_kwargs", None)


def test_item_14_checkpoints_that_the_schedule_counts_must_fit_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    shape = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 128256}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8}
    (tmp_path / "base" / "config.json").write_text(json.dumps({**shape, **heads}))
    lora = {"r": 16, "target_modules": "all-linear"}

    def checked(free: float, **training: Any) -> Ran:
        monkeypatch.setattr(
            "ftcheck_rules.config.schedule.shutil.disk_usage",
            lambda path: SimpleNamespace(free=int(free * GIB)),
        )
        stated = {"per_device_train_batch_size": 1, "lora": lora, "output_dir": str(tmp_path), **training}
        one = job(model={"name": str(tmp_path / "base")}, training=stated)
        rows = prepared([10] * 13, max_length=10)
        return run(schedule, job=one, prepared=rows, inputs=inputs(one, scheduler=None))

    [finding] = checked(10, save_steps=1).findings

    assert finding.severity is Severity.ERROR
    assert "keeps 39 checkpoints of 0.5 GiB and the final save: 18.4 GiB" in finding.message
    assert _said(finding) == (Severity.ERROR, "training.save_total_limit", 2)
    assert checked(10, save_steps=1).measured["checkpoints"] == 39
    assert checked(20, save_steps=1).findings == ()
    assert checked(10, save_steps=1, save_total_limit=2).findings == ()
    assert checked(10, save_steps=13).findings == ()


def resumed(folder: Path, count: int = 40, ids: str | None = None, **state: Any) -> Ran:
    """A job of one row a step, in whose folder there is a checkpoint."""
    (folder / "checkpoint-5").mkdir(exist_ok=True)
    stated = {"global_step": 5, "num_train_epochs": 3, **state}
    (folder / "checkpoint-5" / "trainer_state.json").write_text(json.dumps(stated))
    if ids is not None:
        (folder / "run.json").write_text(json.dumps({"status": "running", "ids": ids}))
    return ran(count, output_dir=str(folder))


def test_item_17_a_checkpoint_of_other_data_or_batches_is_found_by_its_steps(tmp_path: Path) -> None:
    assert resumed(tmp_path, max_steps=120).findings == ()
    assert resumed(tmp_path, max_steps=101).findings == ()  # 2.5 epochs, which the state rounds up
    for steps in (60, 30, 240):
        [finding] = resumed(tmp_path, max_steps=steps).findings
        assert finding.severity is Severity.WARNING
        assert f"in a run of {steps} steps for 3 epochs" in finding.message


def test_item_17_a_checkpoint_of_other_ids_is_an_error(tmp_path: Path) -> None:
    [finding] = resumed(tmp_path, max_steps=120, ids="sha256:" + "1" * 64).findings
    assert finding.severity is Severity.ERROR
    assert "other token ids" in finding.message
    assert resumed(tmp_path, max_steps=120, ids="sha256:" + "0" * 64).findings == ()
