"""What decides a job's memory: the model's dimensions, how it is trained, what a batch holds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftcheck import tables
from ftcheck.errors import InputError
from ftcheck.settings import Job, Lora

KNOWN = frozenset({"llama", "mistral", "phi3", "qwen2", "qwen3"})
"""Decoder layers that the formulas were held against a simulation of (tests/test_memory.py)."""

FUSED = frozenset({"phi3"})
"""Types with qkv_proj and gate_up_proj in one."""

STRANGE: Mapping[str, str] = {
    "num_experts": "experts",
    "num_local_experts": "experts",
    "n_routed_experts": "experts",
    "moe_intermediate_size": "experts",
    "kv_lora_rank": "latent attention",
    "mamba_d_state": "state-space layers",
    "ssm_cfg": "state-space layers",
    "linear_num_value_heads": "linear attention",
    "vision_config": "a vision tower",
    "audio_config": "an audio tower",
}
"""Keys of config.json that say the model is no plain decoder."""

OPTIMIZERS: Mapping[str, float] = {
    "adamw_torch": 0,
    "adamw_torch_fused": 0,
    "adamw_hf": 0,
    "adamw_8bit": 2,
    "adamw_bnb_8bit": 2,
    "paged_adamw_8bit": 2,
    "paged_adamw": 8,
    "paged_adamw_32bit": 8,
    "sgd": 0.0,
    "lion_8bit": 1,
    "paged_lion_8bit": 1,
    "lion_32bit": 4,
    "paged_lion_32bit": 4,
}
"""Bytes of optimizer state a trained weight; 0 for torch's own, whose states have the weight's dtype."""


class CannotTell(InputError):
    """The memory of this model or this way of training is not known, and nobody guesses."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear module of a decoder layer."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        """Numbers in its matrix."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder of equal layers with a gated MLP, by the names of config.json.

    `queries` and `keys` are the widths of all query heads and of all key (or value) heads. `known` says
    that the formulas were held against this model_type.
    """

    model_type: str
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
    known: bool

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear modules of one layer."""
        wide, out, inner = self.hidden, self.queries, self.intermediate
        last = (Linear("o_proj", out, wide), Linear("down_proj", inner, wide))
        if self.fused:
            first = (Linear("qkv_proj", wide, out + 2 * self.keys), Linear("gate_up_proj", wide, 2 * inner))
            return (*first, *last)
        attention = (("q_proj", out), ("k_proj", self.keys), ("v_proj", self.keys))
        qkv = tuple(Linear(name, wide, width, self.biased) for name, width in attention)
        return (*qkv, Linear("gate_proj", wide, inner), Linear("up_proj", wide, inner), *last)

    @property
    def weights(self) -> int:
        """All weights of the model, biases and norms among them."""
        layer = sum(one.weights for one in self.linears)
        return self.layers * layer + self.plain

    @property
    def plain(self) -> int:
        """Numbers that no quantisation touches: embedding, head, norms, biases."""
        biases = sum(one.outputs for one in self.linears if one.bias)
        tables_ = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return tables_ + self.layers * (2 * self.hidden + biases) + self.hidden


def architecture(config: Mapping[str, Any]) -> Architecture:
    """The dimensions that config.json states. Raises `CannotTell` where it is no plain decoder."""
    kind = str(config.get("model_type", "of no type"))
    for key, words in STRANGE.items():
        if config.get(key):
            raise CannotTell(f"a model of type {kind} with {words}: its memory is not modelled")
    text = config.get("text_config", config)
    try:
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        pairs = int(text.get("num_key_value_heads") or heads)
        width = int(text.get("head_dim") or hidden // heads)
        return Architecture(
            model_type=kind,
            layers=int(text["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(text["intermediate_size"]),
            heads=heads,
            queries=heads * width,
            keys=pairs * width,
            vocabulary=int(text["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            biased=bool(text.get("attention_bias", kind == "qwen2")),
            fused=kind in FUSED,
            window=_window(text),
            known=kind in KNOWN,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CannotTell(f"a model of type {kind}: its config.json lacks {error}") from error


def _window(text: Mapping[str, Any]) -> int | None:
    window = text.get("sliding_window")
    if text.get("use_sliding_window", True) is False or not isinstance(window, int):
        return None
    return window


def well_known(name: str) -> Mapping[str, Any] | None:
    """config.json's dimensions of a well-known model by its hub name or its last part, from a dated table."""
    models: Mapping[str, Mapping[str, Any]] = tables.load("architectures")["models"]
    own = name.rstrip("/").rpartition("/")[2].lower()
    found = [one for known, one in models.items() if own == known.rpartition("/")[2].lower()]
    return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Method:
    """How the model is trained. Defaults are QLoRA's: NF4, double quantisation, r 16 on all linear modules.

    `bits` are 4, 8 or 16; `block` is the quantisation block in weights; `compute_bytes` are the bytes of a
    number that 4-bit layers compute in, `number` of one in the rest of the model. `ranks` are names of
    linear modules with the rank on each (None: `rank` on all). `adapter_bytes` is a trained weight,
    `state_bytes` its optimizer state. `whole` are numbers of modules trained whole (modules_to_save).
    """

    bits: int = 4
    double: bool = True
    block: int = 64
    compute_bytes: int = 2
    number: int = 2
    rank: int = 16
    ranks: Mapping[str, int] | None = None
    dropout: float = 0.0
    adapter_bytes: int = 2
    state_bytes: float = 4
    whole: int = 0
    checkpointing: bool = True
    attention: str = "sdpa"
    full_logits: bool = False

    def rank_of(self, name: str) -> int:
        """Rank of the adapter on a linear module; 0 where there is none."""
        return self.rank if self.ranks is None else self.ranks.get(name, 0)

    def adapter(self, shape: Architecture) -> int:
        """Trained weights: both factors on every module, and the modules that are trained whole."""
        layer = sum(self.rank_of(one.name) * (one.inputs + one.outputs) for one in shape.linears)
        return shape.layers * layer + self.whole


