"""FSDP and DeepSpeed as the policy, or accelerate's environment, asks for them: in force, and saved whole."""

import math
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from ftcheck.errors import Problem, TrainingError
from ftcheck.settings import Job
from ftcheck_trainers.arguments import Machine

KINDS = {"fsdp": "ACCELERATE_USE_FSDP", "deepspeed": "ACCELERATE_USE_DEEPSPEED"}
"""Keys of the policy, and what `accelerate launch` sets in their place."""


def asked(job: Job) -> str | None:
    """`fsdp` or `deepspeed`, where one of them is asked for."""
    for key, variable in KINDS.items():
        if job.training.extra.get(key) or os.environ.get(variable, "").lower() == "true":
            return key
    return None


def refuse_on_cpu(job: Job, machine: Machine) -> None:
    """Raise `TrainingError` where accelerate would shard nothing, and say nothing: on a CPU."""
    key = asked(job)
    if key is not None and not machine.cuda:
        why = f"accelerate {metadata.version('accelerate')} shards on GPUs only, and this machine has none"
        raise _refusal(
            job, key, f"{why}: each process would train the whole model; remove {_stated(job, key)}"
        )


def refuse_ignored(trainer: Any, job: Job) -> None:
    """Raise `TrainingError` where sharding was asked for and the trainer does without."""
    key = asked(job)
    if key is not None and not getattr(trainer, f"is_{key}_enabled"):
        raise _refusal(job, key, f"{_stated(job, key)} is set, but the trainer does not shard the model")


def _stated(job: Job, key: str) -> str:
    return f"training.{key}" if job.training.extra.get(key) else KINDS[key]


def _refusal(job: Job, key: str, message: str) -> TrainingError:
    place = job.at(f"training.{key}")
    return TrainingError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])


def gather_when_saved(trainer: Any) -> None:
    """Save one whole state: of a SHARDED_STATE_DICT transformers 5.23 (`save_model`) saves no model."""
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")


def trained_numbers(model: Any) -> int:
    """How many numbers are trained, before they are sharded; ZeRO-3 keeps their shapes as `ds_shape`."""
    shapes = (getattr(one, "ds_shape", one.shape) for one in model.parameters() if one.requires_grad)
    return sum(math.prod(shape) for shape in shapes)


def need_whole(folder: Path, trained: int) -> None:
    """Raise `TrainingError` unless the safetensors files in a folder hold all that was trained."""
    counts = [count for file in sorted(folder.glob("*.safetensors")) for count in _numbers(file)]
    held = sum(counts)
    if held < trained or 0 in counts:
        left = f"{held:,} of {trained:,} trained numbers" if held < trained else "empty tensors"
        raise TrainingError(f"what was saved is not whole ({left}); the last checkpoint has all of it")


def _numbers(file: Path) -> list[int]:
    """How many numbers each tensor of a file has."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as opened:
        return [math.prod(opened.get_slice(name).get_shape()) for name in opened.keys()]  # noqa: SIM118
