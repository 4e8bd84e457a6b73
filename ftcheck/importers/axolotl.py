"""axolotl: what its keys mean where a table of names does not say it.

Facts from src/axolotl/utils/config (normalize_config, resolve_dtype), core/builders/base.py and causal.py,
loaders/model.py (_set_quantization_config) and loaders/adapter.py, at the commit that the table names.
"""

import re
from typing import Any

from ftcheck.importers.sheet import TEMPLATE, Sheet, is_positive

CUSTOM_OPTIMIZERS = re.compile(r"muon|dion|sinkgd|optimi|ao_adamw|adopt|came|galore|flash_")
SCHEDULERS_OF_ITS_OWN = ("one_cycle", "rex")
ATTENTION = {
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
    "flex_attention": "flex_attention",
}
INLINE = "the template's text: write it into a file, and set model.chat_template to its path"
PROMPTS = "axolotl writes the prompt of this type itself, and encodes prompt and answer apart"
ROWS = "which rows of the data set are trained on"
MESSAGES = ("messages", "conversations")
DATA_FILES = ("json", "csv", "parquet", "arrow", "text")


def semantics(sheet: Sheet) -> None:
    """Take the keys off the sheet whose meaning depends on others."""
    _base(sheet)
    _datasets(sheet)
    _template(sheet)
    _loss(sheet)
    _adapter(sheet)
    _precision(sheet)
    _batches(sheet)
    _schedule(sheet)
    _saving(sheet)
    _evaluation(sheet)
    _attention(sheet)
    _checkpointing(sheet)
    _tracking(sheet)


def _base(sheet: Sheet) -> None:
    sheet.map("base_model", "model.name")
    if sheet.get("tokenizer_type", "AutoTokenizer") == "AutoTokenizer":
        sheet.ignore("tokenizer_type", "the class that transformers chooses")
    if sheet.get("excess_length_strategy", "drop") == "truncate":
        sheet.ignore("excess_length_strategy", "rows are truncated, as TRL does")
        return
    if sheet.get("excess_length_strategy") == "raise":
        sheet.refuse("excess_length_strategy", "a row longer than sequence_len ends the run", "ids")
        return
    drops = "rows longer than sequence_len are dropped, where TRL truncates them"
    sheet.refuse("excess_length_strategy", drops, "ids")
    sheet.map("sequence_len", "training.max_length", note=drops)


# --- data ---


def _datasets(sheet: Sheet) -> None:
    paths = [
        path for number, _ in _listed(sheet, "datasets") if (path := _dataset(sheet, f"datasets.{number}"))
    ]
    if paths:
        _state_data(sheet, "data.train", paths, "datasets.0.path")
    held = [
        path
        for number, _ in _listed(sheet, "test_datasets")
        if (path := _dataset(sheet, f"test_datasets.{number}"))
    ]
    if held:
        _state_data(sheet, "data.eval", held, "test_datasets.0.path")
    share = sheet.get("val_set_size", 0)
    if share in (0, 0.0):
        sheet.ignore("val_set_size", "no rows are held out")
    else:
        sheet.refuse(
            "val_set_size", f"{share} of the rows are held out of training, after preparation", "ids"
        )


def _listed(sheet: Sheet, key: str) -> list[tuple[int, Any]]:
    entries = sheet.get(key)
    return list(enumerate(entries)) if isinstance(entries, list) else []


def _state_data(sheet: Sheet, to: str, paths: list[str], key: str) -> None:
    distinct = list(dict.fromkeys(paths))
    sheet.state(to, distinct[0] if len(distinct) == 1 else distinct, key)


