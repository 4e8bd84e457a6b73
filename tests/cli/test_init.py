"""`ftcheck init`: what it does, or proposes, in each situation of a newcomer."""

import json
import shutil
from pathlib import Path

import pytest

from ftcheck.cli import run_command
from tests.cli.test_from import CONFIG
from tests.places import POLICIES

ROW = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
POLICY = "ftcheck: 1\nextends: [recommended]\njobs: {one: {model: {name: org/name}}}\n"
WORDS = "sample, recommended, recommended_after, morning_after, night_before, night_before_llama3_phi3"
SCHEMA = ".ftcheck/policy.schema.json"
Said = tuple[int, list[str], list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(folder: Path, capsys: pytest.CaptureFixture[str]) -> "Calling":
    return Calling(capsys)


class Calling:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str) -> Said:
        code = run_command(["init", *words])
        printed = self.capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()


def rows(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(ROW) + "\n", encoding="utf-8")


def files(folder: Path) -> list[str]:
    return sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file())


@pytest.mark.parametrize("words", [[], ["sample"], ["night_before"], ["night_before.yaml"]])
def test_an_empty_folder_gets_the_sample(words: list[str], folder: Path, said: Calling) -> None:
    code, out, err = said(*words)

    assert code == 0
    assert out[0] == "policies/night_before.yaml"
    assert "policies/samples/mapper/train.jsonl" in out
    assert err == ["next: ftcheck run policies/night_before.yaml"]
    again = ["policies/night_before.yaml is a policy: ftcheck run policies/night_before.yaml"]
    assert said() == (0, again, [])


def test_data_alone_is_told_the_command_that_checks_it(folder: Path, said: Calling) -> None:
    rows(folder / "train.jsonl")
    rows(folder / "data" / "more rows.jsonl")
    before = files(folder)

    assert said() == (
        0,
        [
            "train.jsonl holds rows: ftcheck check train.jsonl --model MODEL --save ftcheck.yaml",
            "data/more rows.jsonl holds rows:"
            " ftcheck check 'data/more rows.jsonl' --model MODEL --save ftcheck.yaml",
        ],
        ["MODEL is the base model: a hub id, or a folder"],
    )
    assert said("recommended") == said()
    assert files(folder) == before


def test_a_model_that_lies_beside_the_data_is_named(folder: Path, said: Calling) -> None:
    rows(folder / "train.jsonl")
    shutil.copytree(POLICIES / "samples/models/mapper-tiny", folder / "tiny")

    line = "train.jsonl holds rows: ftcheck check train.jsonl --model tiny --save ftcheck.yaml"
    assert said() == (0, [line], [])


def test_a_configuration_gets_its_policy(folder: Path, said: Calling) -> None:
    (folder / "qlora.yml").write_text(CONFIG, encoding="utf-8")
    rows(folder / "train.jsonl")

    assert said() == (
        0,
        ["ftcheck.yaml", SCHEMA],
        ["qlora.yml is a configuration of axolotl", "next: ftcheck run ftcheck.yaml"],
    )
    assert "from: {axolotl: qlora.yml}" in (folder / "ftcheck.yaml").read_text(encoding="utf-8")


def test_of_several_configurations_one_is_to_be_named(folder: Path, said: Calling) -> None:
    (folder / "a b.yml").write_text(CONFIG, encoding="utf-8")
    (folder / "train.py").write_text(
        "from trl import SFTConfig\nSFTConfig(max_length=12, output_dir='x')\n", encoding="utf-8"
    )
    before = files(folder)

    assert said() == (
        0,
        [
            "a b.yml is a configuration of axolotl: ftcheck init 'a b.yml'",
            "train.py is a configuration of TRL: ftcheck init train.py",
        ],
        [],
    )
    assert files(folder) == before


def test_a_policy_that_is_there_is_named_with_what_runs_it(folder: Path, said: Calling) -> None:
    (folder / "ftcheck.yaml").write_text(POLICY, encoding="utf-8")
    (folder / "qlora.yml").write_text(CONFIG, encoding="utf-8")

    assert said() == (0, ["ftcheck.yaml is a policy: ftcheck run ftcheck.yaml"], [])
    assert said("recommended")[1] == ["ftcheck.yaml is a policy: ftcheck run ftcheck.yaml"]


