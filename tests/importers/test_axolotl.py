"""axolotl's traps: what its keys mean beside others."""

from pathlib import Path
from typing import Any

import pytest

from ftcheck.policy.nodes import find, plain
from tests.importers.test_sheet import AXOLOTL, imported


def value(tmp_path: Path, extra: str, *path: str, base: str = AXOLOTL) -> Any:
    node = find(imported(tmp_path, base + extra)[0], path)
    return plain(node) if node is not None else "(not stated)"


def why(tmp_path: Path, extra: str, key: str) -> tuple[str, tuple[str, ...]]:
    record = imported(tmp_path, AXOLOTL + extra)[1]
    [found] = [one for one in record.not_mapped if one.key == key]
    return found.why, found.changes


@pytest.mark.parametrize(
    ("extra", "steps"),
    [
        ("", 0.03),
        ("warmup_ratio: 0.1\n", 0.1),
        ("warmup_steps: 20\nwarmup_ratio: 0.1\n", 20),
        ("warmup_steps: 1\n", 2),
    ],
)
def test_warm_up(tmp_path: Path, extra: str, steps: float) -> None:
    assert value(tmp_path, extra, "training", "warmup_steps") == steps


@pytest.mark.parametrize(
    ("extra", "strategy", "steps"),
    [
        ("num_epochs: 4\nsaves_per_epoch: 2\n", "steps", 0.125),
        ("num_epochs: 1\nsaves_per_epoch: 1\n", "epoch", "(not stated)"),
        ("save_steps: 50\n", "steps", 50),
        ("save_strategy: best\n", "best", "(not stated)"),
        ("", "epoch", "(not stated)"),
    ],
)
def test_saving(tmp_path: Path, extra: str, strategy: str, steps: Any) -> None:
    assert value(tmp_path, extra, "training", "save_strategy") == strategy
    assert value(tmp_path, extra, "training", "save_steps") == steps


def test_rows_that_are_too_long_are_dropped_and_that_is_said(tmp_path: Path) -> None:
    [mapped] = [one for one in imported(tmp_path, AXOLOTL)[1].mapped if one.key == "sequence_len"]
    assert mapped.note is not None
    assert "dropped" in mapped.note

    text = AXOLOTL + "excess_length_strategy: truncate\n"
    [mapped] = [one for one in imported(tmp_path, text)[1].mapped if one.key == "sequence_len"]
    assert mapped.note is None


def test_4_bits_with_adapter_lora_are_not_quantised_by_axolotl(tmp_path: Path) -> None:
    assert why(tmp_path, "adapter: lora\nload_in_4bit: true\n", "load_in_4bit")[1] == ("memory",)
    assert value(tmp_path, "adapter: qlora\nload_in_4bit: true\n", "training", "quantization", "load_in_4bit")


def test_a_named_template_is_axolotls_own(tmp_path: Path) -> None:
    said, changes = why(tmp_path, "chat_template: llama3\n", "chat_template")
    assert "'llama3'" in said
    assert changes == ("ids",)


def test_a_template_file_is_the_jobs_template(tmp_path: Path) -> None:
    extra = "chat_template: jinja\nchat_template_jinja: ./own.jinja\n"
    assert value(tmp_path, extra, "model", "chat_template") == "./own.jinja"


def test_local_files_under_path_json(tmp_path: Path) -> None:
    base = AXOLOTL.replace("path: train.jsonl", "path: json, data_files: [a.jsonl]")
    assert value(tmp_path, "", "data", "train", base=base) == "a.jsonl"


def test_evaluation_on_test_datasets(tmp_path: Path) -> None:
    extra = "test_datasets:\n  - {path: eval.jsonl, type: chat_template}\nevals_per_epoch: 2\nnum_epochs: 2\n"
    assert value(tmp_path, extra, "data", "eval") == "eval.jsonl"
    assert value(tmp_path, extra, "training", "eval_steps") == 0.25


def test_messages_under_other_names_are_not_mapped(tmp_path: Path) -> None:
    text = AXOLOTL.replace("type: chat_template", "type: chat_template, field_messages: talk")
    record = imported(tmp_path, text)[1]
    assert [one.key for one in record.not_mapped] == ["datasets.0.type", "datasets.0.field_messages"]


def test_a_preference_training_is_not_what_ftcheck_checks(tmp_path: Path) -> None:
    assert "supervised fine-tuning" in why(tmp_path, "rl: dpo\n", "rl")[0]
