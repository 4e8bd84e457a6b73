"""A job whose settings stand in another framework's file: from `init --from` to a gate that shuts."""

import shutil
from pathlib import Path

import pytest

from tests.cli.project import Project
from tests.places import POLICIES

CONFIG = """\
base_model: ./model
datasets:
  - path: train.jsonl
    type: chat_template
sequence_len: 512
sample_packing: false
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 2
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
learning_rate: 2e-4
output_dir: out
"""


@pytest.fixture
def place(tmp_path: Path) -> Project:
    """An axolotl project: a model, rows, and its configuration."""
    shutil.copytree(POLICIES / "samples/models/mapper-tiny", tmp_path / "model")
    shutil.copy(POLICIES / "samples/mapper/train.jsonl", tmp_path / "train.jsonl")
    (tmp_path / "qlora.yml").write_text(CONFIG, encoding="utf-8")
    return Project(tmp_path)


def test_a_changed_byte_in_the_file_shuts_the_gate(place: Project) -> None:
    assert place.call("init", "--from", "qlora.yml").code == 0
    ran = place.call("run", "ftcheck.yaml", "--offline", "-o", "json=r.json")
    assert ran.code == 0, ran.out
    assert ran.result("qlora::imported-config")["outcome"] == "passed"
    assert place.call("gate", "r.json", "--policy", "ftcheck.yaml").code == 0

    (place.folder / "qlora.yml").write_text(CONFIG + "# one more line\n", encoding="utf-8")

    shut = place.call("gate", "r.json", "--policy", "ftcheck.yaml")
    assert shut.code == 5
    assert "policy-changed" in shut.out + shut.err
    assert "qlora.yml" in shut.out + shut.err


def test_settings_beside_the_file_go_red_with_both_values(place: Project) -> None:
    text = "ftcheck: 1\nextends: [recommended]\njobs:\n  one:\n    from: {axolotl: qlora.yml}\n"
    text += "    training: {max_length: 256, packing: true}\n"
    text += "    trainer: {use: command, argv: [axolotl, train, qlora.yml]}\n"
    (place.folder / "p.yaml").write_text(text, encoding="utf-8")

    ran = place.call("run", "p.yaml", "--offline", "-o", "json=r.json")

    assert ran.code == 1
    errors = [one for one in ran.result("one::imported-config")["findings"] if one["severity"] == "error"]
    assert [(one["path"], one["line"], one["yaml_path"]) for one in errors] == [
        ("p.yaml", 6, "jobs.one.training.max_length"),
        ("p.yaml", 6, "jobs.one.training.packing"),
    ]
    assert "256" in errors[0]["message"]
    assert "sequence_len is 512 in qlora.yml:5:1" in errors[0]["message"]


def test_a_fix_is_written_beside_the_file_not_into_it(place: Project) -> None:
    assert place.call("init", "--from", "qlora.yml").code == 0
    before = (place.folder / "qlora.yml").read_bytes()

    fixed = place.call("fix", "ftcheck.yaml", "--offline")

    assert fixed.code in (0, 1), fixed.out + fixed.err
    assert (place.folder / "qlora.yml").read_bytes() == before
    assert place.call("policy", "check", "ftcheck.yaml").code == 0


def test_init_asks_for_one_thing(place: Project) -> None:
    both = place.call("init", "recommended", "--from", "qlora.yml")
    assert both.code == 2
    assert "not both" in both.err
    assert place.call("init", "--expand").code == 2
