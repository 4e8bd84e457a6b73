"""NeMo AutoModel: components by `_target_`."""

from pathlib import Path

from ftcheck.policy.nodes import plain
from tests.importers.test_sheet import imported

TEXT = """\
step_scheduler: {global_batch_size: 16, local_batch_size: 2, max_steps: 100}
dist_env: {backend: nccl}
model: {_target_: nemo_automodel.NeMoAutoModelForCausalLM, pretrained_model_name_or_path: org/m}
peft: {_target_: nemo_automodel.components._peft.lora.PeftConfig, target_modules: "*_proj", dim: 16}
dataset: {_target_: nemo_automodel.datasets.ChatDataset, path_or_dataset_id: a.jsonl}
packed_sequence: {packed_sequence_size: 4096}
optimizer: {_target_: torch.optim.AdamW, lr: 1.0e-5}
"""


def test_a_configuration(tmp_path: Path) -> None:
    tree, record = imported(tmp_path, TEXT)

    assert record.framework == "nemo-automodel"
    made = plain(tree)
    training = made["training"]
    assert made["model"] == {"name": "org/m"}
    assert made["data"] == {"train": "a.jsonl", "format": "messages"}
    assert training["lora"] == {
        "r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "target_modules": "all-linear",
    }
    assert (training["packing"], training["max_length"]) == (True, 4096)
    assert training["gradient_accumulation_steps"] == 8


def test_an_interpolation_is_not_computed(tmp_path: Path) -> None:
    record = imported(tmp_path, TEXT.replace("1.0e-5", "'${oc.env:LR}'"))[1]
    assert "optimizer.lr" in {one.key for one in record.not_mapped}
