"""The class with which stage `after` loads a base: the one that training loads (item 18)."""

from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.finished.generate import base_class, load

TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def multimodal(folder: Path) -> Path:
    """A small Gemma 3 with a vision tower."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {**VISION, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=TEXT, vision_config=vision, mm_tokens_per_image=4, image_token_index=63)
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def by_trl(folder: Path) -> str:
    from trl.trainer.utils import create_model_from_path

    return type(create_model_from_path(str(folder), device_map=None)).__name__


def asked(base: Path, adapter: Path | None) -> dict[str, Any]:
    return {
        "base": str(base),
        "revision": None,
        "trust_remote_code": False,
        "quantization": None,
        "resize": None,
        "adapter": None if adapter is None else str(adapter),
    }


@pytest.mark.filterwarnings("ignore")
def test_the_class_is_the_one_that_trl_loads(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    text = tmp_path / "text"
    LlamaForCausalLM(LlamaConfig(**TEXT)).save_pretrained(text)
    for folder in (text, multimodal(tmp_path / "both")):
        assert base_class(str(folder), None, False, None).__name__ == by_trl(folder)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_was_trained_on_that_class_loads_without_a_tensor_missing(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from trl.trainer.utils import create_model_from_path

    base = multimodal(tmp_path / "both")
    lora = LoraConfig(r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)")
    get_peft_model(create_model_from_path(str(base), device_map=None), lora).save_pretrained(
        str(tmp_path / "adapter")
    )

    _, facts = load(asked(base, tmp_path / "adapter"))

    assert (facts["not_loaded"], facts["unexpected"]) == ([], [])


def test_an_adapter_of_the_text_model_alone_is_loaded_on_the_text_model(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    base = multimodal(tmp_path / "both")
    names = {
        "text": "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "whole": "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight",
    }
    found = {}
    for kind, name in names.items():
        (tmp_path / kind).mkdir()
        save_file({name: torch.zeros(1)}, str(tmp_path / kind / "adapter_model.safetensors"))
        found[kind] = base_class(str(base), None, False, str(tmp_path / kind)).__name__

    assert found == {"text": "AutoModelForCausalLM", "whole": "Gemma3ForConditionalGeneration"}
