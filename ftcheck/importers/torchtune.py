"""torchtune: what its components mean, and OmegaConf's references to other keys.

Facts from recipes/*.py, torchtune/datasets and torchtune/models, at the commit that the table names. Which
recipe is run is not in the file: whether an adapter is trained is told by the model's builder.
"""

import re
from dataclasses import replace
from typing import Any

from ftcheck.importers.records import IDS, MEMORY
from ftcheck.importers.sheet import Sheet

DATASETS = {"alpaca_dataset": "tatsu-lab/alpaca", "alpaca_cleaned_dataset": "yahma/alpaca-cleaned"}
"""Builders that name their data set themselves; both train on the prompt by default."""
OPTIMIZERS = {
    "torch.optim.AdamW": ("adamw_torch", "adamw_torch_fused"),
    "bitsandbytes.optim.PagedAdamW8bit": ("paged_adamw_8bit", "paged_adamw_8bit"),
    "bitsandbytes.optim.PagedAdamW": ("paged_adamw_32bit", "paged_adamw_32bit"),
    "bitsandbytes.optim.AdamW8bit": ("adamw_8bit", "adamw_8bit"),
}
"""Optimizers by transformers' names: as they are, and with fused: true."""
MODULES = {"output_proj": "o_proj"}
MLP = ["gate_proj", "up_proj", "down_proj"]
DTYPES = {"bf16": "bfloat16", "fp32": "float32", "fp16": "float16"}
REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")


def semantics(sheet: Sheet) -> None:
    """Take the keys off the sheet whose meaning depends on others."""
    _resolve(sheet)
    sheet.map(
        "checkpointer.checkpoint_dir", "model.name", note="the folder that the weights were downloaded to"
    )
    _dataset(sheet)
    _length(sheet)
    _model(sheet)
    _optimizer(sheet)
    _steps(sheet)
    _dtype(sheet)


def _resolve(sheet: Sheet) -> None:
    """OmegaConf's ${key} is the value of another key; anything else in ${} is not computed here."""
    for key, node in list(sheet.left.items()):
        if not isinstance(node.value, str) or "${" not in node.value:
            continue
        text = _followed(sheet, node.value, 0)
        if "${" in text:
            sheet.refuse(key, "an OmegaConf interpolation that ftcheck does not compute", IDS, MEMORY)
        else:
            sheet.replace(key, replace(node, value=text))
    sheet.unresolved()


def _followed(sheet: Sheet, text: str, depth: int) -> str:
    def value(found: re.Match[str]) -> str:
        stated = sheet.get(found.group(1))
        return str(stated) if isinstance(stated, str | int | float) else found.group()

    followed = REFERENCE.sub(value, text)
    return followed if followed == text or depth > 5 else _followed(sheet, followed, depth + 1)


def _builder(sheet: Sheet, key: str) -> str:
    return str(sheet.get(f"{key}._component_", "")).rpartition(".")[2]


def _dataset(sheet: Sheet) -> None:
    builder = _builder(sheet, "dataset")
    source = sheet.get("dataset.source")
    files = sheet.get("dataset.data_files")
    if source in ("json", "csv", "parquet") and files:
        sheet.ignore("dataset.source", "the kind of the files that data_files names")
        sheet.map("dataset.data_files", "data.train")
    sheet.map("dataset.source", "data.train")
    if builder in DATASETS:
        note = (
            "torchtune writes its own Alpaca prompt; the prompt is trained on unless train_on_input is false"
        )
        sheet.map("dataset._component_", "data.train", value=DATASETS[builder], note=note)
    elif builder == "text_completion_dataset":
        sheet.map("dataset._component_", "data.format", value="text")
        sheet.map("dataset.column", "training.dataset_text_field")
    if sheet.get("dataset.split", "train") == "train":
        sheet.ignore("dataset.split", "the split that is read anyway")
    sheet.map("dataset.packed", "training.packing")
    _loss(sheet, builder)


def _loss(sheet: Sheet, builder: str) -> None:
    """`train_on_input` is true by default for Alpaca, false for the others."""
    trained = sheet.get("dataset.train_on_input", builder in DATASETS)
    if builder in DATASETS or builder == "instruct_dataset":
        to, value = "training.completion_only_loss", not trained
    elif builder == "chat_dataset":
        to, value = "training.assistant_only_loss", not trained
    else:
        return
    sheet.map("dataset.train_on_input", to, value=value)
    sheet.default("dataset.train_on_input", to, value)


