"""A job whose settings stand in another framework's file, from `init --from` to a gate that shuts."""

import json
from pathlib import Path

import pytest

from ftcheck.gate.decide import Reason
from ftcheck.gate.stored import check_stored
from ftcheck.gate.ticket import Refusal, Ticket
from ftcheck.policy import presets
from ftcheck.runner.load import load
from tests.commands import ftcheck

CONFIG = """\
base_model: ./model
datasets:
  - path: train.jsonl
    type: chat_template
sequence_len: 4096
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
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    samples = presets.folder() / "samples"
    (tmp_path / "model").symlink_to(samples / "models" / "mapper-tiny")
    (tmp_path / "train.jsonl").symlink_to(samples / "mapper" / "train.jsonl")
    (tmp_path / "qlora.yml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def decision(folder: Path) -> Ticket | Refusal:
    loaded = load("ftcheck.yaml", (), ())
    return check_stored("report.json", loaded.policy, loaded.checks, "qlora", during=loaded.during)
