"""LLaMA-Factory's traps: dataset_info.json, columns, the default of lora_alpha, packing, templates."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ftcheck.importers.records import Imported
from ftcheck.policy.nodes import find, plain
from tests.importers.test_sheet import imported

TEXT = "model_name_or_path: m\nstage: sft\ndataset: mine\ntemplate: llama3\ncutoff_len: 1024\n"


def read(tmp_path: Path, entry: Any = None, extra: str = "") -> tuple[dict[str, Any], Imported]:
    if entry is not None:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data/dataset_info.json").write_text(json.dumps({"mine": entry}, indent=1))
    tree, record = imported(tmp_path, TEXT + extra)
    return plain(tree), record


def refused(record: Imported, key: str) -> str:
    [found] = [one for one in record.not_mapped if one.key == key]
    return found.why


def test_a_data_set_is_found_by_its_name(tmp_path: Path) -> None:
    job, record = read(tmp_path, {"file_name": "mine.json"})

    assert job["data"] == {"train": "data/mine.json", "format": "alpaca"}
    assert job["training"]["completion_only_loss"] is True
    assert str(tmp_path / "data/dataset_info.json") in record.files.values()


def test_conversations_train_every_answer(tmp_path: Path) -> None:
    job, _ = read(tmp_path, {"file_name": "mine.json", "formatting": "sharegpt"})
    assert job["data"]["format"] == "sharegpt"
    assert job["training"]["assistant_only_loss"] is True

    tags = {"role_tag": "role", "content_tag": "content"}
    entry = {
        "file_name": "m.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": tags,
    }
    assert read(tmp_path, entry)[0]["data"]["format"] == "messages"


def test_columns_reset_what_they_do_not_name(tmp_path: Path) -> None:
    entry = {"file_name": "m.json", "columns": {"prompt": "instruction", "response": "output"}}

    _, record = read(tmp_path, entry)

    [found] = [one for one in record.not_mapped if one.key == "dataset_info.json: mine.columns"]
    assert "input is silently not read" in found.why
    assert found.changes == ("ids",)
    assert (found.at.path or "").endswith("dataset_info.json")
    assert found.at.line == 4


def test_a_missing_dataset_info_is_said_at_the_key(tmp_path: Path) -> None:
    job, record = read(tmp_path)

    assert "data" not in job
    told = "data/dataset_info.json: no such file: what these names stand for is unknown"
    assert refused(record, "dataset").endswith(told)


def test_a_broken_dataset_info_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text('{\n "mine": {"file_name": }\n')
    _, record = read(tmp_path)
    assert re.search(r"data/dataset_info\.json:\d+:\d+: .*: what these names", refused(record, "dataset"))


def test_a_name_that_dataset_info_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text("{}")
    _, record = read(tmp_path)
    assert "no data set of this name" in refused(record, "dataset_info.json: mine")


@pytest.mark.parametrize(("extra", "alpha"), [("", 16), ("lora_rank: 32\n", 64), ("lora_alpha: 5\n", 5)])
def test_lora_alpha_is_twice_the_rank_by_default(tmp_path: Path, extra: str, alpha: int) -> None:
    assert read(tmp_path, None, extra)[0]["training"]["lora"]["lora_alpha"] == alpha


def test_packing_takes_a_token_off(tmp_path: Path) -> None:
    training = read(tmp_path, None, "packing: true\n")[0]["training"]
    assert (training["packing"], training["max_length"]) == (True, 1023)


def test_its_templates_are_not_the_tokenizers(tmp_path: Path) -> None:
    assert "slots" in refused(read(tmp_path)[1], "template")


def test_the_v1_trainer_is_another_one(tmp_path: Path) -> None:
    _, record = imported(
        tmp_path, "model: m\nmodel_class: llm\ntrain_dataset: d\npeft_config: {name: lora}\n"
    )
    assert {one.key for one in record.not_mapped} == {
        "model",
        "model_class",
        "train_dataset",
        "peft_config.name",
    }
    assert "v1 trainer" in record.not_mapped[0].why


def test_the_tree_keeps_lists_of_target_modules(tmp_path: Path) -> None:
    tree, _ = imported(tmp_path, TEXT + "lora_target: q_proj,v_proj\n")
    node = find(tree, ("training", "lora", "target_modules"))
    assert node is not None
    assert plain(node) == ["q_proj", "v_proj"]


def test_a_dataset_info_that_is_indented_with_tabs(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text('{\n\t"mine": {\n\t\t"file_name": "a.json"\n\t}\n}\n')
    assert read(tmp_path)[0]["data"]["train"] == "data/a.json"


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        (["mine.json"], "dataset_info.json: mine"),
        ("mine.json", "dataset_info.json: mine"),
        ({"file_name": "m.json", "columns": ["instruction"]}, "dataset_info.json: mine.columns"),
        ({"file_name": "m.json", "formatting": "sharegpt", "tags": None}, "dataset_info.json: mine.tags"),
    ],
)
def test_what_must_be_a_mapping_and_is_none_is_told(tmp_path: Path, entry: Any, key: str) -> None:
    _, record = read(tmp_path, entry)

    assert "must be a mapping" in refused(record, key)


def test_a_tokenized_path_that_is_there_is_what_is_trained(tmp_path: Path) -> None:
    job, record = read(tmp_path, {"file_name": "mine.json"}, "tokenized_path: saves/ready\n")
    assert "prepared" not in job["data"]
    assert refused(record, "tokenized_path") == "which rows are trained on"

    (tmp_path / "saves/ready").mkdir(parents=True)
    (tmp_path / "saves/ready/dataset_dict.json").write_text("{}", encoding="utf-8")
    job, record = read(tmp_path, None, "tokenized_path: saves/ready\n")
    assert job["data"]["prepared"] == "saves/ready"
    assert "tokenized_path" in [one.key for one in record.mapped]
