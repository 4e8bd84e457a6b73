"""LLaMA-Factory: what its keys mean where a table of names does not say it, and its dataset_info.json.

Facts from src/llamafactory/hparams/*.py, data/parser.py (DatasetAttr), model/adapter.py and
model/model_utils/quantization.py, at the commit that the table names.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftcheck.importers import documents
from ftcheck.importers.detect import LLAMA_FACTORY_V1
from ftcheck.importers.records import IDS, MEMORY
from ftcheck.importers.sheet import ABSENT, NEITHER, TEMPLATE, Sheet
from ftcheck.paths import near
from ftcheck.policy.nodes import Node, find, plain
from ftcheck.records import Location

INFO = "dataset_info.json"
ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
SHAREGPT = {"messages": "conversations"}
TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
ROWS = "which rows are trained on"


def semantics(sheet: Sheet) -> None:
    """Take the keys off the sheet whose meaning depends on others."""
    if len(LLAMA_FACTORY_V1 & set(sheet.source.tree.items)) >= 2:
        for key in list(sheet.left):
            why = "a key of LLaMA-Factory's v1 trainer: ftcheck reads the keys of its stable trainer"
            sheet.refuse(key, why, *(() if key.rpartition(".")[2] in NEITHER else (IDS, MEMORY)))
        return
    _stage(sheet)
    formats = _data(sheet)
    _template(sheet)
    _loss(sheet, formats)
    _lengths(sheet)
    _adapter(sheet)
    _quantization(sheet)
    _training(sheet)


def _stage(sheet: Sheet) -> None:
    stage = sheet.get("stage", "sft")
    if stage == "sft":
        sheet.ignore("stage", "supervised fine-tuning, which is what ftcheck checks")
    elif stage == "pt":
        sheet.refuse("stage", "pre-training on text: rows are joined with EOS and cut into blocks", "ids")
    else:
        sheet.refuse(
            "stage",
            f"another training ({stage}) than supervised fine-tuning, which is what ftcheck checks",
            "ids",
            "memory",
        )


# --- data ---


def _data(sheet: Sheet) -> set[str]:
    """The data sets by way of dataset_info.json; returns the layouts of those for training."""
    _tokenized(sheet)
    folder = sheet.get("dataset_dir", "data")
    named = {key: _names(sheet.get(key)) for key in ("dataset", "eval_dataset")}
    if folder == "ONLINE":
        for key, to in (("dataset", "data.train"), ("eval_dataset", "data.eval")):
            sheet.map(key, to, value=_one_or_all(named[key]))
        sheet.ignore("dataset_dir", "the data sets are the hub's")
        return set()
    info, trouble = _info(sheet, str(folder)) if any(named.values()) else (None, "")
    formats: set[str] = set()
    for key, to in (("dataset", "data.train"), ("eval_dataset", "data.eval")):
        if info is None:
            sheet.refuse(key, f"{trouble}: what these names stand for is unknown", "ids")
            continue
        paths = [path for name in named[key] for path in _entry(sheet, key, name, info, str(folder), formats)]
        if paths:
            sheet.map(key, to, value=_one_or_all(paths))
        sheet.refuse(key, f"none of these names is a data set in {INFO} that the policy can name", "ids")
    sheet.ignore("dataset_dir", f"the folder of {INFO}")
    if len(formats) == 1 and sheet.get("stage", "sft") == "sft":
        sheet.state("data.format", next(iter(formats)), "dataset")
    return formats


def _tokenized(sheet: Sheet) -> None:
    """A folder of prepared rows: once it has a file, they are trained, whatever else the file says."""
    stated = sheet.get("tokenized_path")
    path = Path(sheet.source.folder) / stated if isinstance(stated, str) else None
    if path is not None and path.is_dir() and any(path.iterdir()):
        sheet.map("tokenized_path", "data.prepared")


def _names(value: object) -> list[str]:
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return [str(name) for name in value] if isinstance(value, list) else []


def _one_or_all(paths: list[str]) -> str | list[str]:
    return paths[0] if len(paths) == 1 else paths


def _info(sheet: Sheet, folder: str) -> tuple[Node | None, str]:
    """The entries of dataset_info.json, or what keeps it from being read."""
    if folder.startswith("REMOTE:"):
        return None, f"{INFO} of {folder[7:]} on the hub is not read"
    path = Path(os.path.abspath(os.path.join(sheet.source.folder, folder, INFO)))
    shown = near(str(path))
    sheet.files[shown] = str(path)
    tree, problems = documents.read(path, shown)
    return (None, str(problems[0])) if problems else (tree, "")


def _entry(sheet: Sheet, key: str, name: str, info: Node, folder: str, formats: set[str]) -> Iterator[str]:
    """The path of one data set; what the policy cannot say of it goes to the keys that are not mapped."""
    node = find(info, (name,))
    if node is None:
        sheet.missing(
            f"{INFO}: {name}",
            f"{INFO} has no data set of this name: LLaMA-Factory refuses it",
            "ids",
            at=sheet.at(key),
        )
        return
    entry = plain(node)
    wrong = _no_mapping(entry)
    if wrong is not None:
        place = find(node, (wrong,)) or node
        at = place.key or place.at
        named = f"{INFO}: {name}.{wrong}" if wrong else f"{INFO}: {name}"
        why = "must be a mapping: LLaMA-Factory fails here"
        sheet.missing(named, why, "ids", at=Location(at.path, at.line, at.column))
        return
    for part, why in _odd(entry):
        place = find(node, tuple(part.split("."))) or node
        at = place.key or place.at
        sheet.missing(f"{INFO}: {name}.{part}", why, "ids", at=Location(at.path, at.line, at.column))
    if key == "dataset":
        formats.add(_layout(entry))
    hub = entry.get("hf_hub_url")
    if hub:
        yield str(hub)
    elif "file_name" in entry:
        yield os.path.join(folder, str(entry["file_name"]))


def _no_mapping(entry: object) -> str | None:
    """The part of an entry that must be a mapping and is none ("" for the entry); None where all are."""
    if not isinstance(entry, Mapping):
        return ""
    parts = ("columns", "tags")
    return next((one for one in parts if one in entry and not isinstance(entry[one], Mapping)), None)


def _layout(entry: Mapping[str, Any]) -> str:
    tags = {**TAGS, **entry.get("tags", {})}
    if entry.get("formatting", "alpaca") == "alpaca":
        return "alpaca"
    openai = tags["role_tag"] == "role" and tags["content_tag"] == "content"
    return "messages" if openai or entry.get("formatting") == "openai" else "sharegpt"


def _odd(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What an entry says that the policy cannot."""
    for part in ("subset", "folder", "num_samples"):
        if entry.get(part) is not None:
            yield part, ROWS
    if entry.get("split", "train") != "train":
        yield "split", ROWS
    if entry.get("ranking"):
        yield "ranking", "rows of preferences, which supervised fine-tuning does not have"
    for part in ("script_url", "cloud_file_name", "ms_hub_url", "om_hub_url"):
        if part in entry and "hf_hub_url" not in entry:
            yield part, "rows that ftcheck does not fetch from there"
    yield from _odd_columns(entry)


