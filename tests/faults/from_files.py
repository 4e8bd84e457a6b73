"""A bench's job whose settings stand in another framework's file."""

import json
from collections.abc import Mapping

from tests.faults.bench import Bench

AXOLOTL = """\
base_model: ./model
datasets:
  - path: train.jsonl
    type: chat_template
test_datasets:
  - path: eval.jsonl
    type: chat_template
sequence_len: 320
excess_length_strategy: truncate
sample_packing: true
micro_batch_size: 1
gradient_accumulation_steps: 1
num_epochs: 2
save_total_limit: 1
learning_rate: 0.0002
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
bf16: true
output_dir: out
"""
LLAMA_FACTORY = """\
model_name_or_path: ./model
stage: sft
dataset: mine
dataset_dir: .
cutoff_len: 320
per_device_train_batch_size: 1
num_train_epochs: 2.0
learning_rate: 2.0e-4
bf16: true
save_total_limit: 1
logging_steps: 10
lora_rank: 16
lora_target: all
output_dir: out
"""


def imported(bench: Bench, text: str = AXOLOTL, framework: str = "axolotl") -> None:
    """The job's model, training data and arguments come from a file, and its framework trains."""
    for section in ("model", "training"):
        bench.drop(section)
    bench.drop("data.train")
    bench.drop("data.eval")
    bench.file("their.yml", text)
    bench.set("from", {framework: "their.yml"})
    bench.set("trainer", {"use": "command", "argv": ["train", "their.yml"]})


def llama_factory(bench: Bench, entry: Mapping[str, object]) -> None:
    """The same by LLaMA-Factory, whose data set is described in dataset_info.json."""
    bench.file("dataset_info.json", json.dumps({"mine": entry}, indent=1))
    imported(bench, LLAMA_FACTORY, "llama-factory")
