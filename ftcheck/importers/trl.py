"""TRL's command line (`trl sft --config FILE`) and scripts that call SFTTrainer.

Facts from trl/trainer/sft_config.py, trainer/model_config.py, scripts/utils.py and scripts/sft.py of the
version that the table names.
"""

from typing import Any

from ftcheck.importers import calls
from ftcheck.importers.sheet import ABSENT, Sheet

PACKING = {"ffd": "bfd", "bfd-requeue": "bfd_split"}
"""Strategies that were renamed."""
ROWS = "which rows of the data set are trained on"
SPLIT_OFF = "evaluation is on another split of the data set, or on rows that are split off"


def semantics(sheet: Sheet) -> None:
    """Take the keys off the sheet whose meaning depends on others."""
    if "@framework" in sheet.source.tree.items:
        calls.semantics(sheet)
        return
    arguments(sheet, dtype="float32")


def arguments(sheet: Sheet, dtype: str | None) -> None:
    """SFTConfig, ModelConfig and ScriptArguments; `dtype` is what ModelConfig loads in by default."""
    _data(sheet)
    _dtype(sheet, dtype)
    _adapter(sheet)
    _quantization(sheet)
    _renamed(sheet)
    _preferences(sheet)


def _data(sheet: Sheet) -> None:
    if isinstance(sheet.get("datasets"), list):
        mixture(sheet, "datasets", "path")
    sheet.map("dataset_name", "data.train")
    for key, usual in (("dataset_train_split", "train"), ("dataset_test_split", "test")):
        if key == "dataset_test_split" or sheet.get(key, usual) == usual:
            sheet.ignore(key, "the split that is read anyway")
        sheet.refuse(key, ROWS, "ids")
    if sheet.get("test_split_size") is not None:
        sheet.refuse("test_split_size", "this part of the rows is held out of training", "ids")
    if sheet.get("eval_strategy", "no") not in ("no", False):
        for key in ("eval_strategy", "eval_steps"):
            sheet.refuse(key, SPLIT_OFF, "memory")
    sheet.map("eval_strategy", "training.eval_strategy", value="no")
    sheet.ignore("eval_steps", "eval_strategy is no")


def mixture(sheet: Sheet, at: str, path: str) -> None:
    """A list of data sets, some of which only take part of their rows."""
    names: list[str] = []
    for number, _ in enumerate(sheet.get(at, [])):
        key = f"{at}.{number}"
        name = sheet.get(f"{key}.{path}")
        if name is not None:
            names.append(str(name))
        sheet.map(f"{key}.{path}", "data.train", value=name)
        _part(sheet, key)
    distinct = list(dict.fromkeys(names))
    if distinct:
        sheet.state("data.train", distinct[0] if len(distinct) == 1 else distinct, f"{at}.0.{path}")


def _part(sheet: Sheet, key: str) -> None:
    if sheet.get(f"{key}.split", "train") == "train":
        sheet.ignore(f"{key}.split", "the split that is read anyway")
    sheet.refuse(f"{key}.split", ROWS, "ids")
    for name in ("config", "name"):
        if sheet.get(f"{key}.{name}", "default") == "default":
            sheet.ignore(f"{key}.{name}", "the configuration that is read anyway")
        sheet.refuse(f"{key}.{name}", ROWS, "ids")
    if sheet.get(f"{key}.columns") in (["messages"], ["prompt", "completion"], ["text"]):
        sheet.ignore(f"{key}.columns", "the columns that are read anyway")
    sheet.refuse(f"{key}.columns", "only these columns are kept; the policy reads all", "ids")
    if sheet.get(f"{key}.weight", 1.0) == 1.0:
        sheet.ignore(f"{key}.weight", "all rows are trained on")
    sheet.refuse(f"{key}.weight", "a sample of the rows is trained on", "ids")
    for one in sheet.below(key):
        sheet.refuse(one, "how rows are read", "ids")


