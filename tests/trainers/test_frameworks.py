"""axolotl and LLaMA-Factory behind the gate: what they are started with, and on which rows."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from ftcheck_trainers import ids_export, saved_rows
from ruamel.yaml import YAML

from ftcheck.cli import run_command
from tests.cli.project import Project
from tests.places import SAMPLES

CONFIGS = {
    "axolotl": """\
# our qlora run
base_model: ./model
datasets:
  - {path: train.jsonl, type: chat_template}
test_datasets:
  - {path: eval.jsonl, type: chat_template, split: train}
sequence_len: 512
sample_packing: false
micro_batch_size: 2
num_epochs: 1
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
learning_rate: 2e-4   # as in the paper
bf16: auto
dataset_shard_num: 4
output_dir: ./out
""",
    "llama-factory": """\
model_name_or_path: ./model
stage: sft
do_train: true
finetuning_type: lora
lora_target: all
dataset: mine
template: llama3
cutoff_len: 512
learning_rate: 2e-4   # as in the paper
output_dir: ./out
""",
}
PROGRAMS = {"axolotl": "axolotl", "llama-factory": "llamafactory-cli"}
POLICY = """\
ftcheck: 1
name: framework
jobs:
  one:
    model: {{name: model}}
    data: {{train: train.jsonl, eval: eval.jsonl}}
    training: {{max_length: 512, output_dir: run, eval_strategy: epoch, assistant_only_loss: true}}
    trainer: {{use: {name}, files: [{name}.yml]}}
checks:
  trained-tokens: {{}}
