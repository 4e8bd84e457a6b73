"""LitGPT: `litgpt finetune_lora --config FILE` (jsonargparse).

Facts from litgpt/args.py, finetune/lora.py and data/json_data.py, at the commit that the table names.
"""

from ftcheck.importers.sheet import Sheet, is_positive

TARGETS = {
    "lora_query": (["q_proj"], True),
    "lora_key": (["k_proj"], False),
    "lora_value": (["v_proj"], True),
    "lora_projection": (["o_proj"], False),
    "lora_mlp": (["gate_proj", "up_proj", "down_proj"], False),
    "lora_head": (["lm_head"], False),
}
"""LitGPT's switches: PEFT's names for a Llama-like model, and the default."""
HUB = {
    "Alpaca2k": "mhenrichsen/alpaca_2k_test",
    "LIMA": "GAIR/lima",
    "Deita": "HuggingFaceH4/deita-10k-v0-sft",
}
"""Data modules that read the hub; others fetch a file from a URL of their own."""


def semantics(sheet: Sheet) -> None:
    """Take the keys off the sheet whose meaning depends on others."""
    _data(sheet)
    _adapter(sheet)
    _precision(sheet)
    _steps(sheet)


def _data(sheet: Sheet) -> None:
    builder = str(sheet.get("data.class_path", sheet.get("data", "Alpaca"))).rpartition(".")[2]
    path = sheet.get("data.init_args.json_path")
    if path is not None:
        sheet.map("data.init_args.json_path", "data.train")
        sheet.ignore("data.class_path", "rows of instruction, input and output from json_path")
        if sheet.get("data.init_args.val_split_fraction") is None:
            sheet.missing(
                "data.init_args.val_split_fraction",
                "not set: 5 % of a single file are silently held out",
                "ids",
            )
    elif builder in HUB:
        sheet.state("data.train", HUB[builder], "data.class_path")
        sheet.refuse("data.class_path", "LitGPT writes the prompt of this data set itself", "ids")
    sheet.refuse("data.class_path", "rows that this data module fetches itself", "ids")
    sheet.refuse("data.init_args.val_split_fraction", "this part of the rows is held out of training", "ids")
    sheet.refuse(
        "data.init_args.prompt_style", "LitGPT's own prompt text; prompt and answer are encoded apart", "ids"
    )
    masked = bool(sheet.get("data.init_args.mask_prompt", False))
    sheet.map("data.init_args.mask_prompt", "training.completion_only_loss", value=masked)
    sheet.default(
        "data.init_args.mask_prompt", "training.completion_only_loss", masked, "the prompt is trained on"
    )


def _adapter(sheet: Sheet) -> None:
    if not any(key.startswith("lora_") for key in sheet.left):
        return
    to = "training.lora."
    for key, name, usual in (
        ("lora_r", "r", 8),
        ("lora_alpha", "lora_alpha", 16),
        ("lora_dropout", "lora_dropout", 0.05),
    ):
        sheet.map(key, f"{to}{name}")
        sheet.default(key, f"{to}{name}", usual)
    chosen = [
        module for key, (modules, usual) in TARGETS.items() if sheet.get(key, usual) for module in modules
    ]
    note = "named as in Llama-like models; LitGPT fuses query, key and value into one layer"
    for key in TARGETS:
        sheet.map(key, f"{to}target_modules", value=chosen, note=note if sheet.get(key) else None)
    sheet.default("lora_query", f"{to}target_modules", chosen, note)


def _precision(sheet: Sheet) -> None:
    how = sheet.get("quantize")
    if how in ("bnb.nf4", "bnb.nf4-dq", "bnb.fp4", "bnb.fp4-dq"):
        to = "training.quantization."
        sheet.map("quantize", f"{to}load_in_4bit", value=True)
        sheet.state(f"{to}bnb_4bit_quant_type", how[4:7], "quantize")
        sheet.state(f"{to}bnb_4bit_use_double_quant", how.endswith("-dq"), "quantize")
    sheet.refuse("quantize", "a quantisation that the policy cannot say", "memory")
    precision = str(sheet.get("precision", ""))
    if precision.startswith("bf16"):
        note = "weights too" if precision == "bf16-true" else None
        sheet.map("precision", "training.bf16", value=True, note=note)
    elif precision.startswith("32"):
        sheet.map("precision", "training.bf16", value=False)
    sheet.refuse("precision", "a precision that the policy cannot say", "memory")


def _steps(sheet: Sheet) -> None:
    total, micro, devices = (
        sheet.get("train.global_batch_size", 16),
        sheet.get("train.micro_batch_size", 1),
        sheet.get("devices", 1),
    )
    if is_positive(total) and is_positive(micro) and is_positive(devices):
        steps = max(int(total // devices // micro), 1)
        sheet.map("train.global_batch_size", "training.gradient_accumulation_steps", value=steps)
        sheet.default("train.global_batch_size", "training.gradient_accumulation_steps", steps)
    sheet.refuse("train.global_batch_size", "'devices: auto' depends on the machine")
    if not isinstance(devices, int):
        sheet.refuse("devices", "depends on the machine")
    steps = sheet.get("train.lr_warmup_steps")
    if steps is not None:
        sheet.map("train.lr_warmup_steps", "training.warmup_steps")
    named = str(sheet.get("optimizer.class_path", sheet.get("optimizer", "AdamW"))).rpartition(".")[2]
    if named == "AdamW":
        sheet.map("optimizer.class_path", "training.optim", value="adamw_torch")
        sheet.default("optimizer.class_path", "training.optim", "adamw_torch")
    for key in ("optimizer.init_args.betas.0", "optimizer.init_args.betas.1"):
        sheet.ignore(key, "see optimizer.init_args.betas")
