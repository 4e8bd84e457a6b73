"""TRL's command line: renamed arguments, ModelConfig's defaults."""

from pathlib import Path
from typing import Any

from ftcheck.policy.nodes import plain
from tests.importers.test_sheet import imported


def read(tmp_path: Path, extra: str) -> dict[str, Any]:
    text = "model_name_or_path: m\ndataset_name: d\n" + extra
    made: dict[str, Any] = plain(imported(tmp_path, text, "trl")[0])
    return made


def test_arguments_that_were_renamed(tmp_path: Path) -> None:
    extra = "max_seq_length: 512\nwarmup_ratio: 0.1\ntorch_dtype: bfloat16\n"
    extra += "packing_strategy: ffd\nuse_liger: true\n"
    training = read(tmp_path, extra)["training"]
    assert (training["max_length"], training["warmup_steps"]) == (512, 0.1)
    assert training["model_init_kwargs"] == {"dtype": "bfloat16"}
    assert (training["packing_strategy"], training["use_liger_kernel"]) == ("bfd", True)


def test_the_defaults_of_model_config_are_not_pefts(tmp_path: Path) -> None:
    training = read(tmp_path, "use_peft: true\nload_in_4bit: true\n")["training"]
    assert training["lora"] == {"bias": "none", "r": 16, "lora_alpha": 32, "lora_dropout": 0.05}
    assert training["quantization"]["bnb_4bit_quant_type"] == "nf4"
    assert training["quantization"]["bnb_4bit_compute_dtype"] == "float32"


def test_without_use_peft_the_arguments_of_lora_do_nothing(tmp_path: Path) -> None:
    assert "lora" not in read(tmp_path, "lora_r: 8\n").get("training", {})
