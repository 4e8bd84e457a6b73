"""The optimised training configuration: the keys of trl.SFTConfig, peft and bitsandbytes, and why."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ftcheck.field_metadata import Mark, marked
from ftcheck.planning.records import Option
from ftcheck.planning.search import settings
from ftcheck.settings import Job, Lora, Quantization, Training

SCHEMA = "ftcheck.training-config/1"


def training_config(job: Job, chosen: Option) -> dict[str, Any]:
    """Arguments as libraries take them, under `training` as in a policy: SFTConfig's keys, and in it `lora`
    (peft.LoraConfig) and `quantization` (BitsAndBytesConfig). `ftcheck` are its own keys.
    """
    training = asdict(job.training)
    more = training.pop("extra")
    del training["lora"], training["quantization"]
    own = {key: training.pop(key) for key in sorted(marked(Training, Mark.OWN))}
    sections = {
        "lora": _library(job.training.lora),
        "quantization": _library(job.training.quantization),
    }
    return {
        "model": _stated(asdict(job.model)),
        "training": {**_stated(training), **more, **settings(chosen), **_stated(sections)},
        "ftcheck": own,
        "devices": max(1, job.hardware.count),
    }


def _stated(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None: the library's own default."""
    return {key: _plain(value) for key, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _library(section: Lora | Quantization | None) -> dict[str, Any] | None:
    if section is None:
        return None
    values = asdict(section)
    more = values.pop("extra")
    return {**_stated(values), **more}
