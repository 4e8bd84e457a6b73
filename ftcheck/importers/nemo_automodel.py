"""NeMo AutoModel: components by `_target_`, as its fine-tuning recipe reads them.

Facts from nemo_automodel/components/_peft/lora.py, components/datasets/llm and examples/llm_finetune, at the
commit that the table names.
"""

from ftcheck.importers.sheet import Sheet, is_positive

GLOBS = {"*_proj": "all-linear", "*.proj": "all-linear", "*proj": "all-linear"}


def semantics(sheet: Sheet) -> None:
    """Take the keys off the sheet whose meaning depends on others."""
    _data(sheet)
    _usual(sheet)
    _adapter(sheet)
    _steps(sheet)


def _usual(sheet: Sheet) -> None:
    """Components and sizes that every recipe states, as transformers would have them anyway."""
    usual = {
        "model._target_": ("NeMoAutoModelForCausalLM.from_pretrained", "NeMoAutoModelForCausalLM"),
        "loss_fn._target_": ("MaskedCrossEntropy",),
        "dataloader._target_": ("StatefulDataLoader",),
        "dataloader.collate_fn": ("default_collater",),
    }
    for key, names in usual.items():
        if str(sheet.get(key, "")).endswith(names):
            sheet.ignore(key, "what is used anyway")
    for size in ("tp_size", "cp_size", "pp_size", "ep_size", "dp_size", "dp_replicate_size"):
        if sheet.get(f"distributed.{size}") in (1, "none", None):
            sheet.ignore(f"distributed.{size}", "one process, or as many as the run is started on")


def _data(sheet: Sheet) -> None:
    builder = str(sheet.get("dataset._target_", "")).rpartition(".")[2]
    for name in ("path_or_dataset_id", "dataset_name", "path_or_dataset"):
        sheet.map(f"dataset.{name}", "data.train")
    if builder == "ChatDataset":
        sheet.map("dataset._target_", "data.format", value="messages")
        sheet.default("dataset._target_", "training.assistant_only_loss", True, "answers are trained")
    if sheet.get("dataset.split", "train") == "train":
        sheet.ignore("dataset.split", "the split that is read anyway")
    sheet.map("dataset.seq_length", "training.max_length")
    size = sheet.get("packed_sequence.packed_sequence_size", 0)
    sheet.map(
        "packed_sequence.packed_sequence_size",
        "training.packing",
        value=bool(size),
        note="blocks of this length, packed before training" if size else None,
    )
    if size and "training.max_length" not in sheet.made:
        sheet.state("training.max_length", size, "packed_sequence.packed_sequence_size")


def _adapter(sheet: Sheet) -> None:
    if sheet.get("peft._target_") is None:
        return
    sheet.ignore("peft._target_", "an adapter is trained: training.lora")
    to = "training.lora."
    sheet.default("peft.dim", f"{to}r", 8)
    sheet.default("peft.alpha", f"{to}lora_alpha", 32)
    sheet.default("peft.dropout", f"{to}lora_dropout", 0.0)
    named = sheet.get("peft.target_modules")
    if sheet.get("peft.match_all_linear"):
        sheet.map("peft.match_all_linear", f"{to}target_modules", value="all-linear")
        sheet.ignore("peft.target_modules", "match_all_linear wins")
    elif isinstance(named, str) and named in GLOBS:
        sheet.map(
            "peft.target_modules", f"{to}target_modules", value=GLOBS[named], note="all layers of this name"
        )
    elif isinstance(named, list) and not any("*" in str(one) for one in named):
        sheet.map("peft.target_modules", f"{to}target_modules")
    sheet.ignore("peft.match_all_linear", "switched off")
    sheet.ignore("peft.use_triton", "a kernel for the same computation")
    sheet.refuse("peft.target_modules", "patterns that PEFT does not have", "memory")


def _steps(sheet: Sheet) -> None:
    total, local = (
        sheet.get("step_scheduler.global_batch_size"),
        sheet.get("step_scheduler.local_batch_size", 1),
    )
    if is_positive(total) and is_positive(local):
        note = "on one process: divided by the processes that the run is started on"
        sheet.map(
            "step_scheduler.global_batch_size",
            "training.gradient_accumulation_steps",
            value=max(int(total // local), 1),
            note=note,
        )
    builder = str(sheet.get("optimizer._target_", ""))
    if builder in ("torch.optim.AdamW", "torch.optim.Adam"):
        sheet.map("optimizer._target_", "training.optim", value="adamw_torch", note=None)
    dtype = sheet.get("model.torch_dtype")
    if dtype is not None:
        sheet.map(
            "model.torch_dtype", "training.model_init_kwargs.dtype", value=str(dtype).rpartition(".")[2]
        )
    attention = sheet.get("model.attn_implementation")
    if attention is not None:
        sheet.map("model.attn_implementation", "training.model_init_kwargs.attn_implementation")
