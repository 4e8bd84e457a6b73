"""The small test job: a tiny Llama with Llama 3's template, sixty rows, and a policy around them."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests import commands
from tests.commands import Started

SPECIAL = ("<|begin_of_text|>", "<|eot_id|>", "<|pad|>", "<|start_header_id|>", "<|end_header_id|>")
POLICY = """
ftcheck: 1
name: small
jobs:
  small:
    model: {name: ./model}
    data: {train: train.jsonl, eval: eval.jsonl}
    training:
      max_length: 96
      per_device_train_batch_size: 8
      gradient_accumulation_steps: 2
      per_device_eval_batch_size: 8
      learning_rate: 5.0e-3
      max_steps: 24
      warmup_steps: 3
      logging_steps: 1
      eval_strategy: steps
      eval_steps: 4
      save_steps: 3
      save_total_limit: 2
      assistant_only_loss: true
      output_dir: run
      lora: {r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear}
      quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true,
                     bnb_4bit_compute_dtype: bfloat16}
checks:
  trained-tokens: {}
"""


def make_rows(count: int) -> list[dict[str, Any]]:
    """Conversations of 20 to 70 tokens."""
    rows = []
    for n in range(count):
        question = f"Order {n} is late" + " and the box is broken" * (n % 4)
        answer = json.dumps({"intent": "complain" if n % 2 else "status", "order": n})
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rows.append({"messages": turns})
    return rows


def make_model(folder: Path) -> None:
    """Llama with two layers of width 64 and a byte-level BPE trained on the rows."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from ftcheck.templates import trl_templates

    torch.set_num_threads(1)
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = trainers.BpeTrainer(vocab_size=400, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    raw.train_from_iterator([turn["content"] for row in make_rows(60) for turn in row["messages"]], bpe)
    names = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "pad_token": SPECIAL[2]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    templates = trl_templates()
    assert templates is not None
    tokenizer.chat_template = (templates / "llama3.jinja").read_text(encoding="utf-8")

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_project(folder: Path, model: Path, *, rows: int = 60) -> Path:
    """A folder with the policy, its rows and its model; returns the policy."""
    for split, count in (("train", rows), ("eval", 12)):
        lines = "".join(json.dumps(row) + "\n" for row in make_rows(count))
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "model").symlink_to(model)
    policy = folder / "policy.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    return policy


def sets(**training: Any) -> list[str]:
    """`--set` for each training argument."""
    pairs = [f"jobs.small.training.{key}={json.dumps(value)}" for key, value in training.items()]
    return [word for pair in pairs for word in ("--set", pair)]


def ftcheck(*words: str) -> list[str]:
    """The command line that a user types."""
    return [sys.executable, "-m", "ftcheck", *words]


class Start(Protocol):
    """Starts a command in a folder, on one thread; what it says goes to a file."""

    def __call__(self, words: Sequence[str], folder: Path, log: Path, **environment: str) -> Started:
        """The process."""


ALONE = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def started(words: Sequence[str], folder: Path, log: Path, **environment: str) -> Started:
    """In an interpreter of its own, as a user's."""
    return commands.fresh(words, folder, log, log, _environment(folder, environment))


def forked(words: Sequence[str], folder: Path, log: Path, **environment: str) -> Started:
    """The same command line, forked from a process that has imported the libraries: seconds less."""
    return commands.forked(words, folder, log, log, _environment(folder, environment))


def _environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    return {**ALONE, "FTCHECK_CACHE": str(folder / "cache"), **more}


def run_json(run: Path) -> dict[str, Any]:
    """A run's run.json."""
    found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def metrics(run: Path) -> list[dict[str, Any]]:
    """A run's metrics.jsonl, every line of which must be whole."""
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n"), f"{run}: the last line of metrics.jsonl is cut"
    return [json.loads(line) for line in text.splitlines()]