def _dataset(sheet: Sheet, at: str) -> str | None:
    """One data set: its keys into their lists; the path that the policy names for it."""
    path = sheet.get(f"{at}.path")
    files = sheet.get(f"{at}.data_files")
    to = "data.eval" if at.startswith("test_") else "data.train"
    named = path
    if path in DATA_FILES and files:
        sheet.ignore(f"{at}.path", "the kind of the files that data_files names")
        sheet.map(f"{at}.data_files", to, value=files)
        named = files[0] if isinstance(files, list) and len(files) == 1 else files
    sheet.map(f"{at}.path", to, value=path)
    if sheet.get(f"{at}.split", "train") == "train":
        sheet.ignore(f"{at}.split", "the split that is read anyway")
    sheet.refuse(f"{at}.split", ROWS, "ids")
    sheet.ignore(f"{at}.ds_type", "the kind of the files, which their names tell")
    sheet.refuse(f"{at}.name", "a subset of the data set", "ids")
    sheet.refuse(f"{at}.data_files", ROWS, "ids")
    for key in ("shards", "shards_idx", "preprocess_shards"):
        sheet.refuse(f"{at}.{key}", ROWS, "ids")
    _type(sheet, at)
    if isinstance(named, list):
        return None
    return str(named) if named is not None else None


def _type(sheet: Sheet, at: str) -> None:
    kind = sheet.get(f"{at}.type")
    if kind == "chat_template":
        _conversations(sheet, at)
    elif kind in ("completion", "pretrain"):
        text = sheet.get(f"{at}.field", "text")
        sheet.map(f"{at}.field", "training.dataset_text_field", value=text)
        sheet.map(
            f"{at}.type", "data.format", value="text", note="long texts are split into rows of sequence_len"
        )
    else:
        sheet.refuse(f"{at}.type", PROMPTS, "ids")
    for key in sheet.below(at):
        sheet.refuse(key, "how rows are read and rendered", "ids")


def _conversations(sheet: Sheet, at: str) -> None:
    """Rows of messages: which keys they are under decides the layout."""
    field = sheet.get(f"{at}.field_messages", "messages")
    role = sheet.get(f"{at}.message_property_mappings.role", sheet.get(f"{at}.message_field_role", "role"))
    content = sheet.get(
        f"{at}.message_property_mappings.content", sheet.get(f"{at}.message_field_content", "content")
    )
    layout = {("messages", "role", "content"): "messages", ("conversations", "from", "value"): "sharegpt"}
    found = layout.get((str(field), str(role), str(content)))
    said = f"messages are under {field}, with {role} and {content}"
    note = "the whole conversation is rendered once; labels are found by rendering it with other contents"
    if found is None:
        sheet.refuse(f"{at}.type", f"{said}: data.format has no layout of these names", "ids")
    else:
        sheet.map(f"{at}.type", "data.format", value=found, note=note)
    for key in (
        "field_messages",
        "message_property_mappings.role",
        "message_property_mappings.content",
        "message_field_role",
        "message_field_content",
    ):
        if found is None:
            sheet.refuse(f"{at}.{key}", f"{said}: data.format has no layout of these names", "ids")
        else:
            sheet.map(f"{at}.{key}", "data.format", value=found)
    if sheet.get(f"{at}.roles_to_train", ["assistant"]) in (["assistant"], ["gpt"], ["assistant", "gpt"]):
        sheet.map(f"{at}.roles_to_train", "training.assistant_only_loss", value=True)
    if sheet.get(f"{at}.train_on_eos", "turn") == "turn":
        sheet.ignore(f"{at}.train_on_eos", "the end of each trained turn is trained, as in TRL")


def _template(sheet: Sheet) -> None:
    named = sheet.get("chat_template", "tokenizer_default")
    inline = sheet.get("chat_template_jinja")
    if inline is not None and named in ("jinja", "tokenizer_default"):
        if isinstance(inline, str) and inline.endswith((".jinja", ".jinja2")):
            sheet.map("chat_template_jinja", TEMPLATE)
        sheet.refuse("chat_template_jinja", INLINE, "ids", stands=TEMPLATE)
        sheet.ignore("chat_template", "chat_template_jinja is the template")
    elif named == "tokenizer_default":
        sheet.ignore("chat_template", "the tokenizer's own template, as in TRL")
    else:
        why = f"axolotl's own template '{named}': set model.chat_template to its Jinja file"
        sheet.refuse("chat_template", why, "ids", stands=TEMPLATE)


