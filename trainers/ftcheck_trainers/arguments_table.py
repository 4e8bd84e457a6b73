"""Makes `ftcheck/tables/trainer_arguments.json`: the keys that the installed libraries accept, dated.

Run `python -m ftcheck_trainers.arguments_table` after an upgrade of trl, transformers or peft. The
policy reader checks keys against the table, so that it needs none of them.
"""

import json
import sys
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from importlib import metadata
from inspect import signature
from pathlib import Path
from types import NoneType
from typing import Any

from ftcheck import tables

PACKAGES = ("trl", "transformers", "peft", "bitsandbytes")
CONFIGS = "trl.SFTConfig, peft.LoraConfig, transformers.BitsAndBytesConfig"
SOURCE = f"{CONFIGS}: python -m ftcheck_trainers.arguments_table"

JSON_TYPES: Mapping[Any, tuple[str, ...]] = {
    bool: ("boolean",),
    int: ("integer",),
    float: ("number",),
    str: ("string",),
    NoneType: ("null",),
    list: ("array",),
    tuple: ("array",),
    set: ("array",),
    dict: ("object",),
}

MORE_TYPES: Mapping[str, tuple[str, ...]] = {
    "fsdp": ("boolean", "array"),
    "llm_int8_skip_modules": ("array",),
    "bnb_4bit_compute_dtype": ("string",),
    "bnb_4bit_quant_storage": ("string",),
}
"""What the libraries take although their annotations do not say so."""

NO_SUCCESSOR = "remove it: there is no replacement"
REMOVED: Mapping[str, Mapping[str, str]] = {
    "training": {
        "max_seq_length": "write 'max_length'",
        "tokenizer": "write 'model.tokenizer'",
        "processing_class": "write 'model.tokenizer'",
        "dataset_batch_size": NO_SUCCESSOR,
        "num_of_sequences": NO_SUCCESSOR,
        "chars_per_token": NO_SUCCESSOR,
        "evaluation_strategy": "write 'eval_strategy'",
        "warmup_ratio": "write 'warmup_steps': a value below 1 is a fraction of all steps",
        "group_by_length": "write 'train_sampling_strategy: group_by_length'",
        "logging_dir": "remove it, or set TENSORBOARD_LOGGING_DIR in the environment",
        "save_safetensors": "remove it: weights are always saved as safetensors",
        "overwrite_output_dir": "remove it, or write another 'output_dir'",
        "include_tokens_per_second": "write 'include_num_input_tokens_seen: all'",
        "include_inputs_for_metrics": "write 'include_for_metrics: [inputs]'",
        "no_cuda": "write 'use_cpu'",
        "use_mps_device": "remove it: MPS is used if available",
        "push_to_hub_token": "set HF_TOKEN in the environment",
        "push_to_hub_model_id": "write 'hub_model_id'",
        "push_to_hub_organization": "write 'hub_model_id: organization/name'",
        "per_gpu_train_batch_size": "write 'per_device_train_batch_size'",
        "per_gpu_eval_batch_size": "write 'per_device_eval_batch_size'",
        "adafactor": "write 'optim: adafactor'",
        "fp16_backend": NO_SUCCESSOR,
        "half_precision_backend": NO_SUCCESSOR,
        "fp16_opt_level": NO_SUCCESSOR,
        "fsdp_min_num_params": "write 'fsdp_config: {min_num_params: ...}'",
        "fsdp_transformer_layer_cls_to_wrap": "write 'fsdp_config: {transformer_layer_cls_to_wrap: ...}'",
        "dispatch_batches": "write 'accelerator_config: {dispatch_batches: ...}'",
        "split_batches": "write 'accelerator_config: {split_batches: ...}'",
        "torchdynamo": "write 'torch_compile_backend'",
        "use_ipex": NO_SUCCESSOR,
        "jit_mode_eval": NO_SUCCESSOR,
        "ray_scope": NO_SUCCESSOR,
        "tpu_num_cores": NO_SUCCESSOR,
        "past_index": NO_SUCCESSOR,
        "mp_parameters": NO_SUCCESSOR,
        "torch_dtype": "write 'model_init_kwargs: {dtype: bfloat16}'",
        "use_liger": "write 'use_liger_kernel'",
    },
    "training.lora": {
        "enable_lora": NO_SUCCESSOR,
        "merge_weights": NO_SUCCESSOR,
    },
    "training.quantization": {},
}
"""Keys that older releases took, and what to write today."""

ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "training": {
        "trust_remote_code": "write 'model.trust_remote_code'",
        "chat_template_path": "write 'model.chat_template': the rules check it",
        "hub_token": "set HF_TOKEN in the environment: a policy contains no tokens",
        "resume_from_checkpoint": "run 'ftcheck train --resume'",
    },
    "training.lora": {
        "base_model_name_or_path": "write 'model.name'",
        "revision": "write 'model.revision'",
    },
    "training.quantization": {},
}
"""Keys that the libraries take, but that stand elsewhere in a policy."""


