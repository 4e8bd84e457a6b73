"""Tells by its keys which framework a configuration is of. Names of files say nothing."""

from ftcheck.importers.sheet import leaves
from ftcheck.policy.nodes import Node, plain

LLAMA_FACTORY = {
    "finetuning_type",
    "stage",
    "template",
    "cutoff_len",
    "dataset_dir",
    "quantization_bit",
    "infer_backend",
}
LLAMA_FACTORY_V1 = {
    "model_class",
    "peft_config",
    "train_dataset",
    "dist_config",
    "kernel_config",
    "sample_backend",
}
AXOLOTL = {"sequence_len", "micro_batch_size", "datasets", "sample_packing", "adapter", "pretraining_dataset"}
UNSLOTH = {"dataset", "local_dataset", "format_type"}
ACCELERATE = {"compute_environment", "distributed_type", "num_processes", "mixed_precision", "machine_rank"}
DEEPSPEED = {"zero_optimization", "train_micro_batch_size_per_gpu", "train_batch_size"}
LITGPT = {"checkpoint_dir", "data", "train", "lora_r", "precision", "model_name"}
NEMO = {"step_scheduler", "dist_env", "packed_sequence"}


def detect(tree: Node) -> str | None:
    """The framework's key in `from:`; None for what is not known."""
    keys = set(tree.items)
    below = {key: set(child.items) for key, child in tree.items.items()}
    components = [str(plain(node)) for key, node in leaves(tree) if key.endswith("_component_")]
    targets = [str(plain(node)) for key, node in leaves(tree) if key.endswith("_target_")]
    if "@framework" in keys:
        return str(plain(tree.items["@framework"]))
    if any("torchtune" in one for one in components):
        return "torchtune"
    if len(keys & NEMO) >= 2 or any(one.startswith("nemo_automodel.") for one in targets):
        return "nemo-automodel"
    if {"model", "data", "training"} <= keys and below["data"] & UNSLOTH:
        return "unsloth"
    if "base_model" in keys and keys & AXOLOTL:
        return "axolotl"
    if keys & {"dataset_mixture", "dataset_mixer"} or {"chat_template", "model_name_or_path"} <= keys:
        return "alignment-handbook"
    if (keys & LLAMA_FACTORY and keys & {"model_name_or_path", "dataset"}) or len(
        keys & LLAMA_FACTORY_V1
    ) >= 2:
        return "llama-factory"
    if len(keys & ACCELERATE) >= 3:
        return "accelerate"
    if keys & DEEPSPEED:
        return "deepspeed"
    if "checkpoint_dir" in keys and len(keys & LITGPT) >= 3:
        return "litgpt"
    return "trl" if "model_name_or_path" in keys else None
