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
