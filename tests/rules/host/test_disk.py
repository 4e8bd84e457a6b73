import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ftcheck_rules.host.disk import disk_space, output_dir

from ftcheck.digest import of_json
from ftcheck.estimate.disk import estimate, kept_checkpoints, trained_weights
from ftcheck.records import Change, Severity
from ftcheck.settings import Job, Lora, Training
from ftcheck.testing import job, run

LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
ADAPTER = 41_943_040
"""Weights of a rank 16 adapter on all linear modules of Llama-3-8B, as peft counts them."""


def base_model(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**LLAMA, **config}))
    (folder / "tokenizer.json").write_bytes(b"x" * 1000)
    return folder


def writing(folder: Path, name: str = "job", model: Path | None = None, **training: Any) -> Job:
    settings = {"output_dir": str(folder), "lora": {"r": 16, "target_modules": "all-linear"}, **training}
    return job(name, model={"name": str(model)} if model else {}, training=settings)


def test_an_adapter_on_all_linear_modules_has_as_many_weights_as_peft_counts() -> None:
    assert trained_weights(LLAMA, Lora(r=16, target_modules="all-linear")) == ADAPTER


def test_named_modules_count_alone_and_modules_to_save_count_whole() -> None:
    named = Lora(
        r=16, target_modules=("q_proj", "model.layers.0.self_attn.v_proj"), modules_to_save=("lm_head",)
    )

    assert trained_weights(LLAMA, named) == 32 * 16 * 8192 + 16 * 5120 + 128256 * 4096


def test_without_an_adapter_the_whole_model_is_counted() -> None:
    weights = trained_weights(LLAMA, None)

    assert weights is not None
    assert 8.0e9 < weights < 8.1e9


@pytest.mark.parametrize(
    ("config", "lora"),
    [
        ({**LLAMA, "num_local_experts": 8}, Lora()),
        (LLAMA, Lora(target_modules=("no_such_proj",))),
        ({"n_embd": 768}, Lora()),
    ],
)
def test_what_it_does_not_know_it_does_not_guess(config: dict[str, Any], lora: Lora) -> None:
    assert trained_weights(config, lora) is None


@pytest.mark.parametrize(
    ("training", "kept"),
    [
        (Training(save_strategy="no"), 0),
        (Training(save_strategy="epoch", num_train_epochs=2.5), 3),
        (Training(save_strategy="epoch", num_train_epochs=9, save_total_limit=2), 3),
        (Training(save_steps=0.25), 4),
        (Training(save_steps=100, max_steps=250), 3),
        (Training(save_steps=100, max_steps=250, save_total_limit=1), 2),
        (Training(), None),
    ],
)
def test_kept_checkpoints_are_those_made_and_one_more_than_the_limit(
    training: Training, kept: int | None
) -> None:
    assert kept_checkpoints(training) == kept


def test_an_estimate_is_weights_and_optimizer_for_each_checkpoint_and_the_adapter_at_the_end(
    tmp_path: Path,
) -> None:
    model = base_model(tmp_path / "base")

    plain = estimate(writing(tmp_path, model=model, save_strategy="epoch", num_train_epochs=3.0))
    eight_bit = estimate(writing(tmp_path, model=model, save_strategy="no", optim="paged_adamw_8bit"))

    assert (plain.bytes, plain.checkpoints) == (3 * (ADAPTER * 12 + 1000) + ADAPTER * 4 + 1000, 3)
    assert (eight_bit.bytes, eight_bit.checkpoints) == (ADAPTER * 4 + 1000, 0)


def test_checkpoints_that_fit_pass_with_need_and_room(tmp_path: Path) -> None:
    model = base_model(tmp_path / "base", num_hidden_layers=1)
    one = writing(tmp_path / "run", model=model, save_strategy="epoch", num_train_epochs=3.0)

    ran = run(disk_space, {"min_free_gib": 0.0}, jobs=(one,))

    assert ran.findings == ()
    assert ran.measured["need_gib"] == 0.05
    assert ran.result.summary is not None
    assert ran.result.summary.startswith("3 checkpoints and the final save need 50 MiB, ")


def test_checkpoints_that_do_not_fit_are_an_error_and_jobs_on_one_disk_add_up(tmp_path: Path) -> None:
    model = base_model(tmp_path / "base", num_hidden_layers=100_000)
    jobs = tuple(
        writing(tmp_path / name, name, model, save_strategy="epoch", num_train_epochs=100.0)
        for name in ("mapper", "analyst")
    )

    ran = run(disk_space, jobs=jobs)

    [finding] = ran.findings
    assert finding.severity is Severity.ERROR
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.training.output_dir"
    assert finding.change == Change("jobs.mapper.training.save_total_limit", None, 1)


def test_a_size_that_cannot_be_told_is_said_and_only_the_free_space_is_checked(tmp_path: Path) -> None:
    ran = run(disk_space, {"min_free_gib": 0.0}, jobs=(writing(tmp_path, model=tmp_path / "absent"),))

    [finding] = ran.findings
    assert finding.severity is Severity.INFO
    assert "no config.json" in finding.message
    assert ran.result.outcome == "passed"


