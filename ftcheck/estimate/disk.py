"""What a run writes: the trained weights, the optimizer's states, and how many checkpoints are kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck.estimate.lora_targets import decoder_adapter
from ftcheck.inputs import bounded
from ftcheck.inputs.model_shape import UnknownShape, model_shape
from ftcheck.paths import model_folder
from ftcheck.settings import Job, Lora, Training

TRAINER = "qlora"
STATES = 12
"""Bytes a trained weight in a checkpoint: itself and two states of the optimizer, 4 each."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run writes at most: bytes in all (0: unknown), checkpoints kept (None: unknown).

    `bytes` are those of the checkpoints (of one, where their number is unknown) and of the final save;
    `each` is one checkpoint.
    """

    bytes: int
    checkpoints: int | None
    problem: str = ""
    each: int = 0


def estimate(job: Job, steps: int | None = None) -> Estimate:
    """What a job's run writes, from its settings and the base model's config.json where that is at hand.

    `steps` are the optimizer steps of the run, where they are known.
    """
    if job.trainer.use != TRAINER:
        return Estimate(0, None, f"the trainer '{job.trainer.use}' decides what is written")
    folder = model_folder(job.model.name, job.model.revision)
    config = _config(folder) if folder is not None else None
    if folder is None or config is None:
        return Estimate(0, None, f"no config.json of {job.model.name} on this machine")
    try:
        weights = count_trained(config, job.training.lora)
    except UnknownShape as error:
        return Estimate(0, None, str(error))
    tokenizer = sum(one.stat().st_size for one in folder.glob("tokenizer*") if one.is_file())
    states = 2 if "8bit" in (job.training.optim or "") else 8
    kept = kept_checkpoints(job.training, steps)
    each, final = weights * (4 + states) + tokenizer, weights * 4 + tokenizer
    return Estimate(each * (1 if kept is None else kept) + final, kept, each=each)


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        found = bounded.read_json(folder / "config.json")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def trained_weights(config: Mapping[str, Any], lora: Lora | None) -> int | None:
    """How many weights are trained, by a model's config.json; None where `count_trained` raises."""
    try:
        return count_trained(config, lora)
    except UnknownShape:
        return None


def count_trained(config: Mapping[str, Any], lora: Lora | None) -> int:
    """How many weights are trained. Raises `UnknownShape` with the reason where that is not known."""
    shape = model_shape(config).decoder()
    return shape.weights if lora is None else decoder_adapter(lora, shape).trained


def kept_checkpoints(training: Training, steps: int | None = None) -> int | None:
    """How many checkpoints lie on the disk at the most; None where only the data could tell, in `steps`.

    transformers saves every save_steps, and at the last step.
    """
    made: float | None = None
    total = training.max_steps if training.max_steps > 0 else steps
    if training.save_strategy == "no":
        made = 0
    elif training.save_strategy == "epoch" and training.max_steps <= 0:
        made = math.ceil(training.num_train_epochs)
    elif training.save_strategy == "steps" and 0 < training.save_steps < 1:
        made = math.ceil(1 / training.save_steps)
    elif training.save_strategy == "steps" and total is not None:
        made = math.ceil(total / training.save_steps)
    limit = None if training.save_total_limit is None else training.save_total_limit + 1
    known = [count for count in (made, limit) if count is not None]
    return int(min(known)) if known else None
