"""`ftcheck check`, `plan`, `show` and `explain` with another framework's configuration, or with data."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import ftcheck
from ftcheck.cli import run_command
from ftcheck.errors import UsageError
from ftcheck.policy.editor import LINE
from tests.cli.test_from import CONFIG
from tests.places import POLICIES

SELECTED = ["--offline", "--select", "data-*", "--select", "imported-config", "--select", "truncation"]
HANDBOOK = """\
model_name_or_path: ./model
dataset_mixture: {datasets: [{id: train.jsonl, weight: 1.0}]}
chat_template: >-
  {{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An axolotl project: a model, rows, and its configuration."""
    shutil.copytree(POLICIES / "samples/models/mapper-tiny", tmp_path / "model")
    lines = (POLICIES / "samples/mapper/train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[:60]), encoding="utf-8")
    (tmp_path / "qlora.yml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reported(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    code = run_command([*words, *SELECTED, "-q", "-o", "json=r.json"])
    return code, json.loads((folder / "r.json").read_text(encoding="utf-8"))


def of(report: dict[str, Any], check: str) -> dict[str, Any]:
    return next(one for one in report["results"] if one["id"] == check)


def test_a_configuration_is_checked_as_the_policy_that_init_writes(folder: Path) -> None:
    code, checked = reported(folder, "check", "qlora.yml")
    assert sorted(path.name for path in folder.iterdir()) == ["model", "qlora.yml", "r.json", "train.jsonl"]
    assert run_command(["init", "--from", "qlora.yml"]) == 0
    ran_code, ran = reported(folder, "run", "ftcheck.yaml")

    assert (code, ran_code) == (0, 0)
    assert checked["policy"]["path"] == "qlora.yml"
    assert checked["jobs"]["qlora"]["ids"] == ran["jobs"]["qlora"]["ids"]
    assert checked["results"] == ran["results"]


def test_the_saved_policy_is_the_one_that_init_writes(folder: Path) -> None:
    assert reported(folder, "check", "qlora.yml", "--save", "mine.yaml")[0] == 0
    assert run_command(["init", "--from", "qlora.yml"]) == 0

    written = (folder / "ftcheck.yaml").read_text()
    assert written.startswith(LINE), "init names the schema that it writes beside the policy"
    saved = written.removeprefix(LINE).replace("ftcheck run ftcheck.yaml", "ftcheck run mine.yaml")
    assert (folder / "mine.yaml").read_text() == saved


def test_flags_override_the_configuration_and_are_listed(folder: Path) -> None:
    code, report = reported(folder, "check", "qlora.yml", "--max-length", "64", "--loss", "all")

    assert code in (0, 1)  # rows are cut at 64 tokens, which is what `truncation` is for
    assert report["policy"]["path"] == "qlora.yml --max-length 64 --loss all"
    found = of(report, "qlora::imported-config")["findings"]
    listed = [one for one in found if one["path"] and one["path"].startswith("--")]
    assert (listed[0]["path"], listed[0]["severity"]) == ("--max-length", "warning")
    assert "training.max_length is 64" in listed[0]["message"]
    assert "sequence_len is 512 in qlora.yml:5:1" in listed[0]["message"]
    assert not of(report, "qlora::imported-config")["blocking"]
    assert of(report, "qlora::truncation")["measurements"][0]["value"] > 0


def test_a_saved_policy_states_what_the_flags_did(folder: Path) -> None:
    reported(folder, "check", "qlora.yml", "--max-length", "64", "--gpu", "RTX 4090", "--save", "mine.yaml")
    code, report = reported(folder, "run", "mine.yaml")

    text = (folder / "mine.yaml").read_text(encoding="utf-8")
    assert "max_length: 64" in text
    assert "gpu: RTX 4090" in text
    assert code == 1  # in a policy that a trainer is started by, a difference blocks
    assert of(report, "qlora::imported-config")["blocking"]


def test_a_template_in_the_file_is_used_and_saved(folder: Path) -> None:
    (folder / "sft.yaml").write_text(HANDBOOK, encoding="utf-8")
    code, report = reported(folder, "check", "sft.yaml")
    said = of(report, "sft::imported-config")
    assert code in (0, 1)
    assert "another template" not in json.dumps(said)
    assert "chat_template is not mapped" not in json.dumps(said)
    assert not (folder / "chat_template.jinja").exists()

    _, saved = reported(folder, "check", "sft.yaml", "--save", "mine.yaml")
    assert (folder / "chat_template.jinja").read_text().startswith("{{ bos_token }}{% for m")
    assert saved["jobs"]["sft"]["ids"] == report["jobs"]["sft"]["ids"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["ds.json"],
            "ds.json is a configuration of DeepSpeed, not a training: name it under training.deepspeed",
        ),
        (
            ["other.yaml"],
            "other.yaml is neither a policy (no key 'ftcheck') nor a configuration of a framework that"
            " ftcheck reads (axolotl, LLaMA-Factory, TRL, alignment-handbook, torchtune, unsloth, LitGPT,"
            " NeMo AutoModel)",
        ),
        (
            ["hello.py"],
            "hello.py: calls nothing that ftcheck reads: SFTConfig, TrainingArguments, LoraConfig,"
            " load_dataset, ...",
        ),
        (
            ["jinja.yaml"],
            "jinja.yaml:1:14: base_model: contains Jinja ({{ }} or {% %}), which is not YAML: render the file"
            " first, and import the result",
        ),
        (["qlora.yml", "train.jsonl"], "qlora.yml is no data file: name a configuration or a policy alone"),
        (["absent.yml"], "absent.yml: no such file"),
        (["qlora.yml", "--model", "./absent"], "model ./absent: no such folder"),
        (["qlora.yml", "--eval", "absent.jsonl"], "absent.jsonl: no such file"),
        (
            ["qlora.yml", "--save", "sub/mine.yaml"],
            "--save sub/mine.yaml: paths in qlora.yml begin where its training is started: save the policy"
            " into this folder",
        ),
    ],
)
def test_a_mistake_is_said_in_a_line(
    words: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sub").mkdir()
    (folder / "ds.json").write_text('{"zero_optimization": {"stage": 2}}', encoding="utf-8")
    (folder / "other.yaml").write_text("a: 1\n", encoding="utf-8")
    (folder / "hello.py").write_text("print(1)\n", encoding="utf-8")
    (folder / "jinja.yaml").write_text("base_model: {{ model }}\nsequence_len: 512\n", encoding="utf-8")
    before = sorted(folder.rglob("*"))

    assert run_command(["check", *words]) == 2
    assert capsys.readouterr().err.strip().splitlines() == [told]
    assert sorted(folder.rglob("*")) == before


def test_rows_in_a_json_file_stay_data(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")

    words = ["--offline", "--select", "data-*", "-o", "json=r.json"]

    assert run_command(["check", "rows.json", "--model", "model", *words]) == 0
    assert json.loads((folder / "r.json").read_text())["jobs"].keys() == {"rows"}


def _measured(report: ftcheck.Report, check: str, name: str) -> Any:
    return next(one["value"] for one in report.measurements if (one["check"], one["name"]) == (check, name))


def test_python_takes_a_configuration_and_a_policy(folder: Path) -> None:
    select = ["data-readable", "imported-config", "trained-tokens"]
    report = ftcheck.check("qlora.yml", max_length=256, select=select, offline=True)
    assert _measured(report, "qlora::data-readable", "rows") == 60
    assert _measured(report, "qlora::imported-config", "overridden") == 1

    run_command(["init", "--from", "qlora.yml"])
    assert ftcheck.check("ftcheck.yaml", select=["data-readable"], offline=True).jobs.keys() == {"qlora"}
    with pytest.raises(UsageError, match="no model"):
        ftcheck.check("train.jsonl")


def test_a_plan_takes_a_configuration_and_several_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["plan", "qlora.yml", "--offline"]) == 0
    assert capsys.readouterr().out.startswith("qlora · model · LoRA r 16")
    shutil.copy(folder / "train.jsonl", folder / "more.jsonl")
    assert run_command(["plan", "train.jsonl", "more.jsonl", "--model", "model", "--offline"]) == 0
    assert "120 rows" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["train.jsonl", "--model", "model"], ["qlora.yml"]])
def test_a_row_is_shown_without_a_policy(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["show", *words, "--row", "2", "--offline"]) == 0
    assert "train.jsonl:2 · " in capsys.readouterr().out.splitlines()[0]
    assert run_command(["show", *words, "--first-finding", "--offline"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_a_rule_is_explained_with_what_it_finds_here(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["explain", "data-readable"]) == 0
    alone = capsys.readouterr().out
    assert run_command(["explain", "data-readable", "qlora.yml", "--offline"]) == 0
    out = capsys.readouterr().out

    assert out.startswith(alone)
    assert "✓ data-readable" in out
    assert "60 rows in 1 file" in out
    assert "1 passed" in out


def test_a_rule_that_is_not_among_the_recommended_is_explained_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train.jsonl", "--model", "model", "--offline"]
    assert run_command(["explain", "hosted-file", *words]) in (0, 1)
    assert re.search("[✓✗!] hosted-file", capsys.readouterr().out)
    assert run_command(["explain", "imported-config", *words]) == 2
    assert "no job sets from, which imported-config is about" in capsys.readouterr().err


def test_a_rule_that_a_policy_does_not_plan_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "p.yaml").write_text(
        "ftcheck: 1\njobs: {one: {model: {name: model}, data: {train: train.jsonl}}}\n"
        "checks: {readable: {rule: data-readable}}\n",
        encoding="utf-8",
    )
    assert run_command(["explain", "data-readable", "p.yaml", "--offline"]) == 0
    assert "✓ readable" in capsys.readouterr().out
    assert run_command(["explain", "truncation", "p.yaml", "--offline"]) == 2
    assert "p.yaml plans no check of the rule truncation: add it under 'checks'" in capsys.readouterr().err


def test_no_command_fixes_a_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "qlora.yml").write_text(CONFIG.replace("sequence_len: 512", "sequence_len: 64"))

    assert run_command(["check", "qlora.yml", "--offline", "--select", "percentile-seq-len"]) == 1
    out = capsys.readouterr().out
    assert "qlora.yml:5:15  max_length: 64 -> 128" in out
    assert "ftcheck fix" not in out


def test_a_folder_is_no_source_and_the_line_says_what_to_name(folder: Path) -> None:
    (folder / "policies").mkdir()
    (folder / "policies" / "night.yaml").write_text("ftcheck: 1\n", encoding="utf-8")

    with pytest.raises(
        UsageError, match=r"policies/ is a folder of policies: name one, such as policies/night"
    ):
        ftcheck.check("policies/")