def make_table() -> dict[str, Any]:
    """The table of what the installed libraries accept."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sections = _sections()
    return {
        "as_of": datetime.now(UTC).date().isoformat(),
        "source": SOURCE,
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "sections": sections,
    }


def _sections() -> dict[str, Any]:
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig
    from trl import SFTConfig

    found = {
        "training": ("trl.SFTConfig", _of_dataclass(SFTConfig)),
        "training.lora": ("peft.LoraConfig", _of_dataclass(LoraConfig)),
        "training.quantization": ("transformers.BitsAndBytesConfig", _of_arguments(BitsAndBytesConfig)),
    }
    return {name: _section(name, config, known) for name, (config, known) in found.items()}


def _section(name: str, config: str, known: dict[str, Any]) -> dict[str, Any]:
    removed = {key: remedy for key, remedy in sorted(REMOVED[name].items()) if key not in known}
    elsewhere = {key: remedy for key, remedy in sorted(ELSEWHERE[name].items()) if key in known}
    return {"config": config, "fields": known, "elsewhere": elsewhere, "removed": removed}


def _of_dataclass(config: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(config)
    return {
        field.name: _field(field.name, hints[field.name], _default(field))
        for field in sorted(fields(config), key=lambda field: field.name)
        if field.init and not field.name.startswith("_")
    }


def _default(field: Any) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _of_arguments(config: type[Any]) -> dict[str, Any]:
    parameters = [p for p in signature(config).parameters.values() if p.kind is not p.VAR_KEYWORD]
    return {
        p.name: _field(p.name, type(p.default), p.default) for p in sorted(parameters, key=lambda p: p.name)
    }


def _field(name: str, kind: Any, default: Any) -> dict[str, Any]:
    parts = list(typing.get_args(kind)) if _is_union(kind) else [kind]
    names = {json_type for part in parts for json_type in _json_types(part)} | set(MORE_TYPES.get(name, ()))
    simple = default.value if isinstance(default, Enum) else default
    names |= {"null"} if default is None else set()
    entry: dict[str, Any] = {"types": sorted(names)}
    choices = _choices(parts)
    if choices:
        entry["choices"] = choices
    if isinstance(simple, bool | int | float | str | NoneType | list | dict):
        entry["default"] = simple
    return entry


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) is typing.Union or type(kind).__name__ == "UnionType"


def _json_types(part: Any) -> tuple[str, ...]:
    origin = typing.get_origin(part) or part
    if origin is typing.Literal:
        return tuple({JSON_TYPES[type(choice)][0] for choice in typing.get_args(part)})
    if isinstance(origin, type) and issubclass(origin, Enum):
        return ("string",)
    if is_dataclass(origin) or origin not in JSON_TYPES:
        return ("object",)
    return JSON_TYPES[origin]


def _choices(parts: list[Any]) -> list[str]:
    """The words a field takes: an enumeration's values, or a Literal's where it is not a pattern."""
    words: list[Any] = []
    for part in parts:
        if isinstance(part, type) and issubclass(part, Enum):
            words.extend(choice.value for choice in part)
        elif typing.get_origin(part) is typing.Literal:
            words.extend(typing.get_args(part))
    texts = sorted({word for word in words if isinstance(word, str)})
    return [] if any("[" in text for text in texts) else texts


def main(target: Path | None = None) -> Path:
    """Write the table and return where."""
    path = target or Path(tables.__file__).parent / "trainer_arguments.json"
    path.write_text(json.dumps(make_table(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