def _loss(sheet: Sheet) -> None:
    on_inputs = bool(sheet.get("train_on_inputs", False))
    kinds = {str(one.get("type")) for _, one in _listed(sheet, "datasets") if isinstance(one, dict)}
    if sheet.get("rl") is not None or not kinds:
        return
    if kinds == {"chat_template"}:
        to, note = "training.assistant_only_loss", "headers and the line break after a turn are not trained"
    elif kinds & {"completion", "pretrain", "chat_template"}:
        sheet.refuse(
            "train_on_inputs", "data sets of several types: there is one setting for all of them", "ids"
        )
        return
    else:
        to, note = "training.completion_only_loss", "the prompt is masked"
    if to in sheet.made:
        return
    sheet.map("train_on_inputs", to, value=not on_inputs)
    sheet.default("train_on_inputs", to, not on_inputs, note)


# --- the model ---


def _adapter(sheet: Sheet) -> None:
    adapter = sheet.get("adapter")
    keys = [
        key
        for key in (one for one in sheet.left if one.startswith("lora_"))
        if key not in ("lora_on_cpu", "lora_model_dir")
    ]
    keys = [key for key in keys if not key.endswith("_kernel")]
    if adapter in ("lora", "qlora"):
        sheet.map("adapter", "training.lora.bias", value="none", note="biases are never trained")
        _targets(sheet)
        sheet.default("lora_dropout", "training.lora.lora_dropout", 0.0)
    elif adapter is None:
        for key in keys:
            sheet.ignore(key, "no adapter is set: all weights are trained")
    else:
        sheet.refuse("adapter", f"an adapter of another kind: {adapter}", "memory")
    _quantization(sheet, adapter)


def _targets(sheet: Sheet) -> None:
    named = sheet.get("lora_target_modules")
    if sheet.get("lora_target_linear"):
        sheet.map("lora_target_linear", "training.lora.target_modules", value="all-linear")
        sheet.map("lora_target_modules", "training.lora.target_modules", note="added to all linear layers")
    else:
        sheet.ignore("lora_target_linear", "switched off")
        if named is not None:
            sheet.map("lora_target_modules", "training.lora.target_modules")


def _quantization(sheet: Sheet, adapter: str | None) -> None:
    four, eight = sheet.get("load_in_4bit", False), sheet.get("load_in_8bit", False)
    to = "training.quantization."
    if adapter == "qlora" and four:
        sheet.map("load_in_4bit", f"{to}load_in_4bit", value=True)
        kwargs = sheet.get("bnb_config_kwargs.bnb_4bit_use_double_quant")
        sheet.map(
            "bnb_config_kwargs.bnb_4bit_use_double_quant", f"{to}bnb_4bit_use_double_quant", value=kwargs
        )
        sheet.default("bnb_config_kwargs.bnb_4bit_use_double_quant", f"{to}bnb_4bit_use_double_quant", True)
        sheet.default("load_in_4bit", f"{to}bnb_4bit_quant_type", "nf4")
        dtype = "bfloat16" if _bf16(sheet) else "float16" if sheet.get("fp16") else "float32"
        sheet.default("load_in_4bit", f"{to}bnb_4bit_compute_dtype", dtype)
        sheet.default("load_in_4bit", f"{to}bnb_4bit_quant_storage", "bfloat16")
    elif adapter == "lora" and eight:
        sheet.map("load_in_8bit", f"{to}load_in_8bit", value=True)
    for key in ("load_in_4bit", "load_in_8bit"):
        if sheet.get(key):
            how = "axolotl quantises 4 bits for adapter: qlora only, 8 bits for adapter: lora only"
            sheet.refuse(key, how, "memory")
        else:
            sheet.ignore(key, "switched off")