def _length(sheet: Sheet) -> None:
    if not sheet.get("tokenizer._component_"):
        return
    length = sheet.get("tokenizer.max_seq_len")
    sheet.map("tokenizer.max_seq_len", "training.max_length", value=length)
    if length is None:
        sheet.default("tokenizer.max_seq_len", "training.max_length", None, "rows are not cut")
    for key in ("merges_file", "merges_path", "vocab_path", "prompt_template"):
        sheet.ignore(f"tokenizer.{key}", "belongs to tokenizer.path")


def _model(sheet: Sheet) -> None:
    builder = _builder(sheet, "model")
    if "lora" in builder:
        _adapter(sheet)
        if "qlora" in builder or sheet.get("model.quantize_base"):
            note = "NF4 by torchao, not by bitsandbytes: the memory differs a little"
            key = "model.quantize_base" if sheet.get("model.quantize_base") else "model._component_"
            sheet.map(key, "training.quantization.load_in_4bit", value=True, note=note)
            sheet.default("model._component_", "training.quantization.bnb_4bit_quant_type", "nf4", note)
            sheet.default(
                "model._component_", "training.quantization.bnb_4bit_compute_dtype", "bfloat16", note
            )
    if builder:
        sheet.ignore("model._component_", "the architecture, which the base's config.json tells")


def _adapter(sheet: Sheet) -> None:
    to = "training.lora."
    sheet.map("model.lora_rank", f"{to}r")
    sheet.map("model.lora_alpha", f"{to}lora_alpha")
    sheet.map("model.lora_dropout", f"{to}lora_dropout")
    sheet.map("model.use_dora", f"{to}use_dora")
    named = sheet.get("model.lora_attn_modules", [])
    modules = [MODULES.get(str(name), str(name)) for name in named] if isinstance(named, list) else []
    extra = {"model.apply_lora_to_mlp": MLP, "model.apply_lora_to_output": ["lm_head"]}
    for key, names in extra.items():
        if sheet.get(key):
            modules += names
    if modules:
        sheet.map("model.lora_attn_modules", f"{to}target_modules", value=modules)
    for key in extra:
        if sheet.get(key):
            sheet.map(key, f"{to}target_modules")
        sheet.ignore(key, "switched off")


def _optimizer(sheet: Sheet) -> None:
    named = sheet.get("optimizer._component_")
    plain_name, fused = OPTIMIZERS.get(str(named), (None, None))
    if plain_name is None:
        sheet.refuse("optimizer._component_", "an optimizer that transformers does not have", "memory")
    else:
        name = fused if sheet.get("optimizer.fused") else plain_name
        sheet.map("optimizer._component_", "training.optim", value=name)
        sheet.map("optimizer.fused", "training.optim", value=name)
        sheet.default("optimizer.weight_decay", "training.weight_decay", 0.01, "the optimizer's own default")
    schedule = _builder(sheet, "lr_scheduler")
    if schedule == "get_cosine_schedule_with_warmup":
        sheet.map("lr_scheduler._component_", "training.lr_scheduler_type", value="cosine")
        sheet.map("lr_scheduler.num_warmup_steps", "training.warmup_steps")
    elif not schedule and named:
        sheet.default("lr_scheduler", "training.lr_scheduler_type", "constant", "without a scheduler")
    clip: Any = sheet.get("clip_grad_norm")
    if clip is not None:
        sheet.map("clip_grad_norm", "training.max_grad_norm")
    elif named:
        sheet.map("clip_grad_norm", "training.max_grad_norm", value=0)
        sheet.default("clip_grad_norm", "training.max_grad_norm", 0, "gradients are not clipped")


def _steps(sheet: Sheet) -> None:
    steps = sheet.get("max_steps_per_epoch")
    if steps is not None and sheet.get("epochs") == 1:
        sheet.map("max_steps_per_epoch", "training.max_steps", note="fewer where the data set is shorter")
    elif steps is not None:
        sheet.refuse(
            "max_steps_per_epoch", "each epoch ends after so many steps, which the policy cannot say"
        )
    if sheet.get("seed") is not None:
        sheet.map("seed", "training.seed")
    sheet.ignore("seed", "not set: each run has another seed")
    if sheet.get("shuffle", True):
        sheet.ignore("shuffle", "rows are shuffled, as in TRL")


def _dtype(sheet: Sheet) -> None:
    named = sheet.get("dtype")
    if not isinstance(named, str) or named not in DTYPES:
        return
    note = "weights, gradients and optimizer states are of this dtype, not only the computation"
    sheet.map("dtype", "training.model_init_kwargs.dtype", value=DTYPES[named], note=note)
    sheet.default("dtype", "training.bf16", named == "bf16")
