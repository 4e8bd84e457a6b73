"""A training script of one's own, with the gate in its first lines, as the README shows it."""

import sys
from pathlib import Path

import pytest

from tests.trainers import small

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]

SCRIPT = """
import ftcheck

ticket = ftcheck.require("night.json", policy="policy.yaml", job="small")

from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

trainer = SFTTrainer(
    "model",
    SFTConfig("mine", max_length=96, assistant_only_loss=True, max_steps=1, use_cpu=True),
    train_dataset=load_dataset("json", data_files="train.jsonl", split="train"),
    peft_config=LoraConfig(r=4, target_modules="all-linear"),
)
trainer.train()
trainer.save_model()
print("trained", ticket.ids)
"""


@pytest.fixture
def project(model_folder: Path, tmp_path: Path) -> Path:
    """The small job with a stored report, and the script beside it."""
    small.make_project(tmp_path, model_folder)
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    checked = small.ftcheck("run", "policy.yaml", "-o", "json=night.json")
    assert small.forked(checked, tmp_path, tmp_path / "log.txt").wait() == 0
    return tmp_path


def run(project: Path) -> tuple[int, str]:
    said = project / "said.txt"
    code = small.started([sys.executable, "train.py"], project, said, HF_HOME=str(project)).wait()
    return code, said.read_text(encoding="utf-8")


def test_a_good_report_lets_the_script_train(project: Path) -> None:
    code, said = run(project)

    assert code == 0, said
    assert "trained sha256:" in said
    assert (project / "mine" / "adapter_model.safetensors").exists()


def test_changed_data_stop_the_script_before_it_imports_anything_heavy(project: Path) -> None:
    rows = project / "train.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"late", b"Late", 1))

    code, said = run(project)

    assert code == 1
    assert "ftcheck.gate.ticket.Refused: " in said
    assert "data-changed" in said
    assert "datasets" not in said
    assert not (project / "mine").exists()