def test_less_free_space_than_asked_for_is_an_error(tmp_path: Path) -> None:
    ran = run(disk_space, {"min_free_gib": 1e9}, jobs=(writing(tmp_path),))

    assert ran.worst is Severity.ERROR
    assert "less than 1e+09" in ran.findings[0].message


def test_an_unknown_number_of_checkpoints_is_said_with_the_setting_that_bounds_it(tmp_path: Path) -> None:
    one = writing(tmp_path, model=base_model(tmp_path / "base"))

    [finding] = run(disk_space, {"min_free_gib": 0.0}, jobs=(one,)).findings

    assert finding.severity is Severity.INFO
    assert finding.change == Change("jobs.job.training.save_total_limit", None, 2)


def test_disk_space_is_skipped_where_nothing_is_written() -> None:
    assert run(disk_space, jobs=(job(),)).skipped == "no job sets training.output_dir"


def test_a_folder_that_can_be_made_passes_and_is_not_made(tmp_path: Path) -> None:
    ran = run(output_dir, jobs=(writing(tmp_path / "a" / "b"),))

    assert ran.findings == ()
    assert ran.measured == {"folders": 1, "writable": 1}
    assert list(tmp_path.iterdir()) == []


def test_a_job_without_output_dir_is_an_error_that_names_the_key() -> None:
    [finding] = run(output_dir, jobs=(job("mapper"),)).findings

    assert finding.message == "training.output_dir is not set for mapper"
    assert finding.at is not None
    assert finding.at.yaml_path == "jobs.mapper.training.output_dir"
    assert finding.change == Change("jobs.mapper.training.output_dir", None, "checkpoints/mapper")


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")

    itself = run(output_dir, jobs=(writing(tmp_path / "run"),))
    below = run(output_dir, jobs=(writing(tmp_path / "run" / "deeper"),))

    assert itself.findings[0].message == f"{tmp_path}/run is a file"
    assert below.findings[0].message == f"{tmp_path}/run/deeper cannot be created: {tmp_path}/run is a file"


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "gone")

    assert (
        "is a broken symbolic link" in run(output_dir, jobs=(writing(tmp_path / "run"),)).findings[0].message
    )


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_folder_that_cannot_be_written_is_an_error() -> None:
    [finding] = run(output_dir, jobs=(writing(Path("/proc/ftcheck")),)).findings

    assert "cannot be written" in finding.message


def test_two_jobs_in_one_folder_are_an_error_at_the_second(tmp_path: Path) -> None:
    jobs = (writing(tmp_path / "run", "mapper"), writing(tmp_path / "x" / ".." / "run", "analyst"))

    [finding] = run(output_dir, jobs=jobs).findings

    assert finding.message.startswith("analyst and mapper write to the same folder")


def test_a_folder_inside_an_installed_package_is_an_error(tmp_path: Path) -> None:
    [finding] = run(output_dir, jobs=(writing(tmp_path / "site-packages" / "ftcheck" / "run"),)).findings

    assert "inside an installed package" in finding.message


@pytest.mark.parametrize(
    ("record", "severity"),
    [
        ({"status": "finished", "ticket": {"job_digest": "sha256:other"}}, Severity.WARNING),
        ({"status": "finished", "ticket": {"job_digest": of_json({})}}, Severity.INFO),
        ({"status": "interrupted", "ticket": {"job_digest": of_json({})}}, None),
        ("broken", Severity.WARNING),
    ],
)
def test_a_folder_with_a_run_is_told_by_whose_run_it_is(
    tmp_path: Path, record: object, severity: Severity | None
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(record))

    assert run(output_dir, jobs=(writing(tmp_path),)).worst is severity


def test_checkpoints_of_another_program_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-500").mkdir()

    [finding] = run(output_dir, jobs=(writing(tmp_path),)).findings

    assert finding.severity is Severity.WARNING
    assert "checkpoint-500" in finding.message


def test_a_policy_without_jobs_is_skipped() -> None:
    assert run(output_dir, jobs=()).skipped == "the policy has no job"


def test_item_14_the_steps_of_the_schedule_count_the_checkpoints(tmp_path: Path) -> None:
    model = base_model(tmp_path / "base")
    one = writing(tmp_path, model=model, save_steps=1)

    found = estimate(one, 39)

    assert (found.checkpoints, found.each) == (39, ADAPTER * 12 + 1000)
    assert found.bytes == 39 * found.each + ADAPTER * 4 + 1000
    assert kept_checkpoints(Training(save_steps=10), 39) == 4
    assert kept_checkpoints(Training(save_steps=10, save_total_limit=2), 39) == 3


def test_item_14_one_checkpoint_is_not_said_with_the_size_of_the_final_save(tmp_path: Path) -> None:
    one = writing(tmp_path, model=base_model(tmp_path / "base"), save_steps=1)

    ran = run(disk_space, {"min_free_gib": 0.0}, jobs=(one,))

    assert (ran.result.summary or "").startswith("a checkpoint needs 0.5 GiB, how many are kept depends")
    [finding] = ran.findings
    assert "schedule counts them" in finding.message
