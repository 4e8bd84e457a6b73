"""unsloth: its command line's YAML (`unsloth train --config FILE`), and scripts and notebooks.

Facts from unsloth_cli/config.py, at the commit that the table names.
"""

from ftcheck.importers import calls
from ftcheck.importers.sheet import Sheet

FORMATS = {"sharegpt": "sharegpt", "alpaca": "alpaca", "chatml": "messages"}


def semantics(sheet: Sheet) -> None:
    """Take the keys off the sheet whose meaning depends on others."""
    if "@script" in sheet.source.tree.items:
        calls.semantics(sheet)
        sheet.facts = {**sheet.facts, "mapped": {}}
        return
    _data(sheet)
    _adapter(sheet)
    _training(sheet)
    tracked = [
        name
        for key, name in (("enable_wandb", "wandb"), ("enable_tensorboard", "tensorboard"))
        if sheet.get(f"logging.{key}")
    ]
    for key in ("enable_wandb", "enable_tensorboard"):
        if tracked:
            sheet.map(f"logging.{key}", "training.report_to", value=tracked)
    sheet.default("logging.enable_wandb", "training.report_to", "none")


def _data(sheet: Sheet) -> None:
    sheet.map("data.dataset", "data.train")
    files = sheet.get("data.local_dataset")
    if sheet.get("data.dataset") is None and isinstance(files, list) and files:
        sheet.map("data.local_dataset", "data.train", value=files[0] if len(files) == 1 else files)
    sheet.refuse("data.local_dataset", "rows beside those of data.dataset", "ids")
    named = sheet.get("data.format_type", "auto")
    if isinstance(named, str) and named in FORMATS:
        sheet.map(
            "data.format_type",
            "data.format",
            value=FORMATS[named],
            note="unsloth renders the rows to text itself before it tokenises them",
        )
    sheet.ignore("data.format_type", "the layout is found from the rows, as in the policy")
    completions = bool(sheet.get("training.train_on_completions", False))
    note = "everything after an answer's marker up to the next question's is trained: tools' turns too"
    if completions:
        sheet.map("training.train_on_completions", "training.assistant_only_loss", value=True, note=note)
    sheet.ignore("training.train_on_completions", "whole rows are trained")
    sheet.default("training.train_on_completions", "training.assistant_only_loss", completions)


def _adapter(sheet: Sheet) -> None:
    keys = {"lora_r": ("r", 64), "lora_alpha": ("lora_alpha", 16), "lora_dropout": ("lora_dropout", 0.0)}
    if sheet.get("training.training_type", "lora") == "full":
        sheet.ignore("training.training_type", "all weights are trained: the policy has no training.lora")
        sheet.ignore("lora", "training_type is full")
        sheet.ignore("training.load_in_4bit", "training_type is full")
        return
    sheet.ignore("training.training_type", "an adapter is trained: training.lora")
    for key, (name, usual) in keys.items():
        sheet.map(f"lora.{key}", f"training.lora.{name}")
        sheet.default(f"lora.{key}", f"training.lora.{name}", usual)
    named = str(sheet.get("lora.target_modules", "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"))
    modules = [name.strip() for name in named.split(",") if name.strip()]
    sheet.map("lora.target_modules", "training.lora.target_modules", value=modules)
    sheet.default("lora.target_modules", "training.lora.target_modules", modules)
    for key in ("use_rslora", "use_dora"):
        sheet.map(f"lora.{key}", f"training.lora.{key}")
    for key in sheet.below("lora"):
        if key.startswith("lora.finetune_") and sheet.get(key) is True:
            sheet.ignore(key, "all parts are trained, as by default")
        elif key.startswith("lora.finetune_"):
            sheet.refuse(key, "a part of the model is not trained", "memory")
    if not sheet.get("training.load_in_4bit", True):
        sheet.ignore("training.load_in_4bit", "switched off")
        return
    to = "training.quantization."
    sheet.map("training.load_in_4bit", f"{to}load_in_4bit", value=True)
    sheet.default("training.load_in_4bit", f"{to}load_in_4bit", True)
    sheet.default("training.load_in_4bit", f"{to}bnb_4bit_quant_type", "nf4", "unsloth's own")
    sheet.default("training.load_in_4bit", f"{to}bnb_4bit_use_double_quant", True, "unsloth's own")
    sheet.default("training.load_in_4bit", f"{to}bnb_4bit_compute_dtype", "bfloat16", "unsloth's own")


def _training(sheet: Sheet) -> None:
    to = "training.gradient_checkpointing"
    how = sheet.get("training.gradient_checkpointing", "unsloth")
    note = "unsloth moves checkpoints of activations off the GPU" if how == "unsloth" else None
    on = how in ("unsloth", "true", True)
    sheet.map("training.gradient_checkpointing", to, value=on, note=note)
    sheet.default("training.gradient_checkpointing", to, on, note)
    if not sheet.get("training.max_steps", 0):
        sheet.ignore("training.max_steps", "0 is off")
    sheet.map("training.max_steps", "training.max_steps")
    if sheet.get("training.save_steps", 0):
        sheet.map("training.save_steps", "training.save_steps")
    sheet.ignore("training.save_steps", "0 is off")
