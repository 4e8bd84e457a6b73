from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ftcheck_rules.config.arguments import known_bugs, training_arguments
from ftcheck_rules.config.cases.arguments import CASES

from ftcheck import Change, Finding, Severity, tables
from ftcheck.lock import today
from ftcheck.records import Location
from ftcheck.settings import Evaluation, Job, TrainerChoice
from ftcheck.testing import Case, Ran, job, lock, packages, run

RULES = {one.id: one for one in (training_arguments, known_bugs)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_cases_come_out_as_they_say(case: Case) -> None:
    ran = run(RULES[case.rule], case.params, **case.inputs())
    assert ran.result.outcome == ("failed" if case.fails else "passed")


OWN_FIELDS = set(type(job().training).__dataclass_fields__)


def made(*, use: str = "qlora", evaluates: bool = True, gpus: int = 1, **training: Any) -> Job:
    extra = {key: value for key, value in training.items() if key not in OWN_FIELDS}
    stated = {key: value for key, value in training.items() if key in OWN_FIELDS}
    one = job(
        training={**stated, "extra": extra},
        data={"eval": "eval.jsonl" if evaluates else None},
        hardware={"count": gpus},
        trainer={"use": use},
    )
    place = Location(path="policy.yaml", line=2, column=3)
    return replace(one, places={**one.places, **{f"training.{key}": place for key in training}})


def found(**settings: Any) -> tuple[Finding, ...]:
    return run(training_arguments, job=made(**settings), lock=None).findings


def one(**settings: Any) -> tuple[str, str, Any]:
    """Severity, place and the proposed value of the only finding."""
    [finding] = found(**settings)
    assert finding.at is not None
    assert finding.fix
    where = (finding.at.yaml_path or "").removeprefix("jobs.job.training.")
    return finding.severity, where, finding.change.new if finding.change else None


STEPS = {"eval_strategy": "steps"}
BEST = {"load_best_model_at_end": True}


@pytest.mark.parametrize(
    ("settings", "where", "new"),
    [
        ({"use": "command", "padding_free": True}, "padding_free", False),
        ({"max_length": None, "eval_packing": True}, "eval_packing", False),
        ({**BEST}, "eval_strategy", None),
        ({**BEST, "eval_strategy": "epoch"}, "save_strategy", "epoch"),
        ({**BEST, **STEPS, "eval_steps": 7, "save_steps": 10}, "save_steps", 7),
        ({**BEST, **STEPS, "logging_steps": 40, "save_steps": 100}, "save_steps", 80),
        ({**BEST, **STEPS, "eval_steps": 0.1, "save_steps": 0.25}, "save_steps", 0.2),
        ({**BEST, **STEPS, "eval_steps": 0.1, "save_steps": 100}, "save_steps", None),
        ({"evaluates": False, "eval_strategy": "epoch"}, "eval_strategy", "no"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type", None),
        ({"save_strategy": "best", "eval_strategy": "epoch"}, "save_strategy", None),
        ({"fp16": True, "bf16": True}, "fp16", False),
        ({"fp16_full_eval": True, "bf16_full_eval": True}, "fp16_full_eval", False),
        ({"save_steps": 10.5}, "save_steps", 10),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor", None),
        ({"torch_empty_cache_steps": 0}, "torch_empty_cache_steps", None),
        ({"loss_type": "focal"}, "loss_type", "nll"),
        (
            {"use_liger_kernel": True, "liger_kernel_config": {"fused_linear_cross_entropy": True}},
            "liger_kernel_config",
            None,
        ),
        (
            {"gradient_checkpointing_kwargs": {"selective": True, "use_reentrant": True}},
            "gradient_checkpointing_kwargs",
            None,
        ),
        (
            {"gradient_checkpointing": False, "gradient_checkpointing_kwargs": {"selective": True}},
            "gradient_checkpointing_kwargs",
            None,
        ),
        ({"dataset_kwargs": {"skip_prepare_dataset": True}}, "dataset_kwargs", None),
        ({"model_init_kwargs": {"revision": "main"}}, "model_init_kwargs.revision", None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_what_trl_and_transformers_refuse_is_an_error_with_a_remedy(
    settings: dict[str, Any], where: str, new: Any
) -> None:
    assert one(**settings) == (Severity.ERROR, where, new)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding_free": True},
        {"use": "command", "padding_free": True, "packing": True},
        {"use": "command", "padding_free": True, "max_length": None},
        {**BEST, "eval_strategy": "epoch", "save_strategy": "epoch"},
        {**BEST, "eval_strategy": "epoch", "save_strategy": "best"},
        {**BEST, **STEPS, "eval_steps": 0.1, "save_steps": 0.3},
        {**BEST, **STEPS, "eval_steps": 50, "save_steps": 500},
        {"eval_strategy": "no", "evaluates": False},
        {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"},
        {"fp16": True},
        {"bf16": True},
        {"dataloader_prefetch_factor": 2, "dataloader_num_workers": 1},
        {"eval_steps": 7.5},
        {"save_steps": 0.5},
        {"loss_type": "dft"},
        {"gradient_checkpointing_kwargs": {"use_reentrant": True}, "lora": {"r": 8}},
        {"gradient_checkpointing_kwargs": {"selective": True}},
        {"gradient_checkpointing": False, "activation_checkpointing": False},
        {"use": "command", "dataset_kwargs": {"num_proc": 2}},
    ],
    ids=lambda value: " ".join(value) or "nothing stated",
)
def test_what_they_take_is_not_flagged(settings: dict[str, Any]) -> None:
    assert found(**settings) == ()


def test_a_best_checkpoint_that_nobody_evaluates_is_never_written() -> None:
    said = one(save_strategy="best", metric_for_best_model="loss", evaluates=False)
    assert said == (Severity.WARNING, "save_strategy", None)


def test_both_bit_widths_are_refused_at_the_second() -> None:
    [finding] = found(quantization={"load_in_4bit": True, "load_in_8bit": True})
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.job.training.quantization.load_in_8bit"


def test_the_newer_name_of_checkpointing_overrides_the_older_one() -> None:
    said = one(gradient_checkpointing=True, activation_checkpointing=False)
    assert said == (Severity.WARNING, "gradient_checkpointing", False)


REENTRANT = {"gradient_checkpointing_kwargs": {"use_reentrant": True}}
LORA = {"lora": {"r": 8}}


def test_reentrant_checkpoints_of_an_adapter_on_two_gpus_fail_at_the_first_step() -> None:
    [finding] = found(gpus=2, **REENTRANT, **LORA)

    assert finding.severity is Severity.ERROR
    assert finding.message.startswith("use_reentrant is on with 2 GPUs (DDP): the first step fails")
    assert finding.change is not None
    assert finding.change.new == {"use_reentrant": False}
    assert finding.change.safe


@pytest.mark.parametrize(
    "settings",
    [
        {**REENTRANT, "gpus": 2},
        {**REENTRANT, **LORA, "gpus": 2, "ddp_find_unused_parameters": False},
        {**REENTRANT, **LORA, "gpus": 2, "deepspeed": {"zero_optimization": {"stage": 3}}},
        {**REENTRANT, **LORA, "gpus": 2, "gradient_checkpointing": False},
        {"gradient_checkpointing_kwargs": {"use_reentrant": False}, **LORA, "gpus": 2},
    ],
    ids=["all weights", "not looked for", "ZeRO-3", "off", "not reentrant"],
)
def test_where_reentrant_checkpoints_do_no_harm_nothing_is_said(settings: dict[str, Any]) -> None:
    assert found(**settings) == ()


def test_unused_parameters_looked_for_by_name_fail_for_all_weights_too() -> None:
    assert one(gpus=2, ddp_find_unused_parameters=True, **REENTRANT)[0] is Severity.ERROR


# --- YAML of another trainer --------------------------------------------------------------------------------


def of_file(
    path: Path, *, argv: tuple[str, ...] = ("axolotl", "train", "a.yml"), use: str = "command"
) -> Ran:
    trainer = TrainerChoice(use=use, argv=argv, files=(str(path),))
    return run(training_arguments, job=replace(made(), trainer=trainer), lock=None)


def written(tmp_path: Path, text: str, name: str = "a.yml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_that_looks_like_a_number_is_an_error_at_its_line(tmp_path: Path) -> None:
    ran = of_file(written(tmp_path, "model: x\nlearning_rate: 1e-5\nseed: 08\n"))

    error, warning = ran.findings
    assert (error.severity, warning.severity) == (Severity.ERROR, Severity.WARNING)
    assert error.at is not None
    assert Path(error.at.path or "").name == "a.yml"
    assert (error.at.line, error.at.column) == (2, 16)
    assert error.fix == "write 1.0e-5"
    assert ran.measured["yaml_files"] == 1


def test_files_that_are_no_yaml_and_other_trainers_are_left_alone(tmp_path: Path) -> None:
    text = "learning_rate: 1e-5\n"
    assert of_file(written(tmp_path, text, "a.txt")).findings == ()
    assert of_file(written(tmp_path, text), use="qlora").findings == ()


def test_torchtune_reads_numbers_as_people_do(tmp_path: Path) -> None:
    path = written(tmp_path, "learning_rate: 1e-5\n")
    assert of_file(path, argv=("/usr/bin/tune", "run", "recipe")).findings == ()


def test_a_file_that_is_not_there_is_an_error_at_the_setting(tmp_path: Path) -> None:
    [finding] = of_file(tmp_path / "gone.yaml").findings
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.job.trainer.files"


def test_bad_yaml_is_an_error_at_its_line(tmp_path: Path) -> None:
    [finding] = of_file(written(tmp_path, "a: 1\nb: [1\n")).findings
    assert finding.message.startswith("not valid YAML")
    assert finding.at is not None
    assert finding.at.line == 3


# --- known bugs ---------------------------------------------------------------------------------------------


def bugs(versions: dict[str, str | None], **training: Any) -> Ran:
    stated: dict[str, Any] = {"trl": "1.16.0", "transformers": "5.23.0", **versions}
    return run(known_bugs, packages=packages(**stated), jobs=(made(**training),))


MASKED = {"assistant_only_loss": True}
LIGER = {"use_liger_kernel": True}


@pytest.mark.parametrize(
    ("trl", "training", "where"),
    [
        ("0.19.0", {**LIGER, **MASKED}, ["training.use_liger_kernel"]),
        ("0.21.0", {**LIGER, **MASKED}, ["training.use_liger_kernel"]),
        ("0.22.0", {**LIGER, **MASKED}, []),
        ("0.19.1", {"packing": True, **MASKED}, ["training.packing"]),
        ("0.20.0", {"packing": True, **MASKED}, []),
        ("0.18.2", {"packing": True, "completion_only_loss": True}, ["training.packing"]),
        ("0.18.2", {**LIGER, "completion_only_loss": True}, ["training.use_liger_kernel"]),
        ("0.19.1", {**LIGER}, []),
        ("0.19.1", {**MASKED}, []),
        ("0.19.0", {**LIGER, "packing": True, **MASKED}, ["training.use_liger_kernel", "training.packing"]),
    ],
)
def test_masks_were_lost_by_these_versions_of_trl_alone(
    trl: str, training: dict[str, Any], where: list[str]
) -> None:
    findings = bugs({"trl": trl}, **training).findings
    assert [f.at.yaml_path for f in findings if f.at] == [f"jobs.job.{one}" for one in where]
    assert all(f.severity is Severity.ERROR and f"trl {trl}" in f.message for f in findings)


@pytest.mark.parametrize(
    ("version", "steps", "count"), [("4.45.2", 2, 1), ("4.45.2", 1, 0), ("4.46.0", 2, 0)]
)
def test_accumulated_losses_were_averaged_before_4_46(version: str, steps: int, count: int) -> None:
    findings = bugs({"transformers": version}, gradient_accumulation_steps=steps).findings
    assert len(findings) == count
    assert all(f.severity is Severity.WARNING and "transformers/pull/34191" in f.message for f in findings)


def zero(stage: int, **more: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage, **more}}


@pytest.mark.parametrize(
    ("version", "config", "adapter", "count"),
    [
        ("4.57.1", zero(3), True, 1),
        ("4.57.1", zero(3, stage3_gather_16bit_weights_on_model_save=True), True, 0),
        ("4.57.1", zero(2), True, 0),
        ("4.57.1", zero(3), False, 0),
        ("5.0.0", zero(3), True, 0),
    ],
)
def test_zero_3_saved_empty_adapters_before_5(
    version: str, config: dict[str, Any], adapter: bool, count: int
) -> None:
    training = {"deepspeed": config, **(LORA if adapter else {})}
    findings = bugs({"transformers": version}, **training).findings
    assert [f.at.yaml_path for f in findings if f.at] == ["jobs.job.training.deepspeed"] * count


def test_deepspeeds_file_is_read_where_it_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, '{"zero_optimization": {"stage": 3}}', "ds.json")
    assert len(bugs({"transformers": "4.57.1"}, deepspeed=str(path), **LORA).findings) == 1
    path.write_text("[1, 2", encoding="utf-8")
    assert bugs({"transformers": "4.57.1"}, deepspeed=str(path), **LORA).findings == ()


def test_todays_versions_have_none_and_it_says_how_many_were_looked_at() -> None:
    ran = bugs({}, packing=True, gradient_accumulation_steps=4, **MASKED, **LIGER)
    count = len(tables.load("known_bugs")["bugs"])
    assert ran.result.outcome == "passed"
    assert ran.measured == {"known_bugs": count, "of_these_versions": 0}
    assert ran.result.summary == f"{count} known bugs checked, none affects these versions"


def test_bugs_of_a_library_that_is_not_here_are_not_counted_as_looked_at() -> None:
    ran = bugs({"trl": None})
    assert ran.measured["known_bugs"] == 2
    assert (
        ran.result.summary
        == "2 known bugs checked (4 more of libraries that are not installed), none affects these versions"
    )
    assert bugs({"trl": None, "transformers": None}).skipped is not None


def test_every_bug_of_the_table_names_a_setting_a_thread_and_a_remedy() -> None:
    for bug in tables.load("known_bugs")["bugs"]:
        assert bug["thread"].startswith("https://github.com/")
        assert bug["fix"].startswith("pip install")
        assert bug["at"].startswith("training.")


def test_a_changed_default_is_a_warning_in_the_lock_with_the_value_to_state() -> None:
    ran = run(training_arguments, job=job(), lock=lock(defaults={**today(), "weight_decay": 0.1}))

    [finding] = ran.findings
    assert (finding.severity, finding.at) == (Severity.WARNING, Location(path="policy.yaml.lock"))
    assert finding.change == Change("jobs.job.training.weight_decay", None, 0.1, safe=False)
    assert ran.measured["defaults_changed_silently"] == 1


def test_a_changed_default_that_the_policy_states_is_no_finding() -> None:
    made = job()
    stated = replace(made, places={**made.places, "training.weight_decay": Location("policy.yaml", 3)})

    ran = run(training_arguments, job=stated, lock=lock(defaults={**today(), "weight_decay": 0.1}))

    assert ran.findings == ()
    assert ran.measured["defaults_changed"] == 1


ACCURATE: dict[str, Any] = {**STEPS, "metric_for_best_model": "accuracy"}


def test_item_12_a_metric_that_nothing_computes_is_an_error() -> None:
    assert one(**ACCURATE) == ("error", "metric_for_best_model", "loss")
    assert one(use="command", **ACCURATE)[0] == "warning"


@pytest.mark.parametrize("name", ["loss", "eval_loss", "eval_mean_token_accuracy", "entropy", None])
def test_item_12_metrics_that_trl_has_are_fine(name: str | None) -> None:
    assert found(**{**STEPS, "metric_for_best_model": name}) == ()


def test_item_12_no_evaluation_and_metrics_of_the_command_are_fine() -> None:
    computes = replace(made(use="command", **ACCURATE), evaluation=Evaluation(compute_metrics=True))

    assert found(metric_for_best_model="accuracy") == ()
    assert run(training_arguments, job=computes, lock=None).findings == ()
