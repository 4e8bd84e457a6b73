"""What the calls in a script mean: SFTConfig, LoraConfig, from_pretrained, load_dataset and others.

Facts from trl 1.16 (SFTConfig), peft (LoraConfig), transformers (BitsAndBytesConfig, TrainingArguments)
and unsloth (FastLanguageModel), as the tables of `trl` and `unsloth` date them.
"""

from ftcheck.importers.scripts import PARSERS, UNREAD
from ftcheck.importers.sheet import Computed, Sheet, is_training
from ftcheck.policy.nodes import Node

ARGUMENTS = ("SFTConfig", "TrainingArguments", "UnslothTrainingArguments")
TRAINERS = ("SFTTrainer", "UnslothTrainer")
OLD = {"max_seq_length": "max_length", "warmup_ratio": "warmup_steps", "evaluation_strategy": "eval_strategy"}
UNSLOTH_MODELS = ("FastLanguageModel", "FastModel", "FastVisionModel")
COMMAND_LINE = "arguments come from the command line: import the YAML that is given there"
OBJECT = "an object of the script"
ADAPTER = {
    "r": 16,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
"""Defaults of FastLanguageModel.get_peft_model."""
OF_UNSLOTH = {"loftq_config", "random_state", "use_gradient_checkpointing", "max_seq_length"}


def semantics(sheet: Sheet) -> None:
    """Take the keys off the sheet, call by call."""
    for name in list(sheet.source.tree.items):
        if name.endswith(" again"):
            sheet.refuse(
                name, "a second call of the same: which of the two counts is not known", "ids", "memory"
            )
    for name in list(sheet.source.tree.items):
        _section(sheet, name)
    sheet.computed()


def _section(sheet: Sheet, name: str) -> None:
    owner, _, method = name.rpartition(".")
    if name in ARGUMENTS:
        _training(sheet, name)
    elif name in TRAINERS:
        _trainer(sheet, name)
    elif name == "LoraConfig":
        _keys(sheet, name, "training.lora", {"task_type": None})
    elif name == "BitsAndBytesConfig":
        _keys(sheet, name, "training.quantization", {})
    elif name == "load_dataset":
        _load_dataset(sheet)
    elif method == "from_pretrained":
        _from_pretrained(sheet, owner)
    elif method == "get_peft_model" or name == "get_peft_model":
        _get_peft_model(sheet, name)
    elif name == "train_on_responses_only":
        _responses(sheet)
    elif name in PARSERS:
        sheet.refuse(name, COMMAND_LINE, "ids", "memory")
    elif name.endswith("Config"):
        other = f"{name} is of another training than supervised fine-tuning, which is what ftcheck checks"
        sheet.refuse(name, other, "ids", "memory")
    elif name.startswith(UNREAD):
        sheet.refuse(name, "a cell that is not Python, and that was not read", "ids", "memory")
    elif isinstance(sheet.source.tree.items[name].value, Computed):
        sheet.refuse(name, "the rows are changed by code, which ftcheck does not run", "ids")


def _known(sheet: Sheet, key: str) -> bool:
    node = sheet.node(key)
    return node is not None and not isinstance(node.value, Computed)


def _training(sheet: Sheet, name: str) -> None:
    for key in sheet.below(name):
        argument = key.removeprefix(f"{name}.")
        if not _known(sheet, key):
            continue
        renamed = OLD.get(argument, argument)
        if is_training(renamed.partition(".")[0]):
            sheet.map(key, f"training.{renamed}")
        elif name == "UnslothTrainingArguments":
            sheet.refuse(key, "an argument of unsloth's own trainer")
        elif argument in ("logging_dir", "run_name", "overwrite_output_dir"):
            sheet.ignore(key, "changes nothing that is checked")
        else:
            sheet.refuse(key, f"{argument} is no argument of trl.SFTConfig", known=False)


def _trainer(sheet: Sheet, name: str) -> None:
    """Arguments of the trainer: objects of the script, and in older versions some of SFTConfig's."""
    for key in sheet.below(name):
        argument = key.removeprefix(f"{name}.")
        node = sheet.node(key)
        if argument in ("formatting_func", "data_collator", "compute_loss_func"):
            sheet.refuse(key, "a function of the script, which ftcheck does not run", "ids")
        elif node is not None and isinstance(node.value, Computed):
            _object(sheet, key, argument, node)
        elif is_training(OLD.get(argument, argument)):
            sheet.map(key, f"training.{OLD.get(argument, argument)}")
        elif argument == "model":
            sheet.map(key, "model.name")


def _object(sheet: Sheet, key: str, argument: str, node: Node) -> None:
    if argument in ("train_dataset", "eval_dataset") and not str(node.value).isidentifier():
        sheet.refuse(key, f"the rows are {node.value}: ftcheck does not run it", "ids")
    elif not is_training(OLD.get(argument, argument)):
        sheet.ignore(key, OBJECT)


def _keys(sheet: Sheet, name: str, to: str, other: dict[str, None]) -> None:
    for key in sheet.below(name):
        argument = key.removeprefix(f"{name}.")
        if argument in other:
            sheet.ignore(key, "what the trainer states anyway")
        elif _known(sheet, key):
            sheet.map(key, f"{to}.{argument}")


def _load_dataset(sheet: Sheet) -> None:
    at = "load_dataset"
    sheet.computed(f"{at}.")
    files = sheet.get(f"{at}.data_files")
    if sheet.get(f"{at}.path") in ("json", "csv", "parquet") and _known(sheet, f"{at}.data_files"):
        sheet.ignore(f"{at}.path", "the kind of the files that data_files names")
        if isinstance(files, str | list):
            sheet.map(f"{at}.data_files", "data.train")
    if _known(sheet, f"{at}.path"):
        sheet.map(f"{at}.path", "data.train")
    if sheet.get(f"{at}.split", "train") == "train":
        sheet.ignore(f"{at}.split", "the split that is read anyway")
    sheet.refuse(at, "which rows of the data set are trained on", "ids")


def _from_pretrained(sheet: Sheet, owner: str) -> None:
    at = f"{owner}.from_pretrained"
    first = f"{at}.pretrained_model_name_or_path"
    if "Tokenizer" in owner or "Processor" in owner:
        named = sheet.get(first)
        if _known(sheet, first) and named is not None:
            sheet.map(first, "model.tokenizer")
        sheet.ignore(first, "the tokenizer of a model that the script names")
        sheet.refuse(at, "how the tokenizer is loaded", "ids")
        return
    names = {
        "model_name": "model.name",
        "pretrained_model_name_or_path": "model.name",
        "revision": "model.revision",
        "trust_remote_code": "model.trust_remote_code",
    }
    unsloth = owner in UNSLOTH_MODELS
    if unsloth:
        names |= {"max_seq_length": "training.max_length"}
    for argument, to in names.items():
        if _known(sheet, f"{at}.{argument}"):
            sheet.map(f"{at}.{argument}", to)
    for flag in ("load_in_4bit", "load_in_8bit"):
        if sheet.get(f"{at}.{flag}") is True:
            _quantised(sheet, f"{at}.{flag}", flag, unsloth=unsloth)
        if sheet.get(f"{at}.{flag}") is False:
            sheet.ignore(f"{at}.{flag}", "switched off")
    if unsloth:
        _loaded_by_unsloth(sheet, at)
        if _known(sheet, f"{at}.use_gradient_checkpointing"):
            on = sheet.get(f"{at}.use_gradient_checkpointing") in (True, "unsloth", "true", "True")
            sheet.map(f"{at}.use_gradient_checkpointing", "training.gradient_checkpointing", value=on)
    for argument in ("dtype", "torch_dtype", "attn_implementation"):
        if _known(sheet, f"{at}.{argument}") and sheet.get(f"{at}.{argument}") is not None:
            to = "dtype" if argument == "torch_dtype" else argument
            sheet.map(f"{at}.{argument}", f"training.model_init_kwargs.{to}")
    for argument in (
        "quantization_config",
        "device_map",
        "token",
        "use_cache",
        "full_finetuning",
        "dtype",
        "fast_inference",
        "gpu_memory_utilization",
        "max_lora_rank",
    ):
        sheet.ignore(f"{at}.{argument}", "stated elsewhere, or of the loading alone")
    for key in sheet.below(at):
        if _known(sheet, key):
            sheet.refuse(key, "how the model is loaded", "memory")


def _loaded_by_unsloth(sheet: Sheet, at: str) -> None:
    """FastLanguageModel loads 2,048 tokens in 4 bits unless it is told otherwise."""
    sheet.default(f"{at}.max_seq_length", "training.max_length", 2048, "unsloth's default")
    others = ("load_in_8bit", "load_in_16bit", "load_in_fp8", "full_finetuning")
    told = sheet.node(f"{at}.load_in_4bit") is not None or any(sheet.get(f"{at}.{one}") for one in others)
    if not told:
        to = "training.quantization"
        sheet.default(f"{at}.load_in_4bit", f"{to}.load_in_4bit", True, "unsloth's default")
        sheet.default(f"{at}.load_in_4bit", f"{to}.bnb_4bit_quant_type", "nf4", "unsloth's own")
        sheet.default(f"{at}.load_in_4bit", f"{to}.bnb_4bit_use_double_quant", True, "unsloth's own")


def _quantised(sheet: Sheet, key: str, flag: str, *, unsloth: bool) -> None:
    to = "training.quantization"
    sheet.map(key, f"{to}.{flag}", value=True)
    if unsloth and flag == "load_in_4bit":
        sheet.default(key, f"{to}.bnb_4bit_quant_type", "nf4", "unsloth's own")
        sheet.default(key, f"{to}.bnb_4bit_use_double_quant", True, "unsloth's own")
        sheet.default(key, f"{to}.bnb_4bit_compute_dtype", "bfloat16", "unsloth's own, where the GPU has it")


def _get_peft_model(sheet: Sheet, name: str) -> None:
    sheet.ignore(f"{name}.model", OBJECT)
    for key in sheet.below(name):
        argument = key.removeprefix(f"{name}.")
        if not _known(sheet, key):
            if argument not in OF_UNSLOTH and argument.startswith("argument"):
                sheet.ignore(key, OBJECT)
        elif argument == "use_gradient_checkpointing":
            on = sheet.get(key) in (True, "unsloth", "true", "True")
            note = "unsloth moves checkpoints off the GPU" if sheet.get(key) == "unsloth" else None
            sheet.map(key, "training.gradient_checkpointing", value=on, note=note)
        elif argument == "max_seq_length":
            sheet.ignore(key, "no longer used by get_peft_model")
        elif argument == "random_state":
            sheet.ignore(key, "the adapter's initial weights")
        elif argument.startswith("finetune_") and sheet.get(key) is True:
            sheet.ignore(key, "trained, as by default")
        elif argument.startswith("finetune_"):
            sheet.refuse(key, "which parts of the model are trained", "memory")
        else:
            sheet.map(key, f"training.lora.{argument}")
    if name.rpartition(".")[0] in UNSLOTH_MODELS:
        for argument, usual in ADAPTER.items():
            sheet.default(f"{name}.{argument}", f"training.lora.{argument}", usual, "unsloth's default")
        sheet.default(f"{name}.use_gradient_checkpointing", "training.gradient_checkpointing", True)


def _responses(sheet: Sheet) -> None:
    """Labels by markers in the ids: from an answer's marker up to the next question's."""
    at = "train_on_responses_only"
    for argument in ("instruction_part", "response_part"):
        if _known(sheet, f"{at}.{argument}"):
            sheet.map(f"{at}.{argument}", f"trainer.{argument}")
    sheet.ignore(f"{at}.trainer", OBJECT)
    for key in sheet.below(at):
        sheet.refuse(key, "how labels are found", "ids")
