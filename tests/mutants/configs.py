"""Configurations of the frameworks that are imported, for mutants: small ones, and real ones if there are."""

import contextlib
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from tests.importers.test_litgpt import TEXT as LITGPT
from tests.importers.test_nemo_automodel import TEXT as NEMO
from tests.importers.test_torchtune import TEXT as TORCHTUNE
from tests.importers.test_unsloth import TEXT as UNSLOTH
from tests.mutants.mutate import broken_bytes, broken_json, broken_text
from tests.places import DATA

AXOLOTL = """\
base_model: org/name
datasets:
  - path: rows.jsonl
    type: chat_template
    field_messages: messages
    roles_to_train: [assistant]
test_datasets: [{path: held.jsonl, type: alpaca, ds_type: json, split: train}]
chat_template: qwen_25
sequence_len: 2048
sample_packing: true
micro_batch_size: 2
adapter: qlora
load_in_4bit: true
lora_r: 16
lora_target_linear: true
special_tokens: {pad_token: "<|end_of_text|>"}
learning_rate: 2e-4
bf16: auto
"""
FACTORY = """\
model_name_or_path: org/name
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: turns,pairs,hub
eval_dataset: pairs
dataset_dir: data
template: qwen
cutoff_len: 2048
quantization_bit: 4
learning_rate: 1.0e-4
"""
DATASETS: dict[str, Any] = {
    "pairs": {"file_name": "pairs.json", "columns": {"prompt": "instruction", "response": "output"}},
    "turns": {
        "file_name": "turns.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    },
    "hub": {"hf_hub_url": "org/rows", "split": "train", "subset": "x", "num_samples": 10},
}
TRL = """\
model_name_or_path: org/name
dataset_name: org/rows
max_length: 1024
packing: true
assistant_only_loss: true
use_peft: true
lora_r: 32
lora_target_modules: [q_proj, v_proj]
load_in_4bit: true
"""
HANDBOOK = """\
model_name_or_path: org/name
dtype: bfloat16
dataset_mixture:
  datasets: [{id: org/rows, config: default, split: train, columns: [messages], weight: 0.5}]
  test_split_size: 1000
chat_template: "{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}"
max_seq_length: 2048
warmup_ratio: 0.1
"""
SCRIPT = """\
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer
from unsloth import FastLanguageModel

LENGTH = 2048
model, tokenizer = FastLanguageModel.from_pretrained("org/name", max_seq_length=LENGTH, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(model, r=16, target_modules=["q_proj"], lora_alpha=16)
rows = load_dataset("json", data_files="rows.jsonl", split="train")
args = SFTConfig(max_length=LENGTH, packing=False, learning_rate=2e-4, per_device_train_batch_size=2)
trainer = SFTTrainer(model=model, train_dataset=rows, args=args)
"""
COMMAND = "llamafactory-cli train --model_name_or_path org/name --stage sft --template qwen\n"
NOTEBOOK = json.dumps({"cells": [{"cell_type": "code", "source": SCRIPT.splitlines(keepends=True)}]})
SEEDS = {
    "axolotl.yml": AXOLOTL,
    "factory.yaml": FACTORY,
    "trl.yaml": TRL,
    "handbook.yaml": HANDBOOK,
    "torchtune.yaml": TORCHTUNE,
    "unsloth.yaml": UNSLOTH,
    "litgpt.yaml": LITGPT,
    "nemo.yaml": NEMO,
    "script.py": SCRIPT,
    "notebook.ipynb": NOTEBOOK,
    "command.sh": COMMAND,
}
FOREIGN: tuple[Any, ...] = (
    "${a}",
    "${oc.env:HOME}",
    "${.b}",
    "${${c}}",
    "{{ model }}",
    "{% if x %}y{% endif %}",
    "!include other.yml",
    "yes",
    "1e3",
    "a,b",
    ",",
    "../..",
    "https://example.com/rows.jsonl",
    [{"path": ["x"]}],
    {"path": None},
    {"a": {"b": [1]}},
    [[]],
    10**30,
)
"""Values that mean something to another program, or that a list or section has a place for."""


@cache
def real() -> tuple[Path, ...]:
    """The real configurations, if they are there."""
    return tuple(sorted(path for path in (DATA / "configs").rglob("*") if path.is_file()))


def mutant(source: random.Random) -> tuple[str, bytes, bytes | None]:
    """A name, a broken configuration, and the dataset_info.json beside one of LLaMA-Factory."""
    if source.random() < 0.25:
        info = broken_json(source, DATASETS) if source.random() < 0.9 else None
        return "factory.yaml", FACTORY.encode(), info
    name, text = source.choice(list(SEEDS.items()))
    if real() and source.random() < 0.5:
        path = source.choice(real())
        name, text = path.name, path.read_text(encoding="utf-8", errors="replace")
    return name, _broken(source, name, text), json.dumps(DATASETS).encode()


def _broken(source: random.Random, name: str, text: str) -> bytes:
    value = _read(name, text) if source.random() < 0.6 else None
    if not isinstance(value, dict):
        return broken_text(source, text) if source.random() < 0.9 else broken_bytes(source, text.encode())
    if source.random() < 0.5:
        return broken_json(source, value)
    for _ in range(source.choice((1, 1, 2))):
        owner, key = source.choice(list(_leaves(value)))
        owner[key] = source.choice(FOREIGN)
    return json.dumps(value).encode()


def _read(name: str, text: str) -> Any:
    """The value of a YAML or JSON file, which JSON can say too."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if name.endswith((".py", ".sh")):
        return None
    with contextlib.suppress(YAMLError, ValueError, TypeError):
        return json.loads(json.dumps(YAML(typ="safe", pure=True).load(text)))
    return None


def _leaves(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        yield value, key
        if isinstance(child, dict | list):
            yield from _leaves(child)
