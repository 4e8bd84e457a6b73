"""What a user meets at the ends: a file that is missing, a key of another framework, a command half said."""

import shutil
from pathlib import Path

import pytest

from tests.cli.project import Project
from tests.places import SAMPLES

ONE = """\
ftcheck: 1
extends: [recommended]
jobs:
  only:
    model: {name: ./model}
    data: {train: train.jsonl}
    training: {max_length: 128, output_dir: out, lora: {r: 8}}
"""


@pytest.fixture
def one(project: Project) -> Project:
    """A policy with one job, its model's folder and some rows."""
    shutil.copytree(SAMPLES / "models" / "mapper-tiny", project.folder / "model")
    rows = (SAMPLES / "mapper" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    project.write("train.jsonl", "\n".join(rows))
    project.write("policy.yaml", ONE)
    return project


def test_a_tokenizer_without_config_is_one_finding_and_the_rest_goes_on(one: Project) -> None:
    (one.folder / "model" / "config.json").unlink()

    ran = one.run()

    said = "no config.json beside the tokenizer"
    results = ran.report["results"]
    found = [one["id"] for one in results if any(said in found["message"] for found in one["findings"])]
    skipped = [one for one in results if said in (one["reason"] or "")]
    assert ran.code == 1, ran.out
    assert found == ["only::base-model"]
    assert "copy it" in ran.result("only::base-model")["findings"][0]["message"]
    assert len(skipped) > 5
    assert {one["outcome"] for one in skipped} == {"skipped"}
    assert not [one["id"] for one in results if one["outcome"] == "errored"]
    assert ran.outcome("only::chat-template") == ran.outcome("only::data-schema") == "passed"


def test_the_finding_stands_with_the_check_that_is_selected(one: Project) -> None:
    (one.folder / "model" / "config.json").unlink()

    ran = one.run("-k", "context-window")

    assert ran.outcome("only::context-window") == "failed"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("training.use_peft=true", "jobs.NAME.training.lora"),
        ("training.lora_rank=8", "jobs.NAME.training.lora.r"),
        ("training.attn_implementation=sdpa", "training.model_init_kwargs: {attn_implementation: ...}"),
        ("model.model_name_or_path=gpt2", "jobs.NAME.model.name"),
        ("data.dataset_name=a/b", "jobs.NAME.data.train"),
        ("training.clip_grad_norm=1.0", "jobs.NAME.training.max_grad_norm"),
    ],
)
def test_a_key_of_another_framework_is_told_its_place_here(one: Project, key: str, said: str) -> None:
    section, _, rest = key.partition(".")
    name, _, value = rest.partition("=")
    text = (one.folder / "policy.yaml").read_text(encoding="utf-8")
    one.write("policy.yaml", text.replace(f"{section}: {{", f"{section}: {{{name}: {value}, "))

    ran = one.call("policy", "check", "policy.yaml")

    assert ran.code == 2
    assert f"unknown key '{name}'; write {'jobs.NAME.' * ('jobs.' not in said)}{said}" in ran.err


def test_show_takes_the_only_job(one: Project) -> None:
    ran = one.call("show", "policy.yaml")

    assert ran.code == 0, ran.err
    assert "train.jsonl:1" in ran.out


@pytest.mark.parametrize("command", ["show", "train"])
def test_of_two_jobs_one_must_be_named(one: Project, command: str) -> None:
    text = (one.folder / "policy.yaml").read_text(encoding="utf-8")
    one.write("policy.yaml", text + "  other: {model: {name: ./model}, data: {train: train.jsonl}}\n")

    ran = one.call(command, "policy.yaml")

    assert ran.code == 2
    assert "it has 2 jobs: say which one with --job (only, other)" in ran.err


def test_commands_that_are_proposed_repeat_set(one: Project) -> None:
    given = "jobs.only.training.max_length=16"

    ran = one.run("--set", given)

    assert ran.code == 1, ran.out
    assert f"ftcheck fix policy.yaml --set {given}" in ran.out.replace("\u00a0", " ")


def test_the_plan_that_is_written_names_no_folder_of_this_machine(one: Project) -> None:
    one.folder.joinpath("plans").mkdir()
    ran = one.call("plan", "policy.yaml", "--offline", "--write", "plans/config.json")

    text = Path(one.folder / "plans" / "config.json").read_text(encoding="utf-8")
    assert ran.code in (0, 1)
    assert str(one.folder) not in text
    assert '"name": "../model"' in text


def shaped(one: Project, settings: str) -> Project:
    """The same job with further settings of its data."""
    text = (one.folder / "policy.yaml").read_text(encoding="utf-8")
    one.write("policy.yaml", text.replace("train: train.jsonl", f"train: train.jsonl, {settings}"))
    return one


def test_rows_are_held_out_and_the_others_are_trained_on(one: Project) -> None:
    before = one.run().report["jobs"]["only"]
    ran = shaped(one, "validation_split: 0.25").run("--set", "jobs.only.training.eval_strategy=epoch")

    jobs = ran.report["jobs"]["only"]
    numbers = {m["name"]: m["value"] for m in ran.result("only::data-readable")["measurements"]}
    assert (numbers["rows"], numbers["eval_rows"]) == (30, 10)
    assert jobs["ids"] != before["ids"]
    assert jobs["eval_ids"] is not None
    assert ran.outcome("only::leakage") != "skipped"


def test_columns_roles_and_rows_of_a_real_configuration_have_a_home(one: Project) -> None:
    lines = (one.folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    text = "\n".join(lines).replace('"messages"', '"dialog"').replace('"user"', '"Customer"')
    plain = one.run("--set", "jobs.only.data.max_rows=20").report["jobs"]["only"]["ids"]
    one.write("train.jsonl", text)

    ran = shaped(one, "columns: {dialog: messages}, role_map: {Customer: user}, max_rows: 20").run()

    assert ran.report["jobs"]["only"]["ids"] == plain
    assert ran.outcome("only::data-schema") == "passed"


def test_a_changed_setting_is_another_preparation(one: Project) -> None:
    first = shaped(one, "max_rows: 20").run().report["jobs"]["only"]["ids"]
    second = one.run("--set", "jobs.only.data.max_rows=21").report["jobs"]["only"]["ids"]

    assert first != second


def test_two_sources_of_evaluation_rows_are_one_too_many(one: Project) -> None:
    ran = shaped(one, "eval: train.jsonl, validation_split: 0.5").call("policy", "check", "policy.yaml")

    assert ran.code == 2
    assert "validation_split: excludes data.eval (policy.yaml:" in ran.err


def test_a_share_outside_its_range_is_refused(one: Project) -> None:
    ran = shaped(one, "validation_split: 1.5").call("policy", "check", "policy.yaml")

    assert ran.code == 2
    assert "validation_split: must be above 0 and below 1" in ran.err