def _odd_columns(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Giving `columns` resets every column that is not named: it is then not read at all."""
    alpaca = entry.get("formatting", "alpaca") == "alpaca"
    usual = ALPACA if alpaca else SHAREGPT
    columns = entry.get("columns")
    if columns is None:
        return
    for name, column in columns.items():
        if column != usual.get(name) and not (name == "messages" and column == "messages"):
            yield (
                f"columns.{name}",
                f"{name} is read from the column {column}: the policy has no key for that",
            )
    dropped = [column for name, column in usual.items() if name not in columns]
    if dropped:
        verb = "are" if len(dropped) > 1 else "is"
        yield (
            "columns",
            f"columns resets what it does not name: {', '.join(dropped)} {verb} silently not read",
        )


def _template(sheet: Sheet) -> None:
    name = sheet.get("template")
    if name is not None:
        own = f"LLaMA-Factory's own template '{name}' is a list of slots, each encoded alone"
        sheet.refuse("template", f"{own}, not the tokenizer's chat template", "ids", stands=TEMPLATE)


def _loss(sheet: Sheet, formats: set[str]) -> None:
    """Alpaca rows are a prompt and an answer; conversations are trained on every answer."""
    on_prompt = bool(sheet.get("train_on_prompt", False))
    if not formats or sheet.get("stage", "sft") != "sft":
        sheet.refuse(
            "train_on_prompt", "which key it is depends on the layout of the rows, which is unknown", "ids"
        )
        return
    if formats == {"alpaca"}:
        to = "training.completion_only_loss"
    elif "alpaca" not in formats:
        to = "training.assistant_only_loss"
    else:
        sheet.refuse(
            "train_on_prompt", "data sets of several layouts: there is one setting for all of them", "ids"
        )
        return
    sheet.map("train_on_prompt", to, value=not on_prompt)
    sheet.default("train_on_prompt", to, not on_prompt)


def _lengths(sheet: Sheet) -> None:
    stage, neat = sheet.get("stage", "sft"), bool(sheet.get("neat_packing", False))
    stated = sheet.get("packing")
    packing = neat or (stage == "pt" if stated is None else bool(stated))
    cut = (
        "prompt and answer are cut in proportion, and later turns dropped, where TRL cuts the end of the row"
    )
    # DataArguments takes one token off where packing is stated; the default for pt is only set afterwards
    shorter = 1 if neat or stated else 0
    length = (
        sheet.get("cutoff_len", 2048) - shorter if isinstance(sheet.get("cutoff_len", 2048), int) else 2048
    )
    sheet.map("cutoff_len", "training.max_length", value=length, note=cut)
    sheet.default("cutoff_len", "training.max_length", length, cut)
    how = "rows are packed by a knapsack per 1,000, under one attention mask without neat_packing"
    sheet.map("packing", "training.packing", value=packing, note=how if packing else None)
    sheet.map("neat_packing", "training.packing", value=packing)
    sheet.default("packing", "training.packing", packing)
    if stage == "pt" and packing:
        sheet.default("packing", "training.packing_strategy", "wrapped")


# --- the model ---


def _adapter(sheet: Sheet) -> None:
    kind = sheet.get("finetuning_type", "lora")
    lora = [key for key in sheet.left if key.startswith(("lora_", "pissa_", "use_rslora", "use_dora"))]
    if kind != "lora":
        for key in lora:
            sheet.ignore(key, f"finetuning_type is {kind}")
        sheet.ignore("additional_target", f"finetuning_type is {kind}")
        if kind == "full":
            sheet.ignore("finetuning_type", "all weights are trained: the policy has no training.lora")
        sheet.refuse("finetuning_type", f"which weights are trained: {kind}", "memory")
        return
    rank = sheet.get("lora_rank", 8)
    to = "training.lora."
    sheet.map("finetuning_type", f"{to}r", value=rank)
    sheet.default("lora_rank", f"{to}r", rank)
    sheet.default(
        "lora_alpha", f"{to}lora_alpha", rank * 2 if isinstance(rank, int) else 16, "twice the rank"
    )
    sheet.default("lora_dropout", f"{to}lora_dropout", 0.0)
    target = sheet.get("lora_target", "all")
    modules: Any = "all-linear" if target == "all" else _names(target)
    sheet.map("lora_target", f"{to}target_modules", value=modules)
    sheet.default("lora_target", f"{to}target_modules", modules)
    extra = _names(sheet.get("additional_target"))
    sheet.map("additional_target", f"{to}modules_to_save", value=extra)
    if sheet.get("pissa_init"):
        steps = sheet.get("pissa_iter", 16)
        how = "pissa" if steps == -1 else f"pissa_niter_{steps}"
        sheet.map("pissa_init", f"{to}init_lora_weights", value=how)
        sheet.map("pissa_iter", f"{to}init_lora_weights", value=how)
    sheet.ignore("pissa_init", "switched off")
    sheet.ignore("pissa_iter", "pissa_init is off")


def _quantization(sheet: Sheet) -> None:
    bits, method = sheet.get("quantization_bit"), sheet.get("quantization_method", "bnb")
    to = "training.quantization."
    keys = ("quantization_bit", "quantization_method", "quantization_type", "double_quantization")
    if bits is None:
        for key in keys:
            sheet.ignore(key, "quantization_bit is not set: the base is loaded as it is")
    elif method not in ("bnb", "bitsandbytes") or bits not in (4, 8):
        for key in keys:
            sheet.refuse(
                key, f"{bits} bits by {method}: the policy knows 4 and 8 bits by bitsandbytes", "memory"
            )
    elif bits == 8:
        sheet.map("quantization_bit", f"{to}load_in_8bit", value=True)
    else:
        sheet.map("quantization_bit", f"{to}load_in_4bit", value=True)
        sheet.map("quantization_type", f"{to}bnb_4bit_quant_type")
        sheet.default("quantization_type", f"{to}bnb_4bit_quant_type", "nf4")
        sheet.map("double_quantization", f"{to}bnb_4bit_use_double_quant")
        sheet.default("double_quantization", f"{to}bnb_4bit_use_double_quant", True)
        dtype = "bfloat16" if sheet.get("bf16") else "float16" if sheet.get("fp16") else None
        if dtype is not None:
            sheet.state(f"{to}bnb_4bit_compute_dtype", dtype, "bf16" if dtype == "bfloat16" else "fp16")
            sheet.state(f"{to}bnb_4bit_quant_storage", dtype, "bf16" if dtype == "bfloat16" else "fp16")
    for key in keys[1:]:
        sheet.ignore(key, "bitsandbytes, as stated by quantization_bit")


def _training(sheet: Sheet) -> None:
    off = bool(sheet.get("disable_gradient_checkpointing", False))
    stated = sheet.get("gradient_checkpointing")
    sheet.map(
        "gradient_checkpointing", "training.gradient_checkpointing", value=not off if not stated else True
    )
    sheet.map("disable_gradient_checkpointing", "training.gradient_checkpointing", value=not off)
    sheet.default(
        "disable_gradient_checkpointing",
        "training.gradient_checkpointing",
        not off,
        "LLaMA-Factory checkpoints unless it is told not to",
    )
    if sheet.get("warmup_steps"):
        sheet.ignore("warmup_ratio", "warmup_steps wins")
    sheet.map("warmup_ratio", "training.warmup_steps")
    if sheet.get("eval_strategy", "no") != "no" and not sheet.get("eval_dataset"):
        sheet.refuse("eval_strategy", "evaluation is on rows that are split off the training data", "memory")
        sheet.refuse("eval_steps", "evaluation is on rows that are split off the training data", "memory")
    if sheet.get("resume_from_checkpoint") is None:
        sheet.ignore("resume_from_checkpoint", ABSENT)
