"""LitGPT: switches for the targets of LoRA, and rows that are held out silently."""

from pathlib import Path

from ftcheck.policy.nodes import plain
from tests.importers.test_sheet import imported

TEXT = """\
checkpoint_dir: checkpoints/m
lora_r: 32
lora_projection: true
quantize: bnb.nf4-dq
precision: bf16-true
devices: 2
data: {class_path: litgpt.data.JSON, init_args: {json_path: rows.json}}
train: {global_batch_size: 16, micro_batch_size: 2, lr_warmup_steps: 10}
optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.0002}}
"""


def test_a_configuration(tmp_path: Path) -> None:
    tree, record = imported(tmp_path, TEXT)

    assert record.framework == "litgpt"
    made = plain(tree)
    training = made["training"]
    assert made["data"] == {"train": "rows.json"}
    assert training["lora"]["target_modules"] == ["q_proj", "v_proj", "o_proj"]
    assert training["gradient_accumulation_steps"] == 4
    assert training["completion_only_loss"] is False
    assert training["quantization"] == {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    }
    assert "5 %" in next(one.why for one in record.not_mapped if "val_split" in one.key)
