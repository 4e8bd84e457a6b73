"""Small random models of several architectures, ways to put LoRA on them, and what PEFT makes of each."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftcheck.estimate.flops import KNOWN

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "pad_token_id": 0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **SIZES},
    "tied": {"model_type": "llama", "tie_word_embeddings": True, **SIZES},
    "phi3": {"model_type": "phi3", **SIZES},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, **SIZES},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 4, "n_head": 4, "vocab_size": 100},
    "qwen3_moe": {"model_type": "qwen3_moe", "num_experts": 4, "moe_intermediate_size": 16, **SIZES},
}
DECODERS: dict[str, dict[str, Any]] = {
    name: {"model_type": name, "head_dim": 8, **SIZES} for name in sorted(KNOWN)
}
"""Plain decoders; tied or not, biased or not, as their configuration classes have it."""
DECODER_LORAS: list[dict[str, Any]] = [
    {"target_modules": None},
    {"target_modules": "All-Linear"},
    {"target_modules": r".*\.(q|v)_proj"},
    {"target_modules": r".*\.mlp\..*"},
    {"target_modules": r".*\.self_attn\..*_proj"},
    {"target_modules": ("self_attn.o_proj", "down_proj"), "use_dora": True},
    {"target_modules": ("layers.0.mlp.down_proj", "model.layers.3.self_attn.o_proj")},
    {"target_modules": ("o_proj",), "extra": {"layers_to_transform": [1, 2], "layers_pattern": ["layers"]}},
    {"target_modules": "all-linear", "extra": {"exclude_modules": ["o_proj"]}},
    {
        "target_modules": "all-linear",
        "extra": {"rank_pattern": {"o_proj": 2, r"layers\.0\.mlp\.down_proj": 9}},
    },
    {"target_modules": ("o_proj",), "modules_to_save": ("embed_tokens",)},
    {"target_modules": ("o_proj",), "modules_to_save": ("lm_head", "embed_tokens")},
    {"target_modules": ("o_proj", "embed_tokens", "lm_head")},
    {"target_modules": ("o_proj", "norm")},
    {"target_modules": ("nothing",)},
]
LORAS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"target_modules": ("q_proj", "v_proj")}),
    ("llama", {"target_modules": ("q_proj",), "modules_to_save": ("lm_head",)}),
    ("llama", {"target_modules": ("q_proj", "Wqkv")}),
    ("llama", {"target_modules": ("self_attn.q_proj", "model.layers.1.mlp.up_proj")}),
    ("llama", {"target_modules": "all-linear"}),
    ("llama", {"target_modules": "ALL-LINEAR", "use_dora": True}),
    ("llama", {"target_modules": r".*\.[02]\..*(q|k)_proj"}),
    ("llama", {"target_modules": None}),
    ("llama", {"target_modules": ("q_proj",), "extra": {"layers_to_transform": [1, 3]}}),
    ("llama", {"target_modules": ("q_proj",), "extra": {"layers_to_transform": 2}}),
    (
        "llama",
        {"target_modules": ("q_proj",), "extra": {"layers_to_transform": [0], "layers_pattern": "layers"}},
    ),
    ("llama", {"target_modules": ("q_proj", "o_proj"), "extra": {"exclude_modules": ["o_proj"]}}),
    ("llama", {"target_modules": "all-linear", "extra": {"exclude_modules": r".*\.0\..*"}}),
    ("llama", {"target_modules": ("q_proj", "v_proj"), "extra": {"rank_pattern": {"q_proj": 7}}}),
    ("llama", {"target_modules": ("embed_tokens", "lm_head")}),
    ("llama", {"target_modules": ("q_proj",), "modules_to_save": ("embed_tokens", "lm_head")}),
    ("llama", {"target_modules": ("q_proj",), "extra": {"trainable_token_indices": [3, 4]}}),
    ("tied", {"target_modules": ("q_proj",), "modules_to_save": ("lm_head",)}),
    ("tied", {"target_modules": "all-linear"}),
    ("phi3", {"target_modules": ("qkv_proj", "down_proj")}),
    ("phi3", {"target_modules": "all-linear"}),
    ("gpt2", {"target_modules": None}),
    ("gpt2", {"target_modules": "all-linear"}),
    ("mixtral", {"target_modules": "all-linear"}),
    ("mixtral", {"target_modules": r".*\.0\..*(q_proj|w1|w3)"}),
    ("mixtral", {"target_modules": r".*self_attn.*(q|v)_proj"}),
    ("qwen3_moe", {"target_modules": "all-linear"}),
    (
        "mixtral",
        {
            "target_modules": ("q_proj",),
            "extra": {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
        },
    ),
    ("mixtral", {"target_modules": ("q_proj", "w1", "w2", "w3")}),
    ("qwen3_moe", {"target_modules": ("q_proj", "gate_proj", "up_proj", "down_proj")}),
    ("qwen3_moe", {"target_modules": ("q_proj", "k_proj")}),
    (
        "gpt2",
        {"target_modules": ("c_proj",), "extra": {"layers_to_transform": [0, 3], "layers_pattern": "h"}},
    ),
    ("gpt2", {"target_modules": ("attn.c_proj", "wte")}),
    ("llama", {"target_modules": ("q_proj",), "modules_to_save": ("norm",)}),
    ("llama", {"target_modules": ("q_proj",), "modules_to_save": ("head", "layers.1.mlp")}),
]


@dataclass(frozen=True, slots=True)
class Attached:
    """What PEFT did: how many weights it trains, and the modules that LoRA is on."""

    trained: int
    modules: frozenset[str]


def with_peft(config: Mapping[str, Any], lora: Mapping[str, Any], *, real: bool = True) -> Attached:
    """LoRA of rank 4 (unless stated) on a model of this config.json; not `real`: on the meta device."""
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.layer import LoraLayer, ParamWrapper
    from transformers import AutoConfig, AutoModelForCausalLM

    plain = {key: list(one) if isinstance(one, tuple) else one for key, one in lora.items() if key != "extra"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    stated = {"r": 4, "task_type": "CAUSAL_LM", **plain, **lora.get("extra", {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = model.to_empty(device="cpu") if real else model
        made = get_peft_model(base, LoraConfig(**stated), low_cpu_mem_usage=not real)
    on = (
        name
        for name, module in made.get_base_model().named_modules()
        if isinstance(module, LoraLayer) and not isinstance(module, ParamWrapper)
    )
    trained = sum(one.numel() for one in made.parameters() if one.requires_grad)
    return Attached(trained, frozenset(on))
