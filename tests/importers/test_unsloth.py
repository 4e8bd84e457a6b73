"""unsloth's command line: its YAML, whose defaults are its own."""

from pathlib import Path
from typing import Any

from ftcheck.policy.nodes import plain
from tests.importers.test_sheet import imported

TEXT = "model: unsloth/x\ndata: {local_dataset: [a.jsonl], format_type: chatml}\ntraining: {max_steps: 0}\n"


def read(tmp_path: Path, text: str = TEXT) -> dict[str, Any]:
    tree, record = imported(tmp_path, text)
    assert record.framework == "unsloth"
    made: dict[str, Any] = plain(tree)
    return made


def test_the_defaults_are_unsloths(tmp_path: Path) -> None:
    made = read(tmp_path)
    assert made["data"] == {"train": "a.jsonl", "format": "messages"}
    lora = made["training"]["lora"]
    assert (lora["r"], lora["lora_alpha"]) == (64, 16)
    assert made["training"]["quantization"]["load_in_4bit"] is True
    assert made["training"]["max_length"] == 2048
    assert "max_steps" not in made["training"]


def test_training_in_full(tmp_path: Path) -> None:
    text = TEXT.replace("{max_steps: 0}", "{training_type: full, load_in_4bit: true}")
    training = read(tmp_path, text)["training"]
    assert "lora" not in training
    assert "quantization" not in training
