"""Scripts, notebooks and shell commands: read with `ast` and `shlex`, never run."""

import json
from pathlib import Path
from typing import Any

import pytest

from ftcheck.importers import importing
from ftcheck.importers.records import Imported
from ftcheck.policy.nodes import Node, plain

SCRIPT = """\
import os
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

open("ran", "w").write("x")
NAME = "org/model"
LENGTH = int(os.environ["LENGTH"])
dataset = load_dataset("json", data_files="train.jsonl", split="train")
dataset = dataset.map(lambda row: row)
config = SFTConfig(output_dir=f"out/{NAME}", max_length=LENGTH, packing=True, learning_rate=2e-4)
peft = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
SFTTrainer(model=NAME, args=config, train_dataset=dataset, peft_config=peft).train()
"""


def read(tmp_path: Path, text: str, name: str = "train.py") -> tuple[Node, Imported]:
    (tmp_path / name).write_text(text)
    result = importing.read(None, tmp_path / name, folder=tmp_path)
    assert result.problems == ()
    assert result.tree is not None
    assert result.imported is not None
    return result.tree, result.imported


def test_literal_arguments_are_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tree, record = read(tmp_path, SCRIPT)

    assert not (tmp_path / "ran").exists()
    assert plain(tree) == {
        "model": {"name": "org/model"},
        "data": {"train": "train.jsonl"},
        "training": {
            "output_dir": "out/org/model",
            "packing": True,
            "learning_rate": 2e-4,
            "lora": {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"]},
        },
    }
    [packing] = [one for one in record.mapped if one.key == "SFTConfig.packing"]
    assert packing.at.line == 11


def test_computed_values_are_named_with_their_line(tmp_path: Path) -> None:
    record = read(tmp_path, SCRIPT)[1]
    said = {one.key: (one.at.line, one.why) for one in record.not_mapped}
    assert said["SFTConfig.max_length"] == (11, "computed by the script (LENGTH): ftcheck runs nothing")
    assert said["dataset.map"][0] == 10


def test_a_name_that_is_set_twice_stands_for_nothing(tmp_path: Path) -> None:
    record = read(tmp_path, SCRIPT.replace('LENGTH = int(os.environ["LENGTH"])', 'NAME = "other"'))[1]
    assert "SFTTrainer.model" not in {one.key for one in record.mapped}


def test_a_notebook_is_read_with_the_lines_of_its_file(tmp_path: Path) -> None:
    call = 'model, tok = FastLanguageModel.from_pretrained(model_name="unsloth/x", max_seq_length=1024)\n'
    source = ["!pip install unsloth\n", "from unsloth import FastLanguageModel\n", call]
    cells = [{"cell_type": "markdown", "source": ["# a\n"]}, {"cell_type": "code", "source": source}]
    tree, record = read(tmp_path, json.dumps({"cells": cells}, indent=1), "n.ipynb")

    assert record.framework == "unsloth"
    made = plain(tree)
    assert made["model"] == {"name": "unsloth/x"}
    assert made["training"]["max_length"] == 1024
    assert made["training"]["quantization"]["load_in_4bit"] is True
    [name] = [one for one in record.mapped if one.to == ("model.name",)]
    lines = (tmp_path / "n.ipynb").read_text().splitlines()
    assert name.at.line is not None
    assert "max_seq_length=1024" in lines[name.at.line - 1]


def test_a_shell_command_is_read_as_its_yaml(tmp_path: Path) -> None:
    lines = ["M=org/m", "llamafactory-cli train \\", "  --model_name_or_path ${M} \\", "  --bf16 \\"]
    text = "\n".join([*lines, "  --cutoff_len 512 --stage sft", ""])
    tree, record = read(tmp_path, text, "run.sh")
    assert record.framework == "llama-factory"
    assert plain(tree)["model"] == {"name": "org/m"}
    assert plain(tree)["training"]["max_length"] == 512
    assert [one.at.line for one in record.mapped if one.key == "cutoff_len"] == [5]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.py", "def (", "a.py:1: is not Python: invalid syntax"),
        ("a.py", "print(1)\n", "a.py: calls nothing that ftcheck reads"),
        ("a.ipynb", "[]", "a.ipynb: is not a notebook"),
        ("a.sh", "ls\n", "a.sh: starts no trainer that ftcheck reads"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    [problem] = importing.read(None, tmp_path / name, folder=tmp_path).problems
    assert str(problem).rpartition("/")[2].startswith(message)


def test_a_hostile_script_is_read_in_bounds(tmp_path: Path) -> None:
    deep = "x" + ".a" * 3000
    (tmp_path / "a.py").write_text(f"SFTConfig(max_length={deep}, seed={'-' * 2000}1)\n")
    result = importing.read(None, tmp_path / "a.py", folder=tmp_path)
    assert result.problems or result.imported is not None


def test_commands_over_several_lines_other_languages_and_code_for_later_are_no_part(tmp_path: Path) -> None:
    def cell(*lines: str) -> dict[str, Any]:
        return {"cell_type": "code", "source": [f"{line}\n" for line in lines]}

    cells = [
        cell("%%capture", "!pip install -q \\", "    unsloth \\", "    trl", "import os"),
        cell("%%bash", "if [ -f x ]; then"),
        cell("from unsloth import FastLanguageModel", "m = FastLanguageModel.from_pretrained('unsloth/x')"),
        cell("if False:", "    m = FastLanguageModel.from_pretrained('lora')"),
    ]
    tree, record = read(tmp_path, json.dumps({"cells": cells}), "n.ipynb")
    assert plain(tree)["model"] == {"name": "unsloth/x"}
    assert record.not_mapped == ()

    _, record = read(tmp_path, json.dumps({"cells": [*cells, cell("def (")]}, indent=1), "n.ipynb")
    [unread] = record.not_mapped
    assert "not Python" in unread.why
    assert unread.at.line is not None