def _bf16(sheet: Sheet) -> bool:
    stated = sheet.get("bf16", "auto" if sheet.node("bf16") is None else False)
    if stated == "auto":
        return not sheet.get("fp16", False)
    return bool(stated)


def _precision(sheet: Sheet) -> None:
    auto = "bf16 where the GPU has it, else fp16"
    on = _bf16(sheet)
    note = auto if sheet.get("bf16") == "auto" else None
    sheet.map("bf16", "training.bf16", value=on, note=note)
    sheet.default("bf16", "training.bf16", on, auto)
    if sheet.get("fp16") and not on:
        sheet.map("fp16", "training.fp16", value=True)
    sheet.ignore("fp16", "bf16 is used, or neither")
    if sheet.get("tf32") != True:  # noqa: E712 - 'auto' is a value too
        sheet.ignore("tf32", "switched off ('auto' is off too)")


def _attention(sheet: Sheet) -> None:
    to = "training.model_init_kwargs.attn_implementation"
    sheet.map("attn_implementation", to)
    for key, value in ATTENTION.items():
        if sheet.get(key):
            sheet.map(key, to, value=value)
        else:
            sheet.ignore(key, "switched off")
    for key in ("xformers_attention", "sage_attention"):
        if sheet.get(key):
            sheet.refuse(key, "an attention that transformers does not have", "memory")
        else:
            sheet.ignore(key, "switched off")


def _checkpointing(sheet: Sheet) -> None:
    stated = sheet.get("gradient_checkpointing", False)
    to = "training.gradient_checkpointing"
    if stated in ("offload", "offload_disk"):
        sheet.refuse("gradient_checkpointing", "checkpoints of activations are moved off the GPU", "memory")
        sheet.state(to, True, "gradient_checkpointing")
    sheet.map("gradient_checkpointing", to)
    sheet.default("gradient_checkpointing", to, False)
    if stated:
        for key in sheet.below("gradient_checkpointing_kwargs"):
            sheet.map(key, f"training.{key}")
        sheet.default(
            "gradient_checkpointing_kwargs", "training.gradient_checkpointing_kwargs.use_reentrant", False
        )
    sheet.ignore("gradient_checkpointing_kwargs", "gradient_checkpointing is off")


# --- steps ---


def _batches(sheet: Sheet) -> None:
    sheet.default(
        "eval_batch_size",
        "training.per_device_eval_batch_size",
        sheet.get("eval_batch_size", sheet.get("micro_batch_size", 1)),
    )
    optimizer = sheet.get("optimizer", "adamw_torch_fused")
    if CUSTOM_OPTIMIZERS.search(str(optimizer)):
        sheet.refuse("optimizer", "an optimizer that transformers does not have", "memory")
    else:
        sheet.map("optimizer", "training.optim")
        sheet.default("optimizer", "training.optim", optimizer)
    schedule = sheet.get("lr_scheduler", "cosine")
    if schedule in SCHEDULERS_OF_ITS_OWN:
        sheet.refuse("lr_scheduler", "a schedule of axolotl's own")
    else:
        sheet.map("lr_scheduler", "training.lr_scheduler_type")
        sheet.default("lr_scheduler", "training.lr_scheduler_type", schedule)


def _schedule(sheet: Sheet) -> None:
    """Steps win over the ratio; without either 3 % of the steps, at most 100; and 1 becomes 2."""
    to = "training.warmup_steps"
    steps, ratio = sheet.get("warmup_steps"), sheet.get("warmup_ratio")
    if steps is not None:
        sheet.map(
            "warmup_steps", to, value=2 if steps == 1 else steps, note="1 becomes 2" if steps == 1 else None
        )
        sheet.ignore("warmup_ratio", "warmup_steps wins")
    elif ratio is not None:
        sheet.map("warmup_ratio", to, note="rounded down to whole steps, where TRL rounds up")
    else:
        sheet.default("warmup_ratio", to, 0.03, "3 % of the steps, at most 100")