@dataclass(frozen=True, slots=True)
class Feed:
    """One batch as it goes through the model: `rows` of `length` tokens.

    `masked` says that attention gets a mask (padding, documents in a block, a sliding window), which makes
    torch hold it as a bias. `scored` tokens are in the loss; default: all.
    """

    rows: int
    length: int
    masked: bool = False
    scored: int | None = None

    @property
    def tokens(self) -> int:
        """Cells of the batch."""
        return self.rows * self.length


def method(job: Job, shape: Architecture) -> Method:
    """How a job trains. Raises `CannotTell` for what the formulas do not cover."""
    training, extra = job.training, job.training.extra
    if training.lora is None:
        raise CannotTell("all weights are trained (no training.lora): this memory is not modelled")
    for key in ("deepspeed", "fsdp"):
        if extra.get(key):
            raise CannotTell(f"training.{key} distributes the model over GPUs: this memory is not modelled")
    chosen = training.quantization
    bits = 16 if chosen is None else 4 if chosen.load_in_4bit else 8 if chosen.load_in_8bit else 16
    number = 4 if training.bf16 is False and not training.fp16 else 2
    # TRL casts a quantised model's adapter to bfloat16; PEFT keeps any other in float32.
    adapter_bytes = 2 if bits in (4, 8) else 4
    return Method(
        bits=bits,
        double=bool(chosen and chosen.bnb_4bit_use_double_quant),
        block=64,
        compute_bytes=_compute_bytes(job),
        number=number,
        rank=training.lora.r,
        ranks=_ranks(training.lora, shape),
        dropout=training.lora.lora_dropout,
        adapter_bytes=adapter_bytes,
        state_bytes=_state_bytes(job, adapter_bytes),
        whole=_whole(training.lora, shape),
        checkpointing=bool(extra.get("activation_checkpointing", training.gradient_checkpointing)),
        attention=attention_of(job),
        full_logits=bool(extra.get("label_smoothing_factor")),
    )


def attention_of(job: Job) -> str:
    """training.model_init_kwargs.attn_implementation; transformers' default is sdpa."""
    given = (job.training.extra.get("model_init_kwargs") or {}).get("attn_implementation")
    return str(given or "sdpa")


def _compute_bytes(job: Job) -> int:
    chosen = job.training.quantization
    return 4 if chosen is not None and chosen.bnb_4bit_compute_dtype in (None, "float32") else 2


def _state_bytes(job: Job, weight: int) -> float:
    name = str(job.training.optim or "adamw_torch_fused")
    if name not in OPTIMIZERS:
        return 8.0
    if name == "sgd":
        return 0.0
    return OPTIMIZERS[name] or 2.0 * weight


def _ranks(lora: Lora, shape: Architecture) -> Mapping[str, int] | None:
    """Rank by module name. `all-linear` is all; a text is a regular expression over whole names."""
    targets = lora.target_modules
    if targets == "all-linear":
        return None
    names = [one.name for one in shape.linears]
    if targets is None:
        found: Any = tables.load("lora_targets")["defaults"].get(shape.model_type)
        targets = tuple(found) if isinstance(found, list) else None
    if targets is None:
        return None
    if isinstance(targets, str):
        return {name: lora.r for name in names if _matches(targets, name)}
    return {name: lora.r for name in names if any(f".{name}".endswith(f".{one}") for one in targets)}


def _matches(pattern: str, name: str) -> bool:
    block = "mlp" if name in ("gate_proj", "up_proj", "gate_up_proj", "down_proj") else "self_attn"
    try:
        return re.fullmatch(pattern, f"model.layers.0.{block}.{name}") is not None
    except re.error:
        return True


def _whole(lora: Lora, shape: Architecture) -> int:
    tables_ = {"lm_head", "embed_tokens"}
    return sum(shape.vocabulary * shape.hidden for name in lora.modules_to_save or () if name in tables_)


def feed(job: Job, shape: Architecture, *, longest: int, sequences: int | None = None) -> Feed:
    """The worst batch that the trainer feeds.

    TRL's packing (but `wrapped`) and padding_free flatten a batch into one row; otherwise rows are padded
    to the longest. `longest` is that of the rows as fed, in tokens; `sequences` is how many there are.
    """
    training = job.training
    batch = max(1, min(training.per_device_train_batch_size, sequences or 1 << 62))
    length = training.max_length if training.packing and training.max_length else longest
    every = training.extra.get("pad_to_multiple_of")
    if isinstance(every, int) and every > 0:
        length = -(-length // every) * every
    flat = training.padding_free or (training.packing and training.packing_strategy != "wrapped")
    sees_masks = not attention_of(job).startswith(("flash", "kernels"))
    windowed = shape.window is not None and length > shape.window
    if flat:
        return Feed(1, batch * length, sees_masks)
    padded = batch > 1 and not training.packing
    return Feed(batch, length, sees_masks and (padded or windowed))
