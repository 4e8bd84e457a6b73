"""A policy that no file holds: made of data or a configuration, and some options of `ftcheck check`."""

import glob
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from ftcheck.policy.nodes import Node, planted, with_items
from ftcheck.records import Location
from ftcheck.report import redact

Loss = Literal["all", "assistant", "completion"]
Half = Literal["bfloat16", "float16"]

ARGUMENTS = {
    "model.name": "--model",
    "data.eval": "--eval",
    "training.max_length": "--max-length",
    "training.assistant_only_loss": "--loss",
    "training.completion_only_loss": "--loss",
    "hardware.gpu": "--gpu",
}
"""Which argument states a key of the job."""
DEFAULTS = "# What it does not state has the default of TRL, PEFT and bitsandbytes."
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
LOSSES: Mapping[str | None, Mapping[str, bool]] = {
    "assistant": {"assistant_only_loss": True},
    "completion": {"assistant_only_loss": False, "completion_only_loss": True},
    "all": {"assistant_only_loss": False, "completion_only_loss": False},
}
QUANTIZATION = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be checked: data and model, or a configuration, and what is said of the training.

    Without `max_length` and `loss` TRL's defaults hold, or what the configuration says.
    """

    data: tuple[str, ...]
    model: str | None = None
    eval: str | None = None
    max_length: int | None = None
    gpu: str | None = None
    loss: Loss | None = None

    @property
    def options(self) -> Mapping[str, str]:
        """The options that are stated, by name."""
        stated = {
            "--model": self.model,
            "--eval": self.eval,
            "--max-length": self.max_length,
            "--gpu": self.gpu,
            "--loss": self.loss,
        }
        return {name: str(value) for name, value in stated.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Made:
    """A policy as plain data, and the arguments that it was made of, as one writes them in a shell.

    `configuration` is the framework's file that it is for, if it is for one; `beside` is what the options
    state of its job.
    """

    settings: Mapping[str, Any]
    arguments: str
    configuration: Path | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """What commands take in the place of a policy's path."""
        return self.arguments

    @property
    def tree(self) -> Node:
        """The policy with the place of each value: the argument that states it, else its key alone."""
        return _placed(planted(self.settings, Location()))

    def text_in(self, folder: Path) -> str:
        """The policy as YAML for a file in a folder: local paths are relative to it."""
        from ruamel.yaml import YAML

        yaml, out = YAML(), StringIO()
        yaml.width = 110
        yaml.dump(_relative(self.settings, folder), out)
        return f"# Made by: ftcheck check {redact.shown(self.arguments)}\n{DEFAULTS}\n{out.getvalue()}"


def made(asked: Asked, *, half: Half = "bfloat16") -> Made:
    """The policy for these arguments: the recommended checks on one job, trained with QLoRA in 16 bits."""
    return Made(_policy(asked, half), arguments(asked))


def _placed(node: Node) -> Node:
    if node.items:
        return with_items(node, {key: _placed(child) for key, child in node.items.items()})
    key = ".".join((node.at.yaml_path or "").split(".")[2:])
    return replace(node, at=replace(node.at, path=ARGUMENTS.get(key)))


def job_name(data: Sequence[str]) -> str:
    """The job's name: the first file's, without its suffix."""
    stem = re.split(r"[/\\]", data[0])[-1].partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "job"


def arguments(asked: Asked) -> str:
    """The arguments as one writes them in a shell."""
    return shlex.join([*asked.data, *(word for one in asked.options.items() for word in one)])


def beside(asked: Asked) -> dict[str, Any]:
    """What the options state of a job, by section."""
    training = {} if asked.max_length is None else {"max_length": asked.max_length}
    sections: dict[str, dict[str, Any]] = {
        "model": {"name": asked.model} if asked.model is not None else {},
        "data": {"eval": asked.eval} if asked.eval is not None else {},
        "training": {**training, **LOSSES.get(asked.loss, {})},
        "hardware": {"gpu": asked.gpu} if asked.gpu is not None else {},
    }
    return {name: section for name, section in sections.items() if section}


def is_option(at: Location) -> bool:
    """Whether a place is an option of `ftcheck check`, not one in a file."""
    return at.path in ARGUMENTS.values()


def _policy(asked: Asked, half: Half) -> dict[str, Any]:
    train = asked.data[0] if len(asked.data) == 1 else list(asked.data)
    stated = beside(asked)
    job: dict[str, Any] = {
        "model": stated["model"],
        "data": {"train": train, **stated.get("data", {})},
        "training": _training(asked, stated.get("training", {}), half),
    }
    job |= {"hardware": stated["hardware"]} if "hardware" in stated else {}
    name = job_name(asked.data)
    return {"ftcheck": 1, "name": name, "extends": ["recommended"], "jobs": {name: job}}


def _training(asked: Asked, stated: Mapping[str, Any], half: Half) -> dict[str, Any]:
    named = {"output_dir": f"checkpoints/{job_name(asked.data)}", "learning_rate": 2e-4}
    computes = {"bf16": True} if half == "bfloat16" else {"fp16": True, "bf16": False}
    kind = {"lora": LORA, "quantization": {**QUANTIZATION, "bnb_4bit_compute_dtype": half}}
    return {**named, **stated, **computes, **kind}


def _relative(value: Any, folder: Path) -> Any:
    """The settings with every text that names something here relative to a folder."""
    if isinstance(value, Mapping):
        return {key: _relative(one, folder) for key, one in value.items()}
    if isinstance(value, list):
        return [_relative(one, folder) for one in value]
    if isinstance(value, str) and (os.path.exists(value) or glob.glob(value)):
        return Path(os.path.relpath(value, folder)).as_posix()
    return value