def _saving(sheet: Sheet) -> None:
    per_epoch, epochs = sheet.get("saves_per_epoch"), sheet.get("num_epochs", 1.0)
    fraction = _fraction(per_epoch, epochs)
    steps = sheet.get("save_steps")
    if fraction is not None:
        sheet.state("training.save_strategy", "steps", "saves_per_epoch")
        sheet.state("training.save_steps", fraction, "saves_per_epoch")
        sheet.map("saves_per_epoch", "training.save_steps", "training.save_strategy")
        sheet.ignore("save_steps", "saves_per_epoch wins")
    elif steps:
        sheet.state("training.save_strategy", "steps", "save_steps")
        sheet.map("save_steps", "training.save_steps", "training.save_strategy")
    elif sheet.get("save_strategy"):
        sheet.map("save_strategy", "training.save_strategy")
    sheet.default("save_strategy", "training.save_strategy", "epoch")
    sheet.ignore("save_strategy", "save_steps wins")
    if per_epoch:
        sheet.map(
            "saves_per_epoch",
            "training.save_strategy",
            note="1 / (saves_per_epoch x num_epochs) is not below 1",
        )
    sheet.ignore("save_steps", "switched off")
    sheet.ignore("saves_per_epoch", "switched off")


def _fraction(per_epoch: object, epochs: object) -> float | None:
    """The share of all steps between two saves; None where axolotl takes none."""
    if not is_positive(per_epoch) or not is_positive(epochs):
        return None
    share = 1.0 / (float(str(per_epoch)) * float(str(epochs)))
    return share if share < 1.0 else None


def _evaluation(sheet: Sheet) -> None:
    keys = ("eval_steps", "evals_per_epoch", "eval_strategy", "evaluation_strategy")
    if sheet.get("val_set_size", 0):
        for key in keys:
            if sheet.get(key) in (None, 0, "no", False):
                sheet.ignore(key, "switched off")
            sheet.refuse(key, "evaluation is on rows that are split off the training data", "memory")
        return
    if not sheet.get("test_datasets"):
        for key in keys:
            sheet.ignore(key, "there are no rows to evaluate on")
        sheet.default("eval_strategy", "training.eval_strategy", "no")
        return
    fraction = _fraction(sheet.get("evals_per_epoch"), sheet.get("num_epochs", 1.0))
    if fraction is not None:
        sheet.state("training.eval_strategy", "steps", "evals_per_epoch")
        sheet.state("training.eval_steps", fraction, "evals_per_epoch")
        sheet.map("evals_per_epoch", "training.eval_steps", "training.eval_strategy")
    elif sheet.get("eval_steps"):
        sheet.state("training.eval_strategy", "steps", "eval_steps")
        sheet.map("eval_steps", "training.eval_steps", "training.eval_strategy")
    else:
        sheet.map("eval_strategy", "training.eval_strategy")
        sheet.map("evaluation_strategy", "training.eval_strategy")
    for key in keys:
        sheet.ignore(key, "another key decides")


def _tracking(sheet: Sheet) -> None:
    """axolotl reports to wandb where a project is named, and to others where they are switched on."""
    named = {
        "use_wandb": "wandb",
        "use_mlflow": "mlflow",
        "use_tensorboard": "tensorboard",
        "use_comet": "comet_ml",
        "use_trackio": "trackio",
    }
    chosen = [tracker for key, tracker in named.items() if sheet.get(key)]
    if sheet.get("wandb_project") and sheet.get("use_wandb") is None:
        chosen.insert(0, "wandb")
    for key, tracker in named.items():
        if tracker in chosen:
            sheet.map(key, "training.report_to", value=chosen)
    if "wandb" in chosen:
        sheet.map("wandb_project", "training.report_to", value=chosen)
    sheet.default("use_wandb", "training.report_to", chosen or "none")
