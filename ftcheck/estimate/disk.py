"""What a run writes: the trained weights, the optimizer's states, and how many checkpoints are kept."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck.paths import model_folder
from ftcheck.settings import Job, Lora, Training

TRAINER = "qlora"
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
STATES = 12
"""Bytes a trained weight in a checkpoint: itself and two states of the optimizer, 4 each."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run writes at most: bytes in all (0: cannot be told), checkpoints kept (None: the same)."""

    bytes: int
    checkpoints: int | None
    problem: str = ""


def estimate(job: Job) -> Estimate:
    """What a job's run writes, from its settings and the base model's config.json where that is at hand."""
    if job.trainer.use != TRAINER:
        return Estimate(0, None, f"the trainer '{job.trainer.use}' decides what is written")
    folder = model_folder(job.model.name, job.model.revision)
    config = _config(folder) if folder is not None else None
    if folder is None or config is None:
        return Estimate(0, None, f"no config.json of {job.model.name} on this machine")
    weights = trained_weights(config, job.training.lora)
    if weights is None:
        return Estimate(0, None, "this architecture, or one of the target modules, is unknown to ftcheck")
    tokenizer = sum(one.stat().st_size for one in folder.glob("tokenizer*") if one.is_file())
    states = 2 if "8bit" in (job.training.optim or "") else 8
    kept = kept_checkpoints(job.training)
    each = weights * (4 + states) + tokenizer
    return Estimate(each * (1 if kept is None else kept) + weights * 4 + tokenizer, kept)


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found.get("text_config", found) if isinstance(found, dict) else None


def trained_weights(config: Mapping[str, Any], lora: Lora | None) -> int | None:
    """How many weights are trained, at most; None for mixtures of experts and what is not Llama-shaped."""
    try:
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        shapes = _shapes(config, hidden)
        table = config["vocab_size"] * hidden
        if any(key in config for key in EXPERTS):
            return None
        if lora is None:
            return int(layers * sum(shapes[name][0] * shapes[name][1] for name in LINEAR) + 2 * table)
        targets = lora.target_modules if isinstance(lora.target_modules, tuple) else LINEAR
        adapters = layers * sum(lora.r * sum(shapes[name.rpartition(".")[2]]) for name in targets)
        whole = {"lm_head": table, "embed_tokens": table}
        return int(adapters + sum(whole[name] for name in lora.modules_to_save or ()))
    except (KeyError, TypeError):
        return None


def _shapes(config: Mapping[str, Any], hidden: int) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a layer's linear modules, by name; the fused ones are Phi-3's."""
    heads, inner = config["num_attention_heads"], config["intermediate_size"]
    size = config.get("head_dim") or hidden // heads
    queries, keys = heads * size, (config.get("num_key_value_heads") or heads) * size
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
        "qkv_proj": (hidden, queries + 2 * keys),
        "gate_up_proj": (hidden, 2 * inner),
    }


def kept_checkpoints(training: Training) -> int | None:
    """How many checkpoints lie on the disk at the most; None where only the data could tell."""
    made: float | None = None
    if training.save_strategy == "no":
        made = 0
    elif training.save_strategy == "epoch" and training.max_steps <= 0:
        made = math.ceil(training.num_train_epochs)
    elif training.save_strategy == "steps" and 0 < training.save_steps < 1:
        made = math.ceil(1 / training.save_steps)
    elif training.save_strategy == "steps" and training.max_steps > 0:
        made = math.ceil(training.max_steps / training.save_steps)
    limit = None if training.save_total_limit is None else training.save_total_limit + 1
    known = [count for count in (made, limit) if count is not None]
    return int(min(known)) if known else None
