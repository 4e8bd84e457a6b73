"""A model's dimensions by its config.json: this is the one place that reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftcheck import tables
from ftcheck.errors import InputError

EXPERTS = "a mixture of experts"


class UnknownShape(InputError):
    """The model is not a plain decoder, or its config.json does not state the usual dimensions."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear module of a decoder layer; `block` is `self_attn` or `mlp`."""

    block: str
    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        """Numbers in its matrix."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class Decoder:
    """A plain decoder: equal layers of attention and a gated MLP, with Llama's (or Phi-3's) module names.

    `queries` and `keys` are the widths of all query heads and of all key (or value) heads. `fused`: the
    layers have `qkv_proj` and `gate_up_proj`. `window` is the sliding window in tokens.
    """

    model_type: str | None
    layers: int
    hidden: int
    intermediate: int
    heads: int
    queries: int
    keys: int
    vocabulary: int
    tied: bool
    biased: bool
    fused: bool
    window: int | None

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear modules of one layer, in the order in which they compute."""
        wide, out, inner = self.hidden, self.queries, self.intermediate
        last = (Linear("self_attn", "o_proj", out, wide), Linear("mlp", "down_proj", inner, wide))
        if self.fused:
            qkv = Linear("self_attn", "qkv_proj", wide, out + 2 * self.keys)
            return (qkv, Linear("mlp", "gate_up_proj", wide, 2 * inner), *last)
        attention = (("q_proj", out), ("k_proj", self.keys), ("v_proj", self.keys))
        first = tuple(Linear("self_attn", name, wide, width, self.biased) for name, width in attention)
        return (*first, Linear("mlp", "gate_proj", wide, inner), Linear("mlp", "up_proj", wide, inner), *last)

    @property
    def linear_weights(self) -> int:
        """Weights of all layers' linear modules: what is quantised, and what a token is multiplied with."""
        return self.layers * sum(one.weights for one in self.linears)

    @property
    def table(self) -> int:
        """Weights of the embedding, and as many of the output layer: vocabulary x hidden."""
        return self.vocabulary * self.hidden

    @property
    def plain(self) -> int:
        """Numbers that no quantisation touches: embedding, head, norms, biases."""
        biases = sum(one.outputs for one in self.linears if one.bias)
        tables_ = self.table * (1 if self.tied else 2)
        return tables_ + self.layers * (2 * self.hidden + biases) + self.hidden

    @property
    def weights(self) -> int:
        """All weights of the model, biases and norms among them."""
        return self.linear_weights + self.plain


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a config.json states of its text model; None for what it does not state.

    `positions` is the context before any scaling, `window` the sliding window, both in tokens; `experts`
    counts those of one layer (0: none). `other_parts` says in words what a plain decoder does not have.
    """

    model_type: str | None
    layers: int | None
    hidden: int | None
    intermediate: int | None
    heads: int | None
    key_value_heads: int | None
    head_size: int | None
    vocabulary: int | None
    positions: int | None
    window: int | None
    experts: int
    tied: bool
    biased: bool
    fused: bool
    other_parts: str | None

    def decoder(self) -> Decoder:
        """The same as a plain decoder. Raises `UnknownShape` for what is none, or states too little."""
        kind = self.model_type or "unknown"
        if self.other_parts is not None:
            raise UnknownShape(f"a model of type {kind} with {self.other_parts}, not a plain decoder")
        hidden, heads = self._need("hidden"), self._need("heads")
        size = self.head_size or hidden // heads
        return Decoder(
            model_type=self.model_type,
            layers=self._need("layers"),
            hidden=hidden,
            intermediate=self._need("intermediate"),
            heads=heads,
            queries=heads * size,
            keys=(self.key_value_heads or heads) * size,
            vocabulary=self._need("vocabulary"),
            tied=self.tied,
            biased=self.biased,
            fused=self.fused,
            window=self.window,
        )

    def _need(self, name: str) -> int:
        found: int | None = getattr(self, name)
        if not found:
            key, kind = keys(name)[0], self.model_type or "unknown"
            raise UnknownShape(f"a model of type {kind}: its config.json does not state {key}")
        return found


def keys(name: str) -> tuple[str, ...]:
    """The keys of config.json under which models state a dimension, such as `layers`."""
    return tuple(tables.load("model_shapes")["keys"][name])


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The text model's part of a config.json; all of it where there is one model only."""
    for key in tables.load("model_shapes")["parts"]:
        part = config.get(key)
        if isinstance(part, Mapping):
            return text_config(part)
    return config


def model_shape(config: Mapping[str, Any]) -> ModelShape:
    """What a config.json states, from its text model first, then from the top."""
    text, table = text_config(config), tables.load("model_shapes")
    kind = _text(config.get("model_type"))
    kinds = {kind, _text(text.get("model_type"))}
    sizes = {name: _size(config, text, name) for name in table["keys"] if name != "experts"}
    experts = _experts(config, text)
    return ModelShape(
        model_type=kind,
        window=_window(text),
        experts=experts,
        tied=_stated(config, text, "tie_word_embeddings", bool(kinds & set(table["tied"]))),
        biased=_stated(text, text, "attention_bias", bool(kinds & set(table["biased"]))),
        fused=bool(kinds & set(table["fused"])),
        other_parts=EXPERTS if experts else _other_parts(config, text),
        **sizes,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _size(config: Mapping[str, Any], text: Mapping[str, Any], name: str) -> int | None:
    for part in (text, config):
        for key in keys(name):
            if type(part.get(key)) is int:
                return int(part[key])
    return None


def _stated(config: Mapping[str, Any], text: Mapping[str, Any], key: str, default: bool) -> bool:
    return bool(config.get(key, text.get(key, default)))


def _experts(config: Mapping[str, Any], text: Mapping[str, Any]) -> int:
    """Experts of a layer; DBRX states them in `ffn_config`."""
    inner = text.get("ffn_config")
    parts = [text, config, inner if isinstance(inner, Mapping) else {}]
    found = [part[key] for part in parts for key in keys("experts") if type(part.get(key)) is int]
    return max(found, default=0)


def _other_parts(config: Mapping[str, Any], text: Mapping[str, Any]) -> str | None:
    named: Mapping[str, str] = tables.load("model_shapes")["other_parts"]
    return next((words for key, words in named.items() if config.get(key) or text.get(key)), None)


def _window(text: Mapping[str, Any]) -> int | None:
    window = text.get("sliding_window")
    return None if type(window) is not int or text.get("use_sliding_window", True) is False else window


def well_known(name: str) -> Mapping[str, Any] | None:
    """config.json's dimensions of a well-known model by its hub name or its last part, from a dated table."""
    models: Mapping[str, Mapping[str, Any]] = tables.load("architectures")["models"]
    own = name.rstrip("/").rpartition("/")[2].lower()
    found = [one for known, one in models.items() if own == known.rpartition("/")[2].lower()]
    return found[0] if found else None