def test_a_policy_that_lies_in_policies_counts_too(folder: Path, said: Calling) -> None:
    (folder / "policies").mkdir()
    (folder / "policies" / "mine.yaml").write_text(POLICY, encoding="utf-8")

    assert said() == (0, ["policies/mine.yaml is a policy: ftcheck run policies/mine.yaml"], [])


def test_a_file_may_be_named_itself(folder: Path, said: Calling) -> None:
    rows(folder / "train.jsonl")
    (folder / "qlora.yml").write_text(CONFIG, encoding="utf-8")

    code, out, err = said("train.jsonl", "--model", "org/name", "--max-length", "256")
    assert (code, out, err) == (0, ["ftcheck.yaml", SCHEMA], ["next: ftcheck run ftcheck.yaml"])
    text = (folder / "ftcheck.yaml").read_text(encoding="utf-8")
    assert "train: train.jsonl" in text
    assert "max_length: 256" in text

    assert said("qlora.yml") == (2, [], ["ftcheck.yaml already exists: nothing was written"])
    (folder / "ftcheck.yaml").unlink()
    assert said("qlora.yml")[:2] == (0, ["ftcheck.yaml", SCHEMA])
    (folder / "ftcheck.yaml").unlink()
    assert said("qlora.yml", "--expand")[:2] == (0, ["ftcheck.yaml", SCHEMA])


def test_recommended_in_an_empty_folder_says_what_it_needs(folder: Path, said: Calling) -> None:
    told = (
        "no rows and no configuration here: ftcheck init DATA --model MODEL, ftcheck init CONFIG, or, to try"
    )
    assert said("recommended") == (2, [], [f"{told} it, ftcheck init sample"])
    assert files(folder) == []


def test_the_morning_after_of_ones_own_policy(folder: Path, said: Calling) -> None:
    (folder / "ftcheck.yaml").write_text(POLICY, encoding="utf-8")

    code, out, err = said("recommended_after")

    assert (code, out) == (0, ["ftcheck_after.yaml", SCHEMA])
    assert err == ["next, after training: ftcheck run ftcheck_after.yaml"]
    assert run_command(["policy", "check", "ftcheck_after.yaml"]) == 0
    text = (folder / "ftcheck_after.yaml").read_text(encoding="utf-8")
    assert "extends: [ftcheck.yaml, recommended_after]" in text


def test_recommended_after_needs_one_policy(folder: Path, said: Calling) -> None:
    told = "recommended_after is about the jobs of a policy, and there is none here: ftcheck init makes one"
    assert said("recommended_after") == (2, [], [told])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["recomended"],
            f"no word 'recomended' and no such file; did you mean 'recommended'? (words: {WORDS})",
        ),
        (["samples"], f"no word 'samples' and no such file; did you mean 'sample'? (words: {WORDS})"),
        (["xyz"], f"no word 'xyz' and no such file (words: {WORDS})"),
        (["absent.yml"], "absent.yml: no such file"),
        (["sample", "--model", "org/name"], "--model is for a data file or a configuration, not for sample"),
        (["--model", "org/name"], "--model is for a data file or a configuration: name it"),
        (
            ["train.jsonl", "--model", "m", "--expand"],
            "--expand is for a configuration: train.jsonl holds rows",
        ),
        (["train.jsonl"], "no model: name the base model with --model (a hub id, or a folder)"),
        (["mine.yaml"], "mine.yaml is a policy already: ftcheck run mine.yaml"),
    ],
)
def test_a_mistake_is_said_in_a_line(words: list[str], told: str, folder: Path, said: Calling) -> None:
    rows(folder / "train.jsonl")
    (folder / "mine.yaml").write_text(POLICY, encoding="utf-8")
    before = files(folder)

    assert said(*words) == (2, [], [told])
    assert files(folder) == before


def test_what_the_policy_still_needs_is_said_at_once(folder: Path, said: Calling) -> None:
    (folder / "c.yml").write_text("base_model: ${oc.env:MODEL}\nsequence_len: 5\n", encoding="utf-8")

    code, out, err = said("c.yml")

    assert (code, out) == (0, ["ftcheck.yaml", SCHEMA])
    assert err[0].startswith(
        "ftcheck.yaml:8:3: jobs.c: c.yml names no base model that ftcheck can read: state"
    )
    assert err[1] == "next: correct this, then ftcheck run ftcheck.yaml"
