"""torchtune: references between keys, builders, and the defaults that nobody writes down."""

from pathlib import Path
from typing import Any

from ftcheck.policy.nodes import plain
from tests.importers.test_sheet import imported

TEXT = """\
output_dir: /tmp/out
tokenizer: {_component_: torchtune.models.llama3.llama3_tokenizer, path: t, max_seq_len: 512}
dataset: {_component_: torchtune.datasets.alpaca_dataset}
checkpointer: {checkpoint_dir: /tmp/model, output_dir: "${output_dir}/x"}
optimizer: {_component_: torch.optim.AdamW, lr: 2e-5}
batch_size: 2
epochs: 1
"""


def read(tmp_path: Path, extra: str = "", text: str = TEXT) -> dict[str, Any]:
    made: dict[str, Any] = plain(imported(tmp_path, text + extra)[0])
    return made


def test_alpaca_trains_on_the_prompt_unless_told_otherwise(tmp_path: Path) -> None:
    assert read(tmp_path)["training"]["completion_only_loss"] is False

    told = TEXT.replace("alpaca_dataset}", "alpaca_dataset, train_on_input: false}")
    assert read(tmp_path, text=told)["training"]["completion_only_loss"] is True


def test_defaults_of_the_optimizer_the_schedule_and_clipping(tmp_path: Path) -> None:
    training = read(tmp_path)["training"]
    assert training["weight_decay"] == 0.01
    assert training["lr_scheduler_type"] == "constant"
    assert training["max_grad_norm"] == 0
    assert training["optim"] == "adamw_torch"


def test_references_are_followed_and_other_interpolations_are_not(tmp_path: Path) -> None:
    text = TEXT.replace("output_dir: /tmp/out", "output_dir: /tmp/${name}\nname: a")
    assert read(tmp_path, text=text)["training"]["output_dir"] == "/tmp/a"

    text = TEXT.replace("output_dir: /tmp/out", "output_dir: '${oc.env:HOME}/out'")
    record = imported(tmp_path, text)[1]
    [found] = [one for one in record.not_mapped if one.key == "output_dir"]
    assert "OmegaConf interpolation" in found.why


def test_a_reference_to_itself_ends(tmp_path: Path) -> None:
    record = imported(tmp_path, TEXT.replace("output_dir: /tmp/out", "output_dir: '${output_dir}/x'"))[1]
    assert "output_dir" in {one.key for one in record.not_mapped}


def test_steps_per_epoch_are_steps_where_there_is_one_epoch(tmp_path: Path) -> None:
    assert read(tmp_path, "max_steps_per_epoch: 50\n")["training"]["max_steps"] == 50

    record = imported(tmp_path, TEXT.replace("epochs: 1", "epochs: 2") + "max_steps_per_epoch: 50\n")[1]
    assert "max_steps_per_epoch" in {one.key for one in record.not_mapped}
