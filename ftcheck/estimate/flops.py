"""Multiplications of a training step, by component: what a token costs in a model of a known shape.

A multiply-add counts as two. Formulas: Kaplan et al. (arXiv 2001.08361, table 1) for matrices and attention;
Chowdhery et al. (PaLM, arXiv 2204.02311, appendix B) for attention by length; a frozen base computes the
gradient of its input and none of its weights, which saves a third of the usual 6 a weight; gradient
checkpointing runs the forward pass of the layers again (Chen et al., arXiv 1604.06174).
"""

from dataclasses import dataclass

from ftcheck.estimate.lora_targets import Adapter
from ftcheck.inputs.model_shape import Decoder, ModelShape, UnknownShape

KNOWN = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "granite", "olmo2", "smollm3"}
)
"""Values of model_type whose layers are attention and a gated MLP, and nothing else that multiplies."""


def counted_decoder(shape: ModelShape) -> Decoder:
    """A model as a decoder of which every product is known. Raises `UnknownShape` with the reason."""
    if shape.model_type not in KNOWN:
        raise UnknownShape(f"the architecture '{shape.model_type}' is unknown")
    return shape.decoder()


def _last(shape: Decoder, adapter: Adapter | None) -> tuple[float, float]:
    """The last product of all layers, as multiplications of (base, adapter): down_proj, or its matrix B."""
    down = shape.linears[-1]
    ranks = () if adapter is None else adapter.down_ranks
    return 2.0 * (shape.layers - len(ranks)) * down.weights, 2.0 * sum(ranks) * down.outputs


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
    shape: Decoder,
    adapter: Adapter | None,
    *,
    positions: float,
    checkpointing: bool,
    scores_again: bool = True,
    head_again: bool = False,
    head_share: float = 1.0,
) -> Flops:
    """What a token multiplies. `positions` are those it attends to on average: half its row, if causal.

    Without an `adapter` every weight is trained. `scores_again`: attention's backward pass computes the
    scores once more, as flash and memory-efficient kernels do (5 products for the forward pass's 2, else 4).
    Checkpointing (not reentrant, transformers' default) does not make a layer's last product again.
    `head_again`: the loss computes its logits again in the backward pass; `head_share` of the tokens have
    logits at all (TRL's loss makes them for trained tokens only). The embedding looks up, and multiplies
    nothing. Gradients flow down to the input of the first layer.
    """
    whole = adapter is None
    head_trained = adapter is None or adapter.head
    base = 2.0 * shape.linear_weights
    scores = 4.0 * positions * shape.queries * shape.layers
    head = 2.0 * shape.table * head_share
    low_rank = 0.0 if adapter is None else 2.0 * adapter.products
    last_base, last_adapter = _last(shape, adapter)
    base_again, scores_twice, adapter_again = base - last_base, scores, low_rank - last_adapter
    if not checkpointing:
        base_again = scores_twice = adapter_again = 0.0
    parts = (
        Component("base", base, base_again, (2 if whole else 1) * base),
        Component("attention", scores, scores_twice, (2.5 if scores_again else 2.0) * scores),
        Component("adapter", low_rank, adapter_again, 2 * low_rank),
        Component("head", head, head if head_again else 0.0, (2 if head_trained else 1) * head),
    )
    return Flops(parts)
