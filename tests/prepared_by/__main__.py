"""Writes the folders beside this file, with the frameworks' own code.

    python -m tests.prepared_by axolotl|llama-factory PATH...

PATH are folders for `sys.path`: the unpacked wheel (`pip download --no-deps`), and small packages that it
imports and that are not here (`pip install --no-deps --target`; axolotl 0.19.0: colorama addict fire
termcolor typer posthog backoff distro numba llvmlite; LLaMA-Factory 0.9.5: fire termcolor omegaconf einops
tyro, and an empty `torchaudio.py`). Neither installs beside the pinned libraries; their preparation runs on
them unchanged.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.prepared_folders import MODEL, lines

HERE = Path(__file__).parent
COUNT = 20
TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
AXOLOTL: dict[str, dict[str, Any]] = {
    "axolotl": {},
    "axolotl-packing": {"sample_packing": True},
    "axolotl-users": {"roles_to_train": ["assistant", "user"], "train_on_eos": "none", "sequence_len": 95},
}
LLAMA_FACTORY: dict[str, dict[str, Any]] = {
    "llama-factory": {},
    "llama-factory-neat": {"packing": True, "neat_packing": True, "cutoff_len": 256},
    "llama-factory-packing": {"packing": True, "cutoff_len": 256, "val_size": 0.1},
    "llama-factory-cut": {"cutoff_len": 90},
}


def main(framework: str, *paths: str) -> None:
    """Prepare the rows in each way."""
    sys.path[:0] = paths
    make, ways = {"axolotl": (by_axolotl, AXOLOTL), "llama-factory": (by_llama_factory, LLAMA_FACTORY)}[
        framework
    ]
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as work:
        data = Path(work)
        (data / "train.jsonl").write_text("\n".join(lines(COUNT)) + "\n", encoding="utf-8")
        for name, changes in ways.items():
            shutil.rmtree(HERE / name, ignore_errors=True)
            make(data, HERE / name, AutoTokenizer.from_pretrained(str(MODEL)), changes)


def by_axolotl(data: Path, out: Path, tokenizer: Any, changes: dict[str, Any]) -> None:
    """`axolotl preprocess`, from the point where it has read its configuration."""
    os.environ |= {"AXOLOTL_IS_PREPROCESS": "1", "AXOLOTL_DO_NOT_TRACK": "1"}
    rows: dict[str, Any] = {"path": str(data / "train.jsonl"), "ds_type": "json", "type": "chat_template"}
    rows |= {
        "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"},
    }
    rows |= {name: changes.pop(name) for name in ("roles_to_train", "train_on_eos") if name in changes}
    config = {
        "base_model": "mapper-tiny",
        "tokenizer_config": "mapper-tiny",
        "chat_template": "tokenizer_default",
        "datasets": [rows],
        "dataset_prepared_path": str(out),
        "is_preprocess": True,
        "dataset_num_proc": 1,
        "sequence_len": 512,
        "seed": 42,
        "val_set_size": 0,
        "micro_batch_size": 1,
        "batch_size": 1,
        "gradient_accumulation_steps": 1,
        "num_epochs": 1,
        **changes,
    }
    made = import_module("axolotl.utils.dict").DictDefault(config)
    import_module("axolotl.utils.data.sft").prepare_datasets(made, tokenizer)
    (out / "datasets_prep.lock").unlink(missing_ok=True)


def by_llama_factory(data: Path, out: Path, tokenizer: Any, changes: dict[str, Any]) -> None:
    """`llamafactory-cli train` with a tokenized_path, up to the data set."""
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    entry = {"file_name": "train.jsonl", "formatting": "sharegpt", "columns": {"messages": "messages"}}
    info = {"mine": {**entry, "tags": {**TAGS, "system_tag": "system"}}}
    (data / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    stated = {"template": "llama3", "dataset": "mine", "dataset_dir": str(data), "cutoff_len": 512, **changes}
    arguments = import_module("llamafactory.hparams.data_args").DataArguments(
        tokenized_path=str(out), **stated
    )
    template = import_module("llamafactory.data.template").get_template_and_fix_tokenizer(
        tokenizer, arguments
    )
    model = SimpleNamespace(cache_dir=None, hf_hub_token=None, ms_hub_token=None, om_hub_token=None)
    training = SimpleNamespace(
        main_process_first=lambda **named: contextlib.nullcontext(),
        seed=42,
        local_process_index=0,
        should_log=False,
        should_save=True,
        predict_with_generate=False,
        do_train=True,
        dataloader_num_workers=0,
    )
    loader = import_module("llamafactory.data.loader")
    loader.get_dataset(template, model, arguments, training, "sft", tokenizer, None)


if __name__ == "__main__":
    main(*sys.argv[1:])