def _dtype(sheet: Sheet, usual: str | None) -> None:
    to = "training.model_init_kwargs.dtype"
    for key in ("dtype", "torch_dtype"):
        if sheet.get(key) == "auto":
            sheet.map(key, to, note="the dtype of the base's weights")
        sheet.map(key, to)
    if usual is not None:
        sheet.default("dtype", to, usual, "ModelConfig's default")


def _adapter(sheet: Sheet) -> None:
    names = {
        "lora_r": "r",
        "lora_alpha": "lora_alpha",
        "lora_dropout": "lora_dropout",
        "lora_target_modules": "target_modules",
        "lora_modules_to_save": "modules_to_save",
        "lora_target_parameters": "target_parameters",
        "use_rslora": "use_rslora",
        "use_dora": "use_dora",
    }
    if not sheet.get("use_peft", False):
        for key in names:
            sheet.ignore(key, "use_peft is not set: all weights are trained")
        sheet.ignore("use_peft", "all weights are trained: the policy has no training.lora")
        return
    usual: dict[str, Any] = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05}
    sheet.map("use_peft", "training.lora.bias", value="none", note="biases are never trained")
    for key, name in names.items():
        value = sheet.get(key)
        if key == "lora_target_modules" and value in (["all-linear"], "all-linear"):
            sheet.map(key, "training.lora.target_modules", value="all-linear")
        elif value is not None:
            sheet.map(key, f"training.lora.{name}")
        elif key in usual:
            sheet.default(key, f"training.lora.{name}", usual[key], "ModelConfig's default")


def _quantization(sheet: Sheet) -> None:
    to = "training.quantization."
    four, eight = sheet.get("load_in_4bit", False), sheet.get("load_in_8bit", False)
    if four:
        sheet.map("load_in_4bit", f"{to}load_in_4bit", value=True)
        sheet.map("bnb_4bit_quant_type", f"{to}bnb_4bit_quant_type")
        sheet.default("bnb_4bit_quant_type", f"{to}bnb_4bit_quant_type", "nf4", "ModelConfig's default")
        sheet.map("use_bnb_nested_quant", f"{to}bnb_4bit_use_double_quant")
        sheet.map("bnb_4bit_quant_storage", f"{to}bnb_4bit_quant_storage")
        dtype = sheet.made.get("training.model_init_kwargs.dtype")
        if dtype is not None and dtype.value in ("float32", "bfloat16", "float16"):
            sheet.default("dtype", f"{to}bnb_4bit_compute_dtype", dtype.value, "the dtype of the weights")
    elif eight:
        sheet.map("load_in_8bit", f"{to}load_in_8bit", value=True)
    for key in (
        "load_in_4bit",
        "load_in_8bit",
        "bnb_4bit_quant_type",
        "use_bnb_nested_quant",
        "bnb_4bit_quant_storage",
    ):
        sheet.ignore(key, "the base is not loaded in 4 bits" if not four else "switched off")


def _renamed(sheet: Sheet) -> None:
    if sheet.get("warmup_steps"):
        sheet.ignore("warmup_ratio", "warmup_steps wins")
    sheet.map(
        "warmup_ratio", "training.warmup_steps", note="renamed: a value below 1 is a share of all steps"
    )
    strategy = sheet.get("packing_strategy")
    if strategy in PACKING:
        sheet.map("packing_strategy", "training.packing_strategy", value=PACKING[strategy], note="renamed")
    if sheet.get("max_length") is not None:
        sheet.ignore("max_seq_length", "max_length is set")
    if sheet.get("resume_from_checkpoint") is None:
        sheet.ignore("resume_from_checkpoint", ABSENT)


def _preferences(sheet: Sheet) -> None:
    """Arguments that only other trainers than SFTTrainer have."""
    kinds = {"beta": "DPO", "max_prompt_length": "DPO", "num_generations": "GRPO", "reward_funcs": "GRPO"}
    for key, kind in kinds.items():
        sheet.refuse(key, f"of {kind}: ftcheck checks supervised fine-tuning", "ids", "memory")
