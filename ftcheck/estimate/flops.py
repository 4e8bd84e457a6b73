"""Multiplications of a training step, by component: what a token costs in a model of a known shape.

A multiply-add counts as two. Formulas: Kaplan et al. (arXiv 2001.08361, table 1) for matrices and attention;
Chowdhery et al. (PaLM, arXiv 2204.02311, appendix B) for attention by length; a frozen base computes the
gradient of its input and none of its weights, which saves a third of the usual 6 a weight; gradient
checkpointing runs the forward pass of the layers again (Chen et al., arXiv 1604.06174).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftcheck import tables
from ftcheck.settings import Lora

KNOWN = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "granite", "olmo2", "smollm3"}
)
"""Values of model_type whose layers are attention and a gated MLP, and nothing else that multiplies."""
FUSED = frozenset({"phi3"})
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj"})


@dataclass(frozen=True, slots=True)
class Shape:
    """The matrices of a decoder: `linear` are (inputs, outputs) of one layer's linear modules, by name.

    `attended` are the numbers of all heads together, heads x head_dim. `head` is vocabulary x hidden.
    """

    model_type: str
    layers: int
    attended: int
    linear: Mapping[str, tuple[int, int]]
    head: int

    @property
    def weights(self) -> int:
        """Weights of all layers' linear modules: what is quantised, and what a token is multiplied with."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linear.values())


def shape(config: Mapping[str, Any]) -> Shape:
    """The shape of a model by its config.json. Raises `ValueError` with the reason where it is not known."""
    kind = str(config.get("model_type"))
    if kind not in KNOWN:
        raise ValueError(f"the architecture '{kind}' is unknown")
    if any(config.get(key) for key in EXPERTS):
        raise ValueError("the number of active experts is unknown (mixture of experts)")
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        size = int(config.get("head_dim") or hidden // heads)
        keys = int(config.get("num_key_value_heads") or heads) * size
        linear = _linear(hidden, heads * size, keys, int(config["intermediate_size"]), kind in FUSED)
        layers, vocabulary = int(config["num_hidden_layers"]), int(config["vocab_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"config.json is incomplete: {error}") from error
    return Shape(kind, layers, heads * size, linear, vocabulary * hidden)


def _linear(hidden: int, queries: int, keys: int, inner: int, fused: bool) -> dict[str, tuple[int, int]]:
    both = {"o_proj": (queries, hidden), "down_proj": (inner, hidden)}
    if fused:
        return {"qkv_proj": (hidden, queries + 2 * keys), "gate_up_proj": (hidden, 2 * inner), **both}
    attention = {"q_proj": (hidden, queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys)}
    return {**attention, "gate_proj": (hidden, inner), "up_proj": (hidden, inner), **both}


def adapter_weights(shape: Shape, lora: Lora) -> int:
    """Weights of the adapter's matrices A and B on the modules of all layers: r x (inputs + outputs) each."""
    found = 0
    for layer in range(shape.layers):
        for name, (inputs, outputs) in shape.linear.items():
            block = "self_attn" if name in ATTENTION else "mlp"
            if _targeted(f"model.layers.{layer}.{block}.{name}", shape.model_type, lora):
                found += lora.r * (inputs + outputs)
    return found


def _last(shape: Shape, lora: Lora | None) -> tuple[float, float]:
    """The last product of all layers, as multiplications of (base, adapter): down_proj, or its matrix B."""
    inputs, outputs = shape.linear["down_proj"]
    names = (f"model.layers.{layer}.mlp.down_proj" for layer in range(shape.layers))
    adapted = 0 if lora is None else sum(_targeted(name, shape.model_type, lora) for name in names)
    rank = 0 if lora is None else lora.r
    return 2.0 * (shape.layers - adapted) * inputs * outputs, 2.0 * adapted * rank * outputs


def _targeted(name: str, model_type: str, lora: Lora) -> bool:
    """Whether PEFT puts an adapter on this module: by the name's end, or by a regular expression."""
    targets = lora.target_modules
    if targets is None:
        targets = tuple(tables.load("lora_targets")["defaults"].get(model_type, ()))
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, name) is not None
    return any(name == one or name.endswith(f".{one}") for one in targets)


@dataclass(frozen=True, slots=True)
class Component:
    """Multiplications a token of one component: forward, forward `again` (checkpointing), backward."""

    name: str
    forward: float
    again: float
    backward: float

    @property
    def training(self) -> float:
        """All of a training step's."""
        return self.forward + self.again + self.backward


@dataclass(frozen=True, slots=True)
class Flops:
    """Multiplications a token, by component: `base`, `attention`, `adapter`, `head`."""

    parts: tuple[Component, ...]

    @property
    def training(self) -> float:
        """A token in training."""
        return sum(one.training for one in self.parts)

    @property
    def forward(self) -> float:
        """A token in evaluation."""
        return sum(one.forward for one in self.parts)


def flops(
    shape: Shape,
    lora: Lora | None,
    *,
    positions: float,
    checkpointing: bool,
    scores_again: bool = True,
    head_again: bool = False,
    head_share: float = 1.0,
) -> Flops:
    """What a token multiplies. `positions` are those it attends to on average: half its row, if causal.

    Without `lora` every weight is trained. `scores_again`: attention's backward pass computes the scores
    once more, as flash and memory-efficient kernels do (5 products for the forward pass's 2, else 4).
    Checkpointing (not reentrant, transformers' default) does not make a layer's last product again.
    `head_again`: the loss computes its logits again in the backward pass; `head_share` of the tokens have
    logits at all (TRL's loss makes them for trained tokens only). The embedding looks up, and multiplies
    nothing. Gradients flow down to the input of the first layer.
    """
    whole = lora is None
    head_trained = whole or "lm_head" in ((lora.modules_to_save if lora else None) or ())
    base = 2.0 * shape.weights
    scores = 4.0 * positions * shape.attended * shape.layers
    head = 2.0 * shape.head * head_share
    adapter = 0.0 if lora is None else 2.0 * adapter_weights(shape, lora)
    last_base, last_adapter = _last(shape, lora)
    base_again, scores_twice, adapter_again = base - last_base, scores, adapter - last_adapter
    if not checkpointing:
        base_again = scores_twice = adapter_again = 0.0
    parts = (
        Component("base", base, base_again, (2 if whole else 1) * base),
        Component("attention", scores, scores_twice, (2.5 if scores_again else 2.0) * scores),
        Component("adapter", adapter, adapter_again, 2 * adapter),
        Component("head", head, head if head_again else 0.0, (2 if head_trained else 1) * head),
    )
    return Flops(parts)
