"""`ftcheck init`: a shipped policy with what it names, and nothing half written."""

import os
from pathlib import Path

import pytest

from ftcheck.errors import PolicyError, UsageError
from ftcheck.policy import draft, init
from tests.policy.kit import presets, write

POLICY = """ftcheck: 1
extends: [base, ./parts/more.yaml]
jobs:
  mapper:
    model: {name: samples/model, tokenizer: org/hub}
    data: {train: 'samples/*.jsonl', gold: {path: samples/missing.json}}
    training: {output_dir: checkpoints/mapper}
"""


def shipped() -> Path:
    folder = presets(night_before=POLICY, base="ftcheck: 1\njobs: {mapper: {run: samples/other.jinja}}\n")
    write("presets/parts/more.yaml", "jobs: {mapper: {serving: {chat_template: served.jinja}}}\n")
    for name in ("samples/a.jsonl", "samples/model/config.json", "samples/model/__pycache__/x.pyc"):
        write(f"presets/{name}", name)
    for name in (
        "parts/served.jinja",
        "samples/other.jinja",
        "samples/unused.txt",
        "checkpoints/mapper/big.bin",
    ):
        write(f"presets/{name}", name)
    return folder


def test_the_policy_comes_with_what_it_names() -> None:
    written = init(None, Path("project"), presets=shipped())

    names = [path.as_posix() for path in written]
    assert names[0] == "project/policies/night_before.yaml"
    assert sorted(names) == [
        "project/policies/night_before.yaml",
        "project/policies/parts/more.yaml",
        "project/policies/parts/served.jinja",
        "project/policies/samples/a.jsonl",
        "project/policies/samples/model/config.json",
    ]
    assert sorted(path.as_posix() for path in Path("project").rglob("*") if path.is_file()) == sorted(names)
    assert Path("project/policies/night_before.yaml").read_text() == POLICY


def test_a_process_can_write_more_than_one() -> None:
    folder = shipped()

    assert len(init(None, Path("one"), presets=folder)) == len(init(None, Path("two"), presets=folder)) > 0


def test_the_copy_is_the_same_policy() -> None:
    folder = shipped()
    init("night_before.yaml", Path("project"), presets=folder)

    copied, original = (
        draft("project/policies/night_before.yaml", presets=folder),
        draft("presets/night_before.yaml", presets=folder),
    )

    assert copied.policy is not None
    assert original.policy is not None
    job, source = copied.policy.jobs["mapper"], original.policy.jobs["mapper"]
    assert job.model.name == f"{Path.cwd()}/project/policies/samples/model"
    assert job.canonical["data"] == source.canonical["data"]


def test_nothing_is_overwritten() -> None:
    write("project/policies/samples/a.jsonl", "mine")

    with pytest.raises(UsageError) as error:
        init(None, Path("project"), presets=shipped())

    assert str(error.value) == "project/policies/samples/a.jsonl already exists: nothing was written"
    assert [path.name for path in Path("project").rglob("*") if path.is_file()] == ["a.jsonl"]
    assert Path("project/policies/samples/a.jsonl").read_text() == "mine"


def test_several_files_in_the_way_are_counted() -> None:
    init(None, Path("project"), presets=shipped())

    with pytest.raises(UsageError) as error:
        init(None, Path("project"), presets=shipped())

    message = "project/policies/night_before.yaml already exists (and 4 more files): nothing was written"
    assert str(error.value) == message


def test_a_failure_leaves_nothing_behind() -> None:
    write("project/policies/samples/model", "a file where a folder must be")

    with pytest.raises(UsageError) as error:
        init(None, Path("project"), presets=shipped())

    assert str(error.value).startswith("project: nothing was written: ")
    assert [path.name for path in Path("project").rglob("*") if path.is_file()] == ["model"]
    assert not [path for path in Path("project").iterdir() if path.name.startswith(".")]


def test_an_unknown_preset_is_named_with_what_there_is() -> None:
    with pytest.raises(UsageError) as error:
        init("night_befor", Path("project"), presets=shipped())

    message = "unknown preset 'night_befor'; did you mean 'night_before'? (available: base, night_before)"
    assert str(error.value) == message
    assert not os.path.exists("project")


def test_a_preset_that_cannot_be_read_is_not_copied() -> None:
    with pytest.raises(PolicyError):
        init("broken", Path("project"), presets=presets(broken="a: [1"))


def test_a_second_policy_comes_beside_the_first_and_what_is_there_already_is_kept() -> None:
    folder = shipped()
    write("presets/morning_after.yaml", "ftcheck: 1\nextends: [./night_before.yaml]\nstage: after\n")
    init("night_before", Path("project"), presets=folder)

    written = init("morning_after", Path("project"), presets=folder)

    assert written == [Path("project/policies/morning_after.yaml")]


def test_a_file_that_was_changed_is_never_written_over() -> None:
    folder = shipped()
    write("presets/morning_after.yaml", "ftcheck: 1\nextends: [./night_before.yaml]\nstage: after\n")
    init("night_before", Path("project"), presets=folder)
    write("project/policies/night_before.yaml", "mine")

    with pytest.raises(UsageError) as error:
        init("morning_after", Path("project"), presets=folder)

    assert str(error.value) == "project/policies/night_before.yaml already exists: nothing was written"
    assert Path("project/policies/night_before.yaml").read_text() == "mine"
    assert not Path("project/policies/morning_after.yaml").exists()
