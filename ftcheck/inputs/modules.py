"""The modules of a model by name, with their shapes: what adapters can be put on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from ftcheck.inputs.model_shape import Decoder, Linear


@dataclass(frozen=True, slots=True)
class Modules:
    """Modules by the names that PEFT sees, without any weights.

    `linear` are inputs and outputs of linear modules, `embeddings` rows and width of tables, `parameters`
    the shapes of all weights (a tied one stands once); `names` are all modules. `head` is the output
    layer, where it is known, and `tied` says that its weight is the embedding's. `total` is the number of
    weights, `source` what all this was read from.
    """

    linear: Mapping[str, tuple[int, int]]
    parameters: Mapping[str, tuple[int, ...]]
    embeddings: Mapping[str, tuple[int, int]]
    total: int
    source: str
    names: tuple[str, ...] = field(default=())
    head: str | None = None
    tied: bool = False
    model_type: str | None = None

    @property
    def embedding(self) -> str | None:
        """The input embedding: the outermost table, and the largest where there are several."""
        found = sorted(self.embeddings, key=lambda name: (name.count("."), -self.embeddings[name][0]))
        return found[0] if found else None


NORMS = ("input_layernorm", "post_attention_layernorm")


@lru_cache(maxsize=16)
def decoder_modules(shape: Decoder) -> Modules:
    """The modules of a plain decoder, by Llama's names, where only its dimensions are known."""
    linear = {name: (one.inputs, one.outputs) for name, one in _linears(shape)}
    table = (shape.vocabulary, shape.hidden)
    parameters: dict[str, tuple[int, ...]] = {f"{name}.weight": size[::-1] for name, size in linear.items()}
    parameters |= {f"{name}.bias": (one.outputs,) for name, one in _linears(shape) if one.bias}
    norms = [f"model.layers.{layer}.{norm}" for layer in range(shape.layers) for norm in NORMS]
    parameters |= {f"{name}.weight": (shape.hidden,) for name in [*norms, "model.norm"]}
    parameters["model.embed_tokens.weight"] = table
    if not shape.tied:
        parameters["lm_head.weight"] = table
    linear["lm_head"] = (shape.hidden, shape.vocabulary)
    others = [*norms, *_activations(shape), "model.norm", "model.rotary_emb"]
    leaves = [*linear, *others, "model.embed_tokens"]
    parents = (name.split(".")[:depth] for name in leaves for depth in range(1, name.count(".") + 2))
    return Modules(
        linear=linear,
        parameters=parameters,
        embeddings={"model.embed_tokens": table},
        total=shape.weights,
        source="the dimensions in config.json",
        names=tuple(dict.fromkeys(map(".".join, parents))),
        head="lm_head",
        tied=shape.tied,
        model_type=shape.model_type,
    )


def _activations(shape: Decoder) -> list[str]:
    name = "activation_fn" if shape.fused else "act_fn"
    return [f"model.layers.{layer}.mlp.{name}" for layer in range(shape.layers)]


def _linears(shape: Decoder) -> Iterator[tuple[str, Linear]]:
    for layer in range(shape.layers):
        for one in shape.linears:
            yield f"model.layers.{layer}.{one.block}.{one.name}", one