"""
PROGRAM = """\
#!{python}
import json, os, sys
from datasets import load_from_disk
from ruamel.yaml import YAML
config = YAML(typ="safe", pure=True).load(open(sys.argv[-1]))
where = config["tokenized_path"] if "tokenized_path" in config else config["datasets"][0]["path"]
rows = {{name: rows.to_list() for name, rows in load_from_disk(where).items()}}
told = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "config": config, "rows": rows, "where": where}}
json.dump(told, open({log!r}, "w"), default=str)
sys.exit(int(os.environ.get("PROGRAM_EXIT", "0")))
"""
FRAMEWORKS = pytest.mark.parametrize("name", list(CONFIGS))


class Place:
    """A project with a framework's configuration, and a program on PATH that writes down what it is given."""

    def __init__(self, folder: Path, name: str) -> None:
        self.project = Project(folder)
        self.folder, self.name = folder, name
        shutil.copytree(SAMPLES / "models" / "mapper-tiny", folder / "model")
        for split, count in (("train", 80), ("eval", 20)):
            lines = (SAMPLES / "mapper" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(True)
            (folder / f"{split}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
        (folder / f"{name}.yml").write_text(CONFIGS[name], encoding="utf-8")
        (folder / "policy.yaml").write_text(POLICY.format(name=name), encoding="utf-8")
        program = folder / "bin" / PROGRAMS[name]
        program.parent.mkdir()
        program.write_text(PROGRAM.format(python=sys.executable, log=str(self.log)), encoding="utf-8")
        program.chmod(0o755)

    @property
    def log(self) -> Path:
        return self.folder / "told.json"

    def train(self, *words: str, **environment: str) -> Any:
        """`ftcheck train`, with the program on PATH."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        return self.project.call("train", "policy.yaml", *words, PATH=path, **environment)

    def told(self) -> dict[str, Any]:
        """What the program was given."""
        found: dict[str, Any] = json.loads(self.log.read_text(encoding="utf-8"))
        return found

    def run_json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "run" / "run.json").read_text(encoding="utf-8"))
        return found


@FRAMEWORKS
def test_the_framework_is_started_on_the_checked_ids_alone(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path, name)
    report = place.project.call("run", "policy.yaml", "-o", "json=r.json").report["jobs"]["one"]

    ran = place.train()

    assert ran.code == 0, ran.out + ran.err
    told, run = place.told(), place.run_json()
    config = told["config"]
    assert told["argv"] == ["train", str(tmp_path / "run" / f"{name}.yml")]
    assert told["where"] == str(tmp_path / "run" / "ids")
    assert told["cwd"] == str(tmp_path)
    assert (len(told["rows"]["train"]), len(told["rows"]["validation"])) == (80, 20)
    facts = json.loads((tmp_path / "run" / "ids" / "ftcheck.json").read_text(encoding="utf-8"))
    assert facts["ids"] == facts["splits"]["train"]["digest"] == report["ids"]
    assert facts["eval_ids"] == report["eval_ids"]
    assert (run["status"], run["ids"], run["trainer"]) == ("finished", report["ids"], name)
    assert report["ids_from"]["source"] == "trl"
    assert config["learning_rate"] == 2e-4
    assert config["output_dir"] == str(tmp_path / "run")


def test_keys_of_the_users_configuration_stay_as_they_are_but_for_those_about_data(tmp_path: Path) -> None:
    place = Place(tmp_path, "axolotl")
    assert place.train().code == 0

    text = (tmp_path / "run" / "axolotl.yml").read_text(encoding="utf-8")
    assert "learning_rate: 2e-4   # as in the paper" in text
    assert (tmp_path / "axolotl.yml").read_text(encoding="utf-8") == CONFIGS["axolotl"]
    config = YAML(typ="safe", pure=True).load(text)
    assert config["bf16"] == "auto"
    assert "dataset_shard_num" not in config
    assert [one["split"] for one in config["datasets"]] == ["train"]
    assert [one["split"] for one in config["test_datasets"]] == ["validation"]
    assert config["val_set_size"] == 0


@FRAMEWORKS
def test_a_framework_that_fails_fails_the_training(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path, name)

    ran = place.train(PROGRAM_EXIT="7")

    assert ran.code == 6
    assert f"{PROGRAMS[name]} ended with exit code 7" in ran.err
    assert place.run_json()["status"] == "failed"


@FRAMEWORKS
def test_a_framework_that_is_not_installed_is_named(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path, name)
    (tmp_path / "bin" / PROGRAMS[name]).unlink()

    ran = place.train()

    assert ran.code == 6
    assert f"{PROGRAMS[name]} failed to start" in ran.err
    assert not place.log.exists()


def test_data_that_changed_since_the_report_starts_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, "axolotl")
    assert place.project.call("run", "policy.yaml", "-o", "json=r.json").code == 0
    data = tmp_path / "train.jsonl"
    data.write_text(data.read_text(encoding="utf-8").replace("laptop", "tablet"), encoding="utf-8")

    ran = place.train("--report", "r.json")

    assert ran.code == 5
    assert not place.log.exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "axolotl.yml was not readable"),
        ("base_model: [", "axolotl.yml:1:"),
        ("- a list\n", "axolotl.yml: not a mapping of keys"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_one_line(
    tmp_path: Path, config: str | None, said: str
) -> None:
    place = Place(tmp_path, "axolotl")
    file = tmp_path / "axolotl.yml"
    file.unlink()
    if config is not None:
        file.write_text(config, encoding="utf-8")

    ran = place.train()

    assert ran.code != 0
    assert said in ran.out + ran.err
    assert not place.log.exists()


def test_the_configuration_that_from_names_is_taken_and_started_where_it_lies(tmp_path: Path) -> None:
    place = Place(tmp_path, "axolotl")
    policy = "ftcheck: 1\njobs:\n  one:\n    from: {axolotl: axolotl.yml}\n"
    policy += "    training: {assistant_only_loss: true}\n    trainer: {use: axolotl}\n"
    (tmp_path / "policy.yaml").write_text(policy + "checks: {trained-tokens: {}}\n", encoding="utf-8")

    ran = place.train()

    assert ran.code == 0, ran.out + ran.err
    assert place.told()["where"] == str(tmp_path / "out" / "ids")


def test_a_job_without_configuration_says_how_to_name_one(tmp_path: Path) -> None:
    place = Place(tmp_path, "axolotl")
    text = POLICY.format(name="axolotl").replace(", files: [axolotl.yml]", "")
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")

    ran = place.train()

    assert ran.code == 6
    assert "name axolotl's configuration with from: {axolotl: FILE}, or in trainer.files" in ran.err


@FRAMEWORKS
def test_a_resumed_run_goes_on_from_the_frameworks_last_checkpoint(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path, name)
    assert place.train(PROGRAM_EXIT="7").code == 6
    place.log.unlink()

    ran = place.train("--resume")

    assert ran.code == 0, ran.out + ran.err
    config = place.told()["config"]
    goes_on = {
        "axolotl": ("auto_resume_from_checkpoints", True),
        "llama-factory": ("overwrite_output_dir", False),
    }
    key, value = goes_on[name]
    assert config[key] is value
    assert len(place.told()["rows"]["train"]) == 80
    assert place.run_json()["status"] == "finished"


def test_ids_that_change_before_the_start_start_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, "axolotl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTCHECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    whole = ids_export.export

    def tampered(*words: Any, **options: Any) -> Any:
        """As if another program had written to the folder while this one went on."""
        made = whole(*words, **options)
        shard = made.folder / "train" / saved_rows.SHARD
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1  # in the attention mask, which the digest over ids leaves out
        shard.write_bytes(content)
        return made

    monkeypatch.setattr(ids_export, "export", tampered)

    assert run_command(["train", "policy.yaml"]) == 5

    assert "gate: refused (ids-changed)" in capsys.readouterr().err
    assert not place.log.exists()
    assert place.run_json()["status"] == "failed"


def test_a_configuration_that_is_not_there_is_no_green_run(tmp_path: Path) -> None:
    """Exit 0 beside a shut gate: no check opens the trainer's files."""
    place = Place(tmp_path, "axolotl")
    (tmp_path / "axolotl.yml").unlink()

    ran = place.project.call("run", "policy.yaml", "-o", "json=r.json")

    assert ran.code == 3
    assert "axolotl.yml cannot be read, or is not there: correct trainer.files" in " ".join(ran.out.split())
    [problem] = ran.report["problems"]
    assert problem["path"].endswith("policy.yaml")
    assert problem["line"]
