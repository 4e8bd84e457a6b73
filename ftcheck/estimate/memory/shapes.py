"""What decides a job's memory beside the model's dimensions: how it is trained, what a batch holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.errors import InputError
from ftcheck.estimate.lora_targets import decoder_adapter, saved_by
from ftcheck.inputs.model_shape import Decoder
from ftcheck.settings import Job

if TYPE_CHECKING:
    from numpy.typing import NDArray

KNOWN = frozenset({"llama", "mistral", "phi3", "qwen2", "qwen3"})
"""Decoder layers whose formulas were held against traced steps (tests/estimate/memory/test_trace.py)."""

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
    """The memory of this way of training is not known, and nobody guesses."""


@dataclass(frozen=True, slots=True)
class Method:
    """How the model is trained. Defaults are QLoRA's: NF4, double quantisation, r 16 on all linear modules.

    `bits` are 4, 8 or 16; `block` is the quantisation block in weights; `compute_bytes` are the bytes of a
    number that 4-bit layers compute in, `number` of one in the rest of the model. `ranks` are names of
    linear modules with the rank on each (None: `rank` on all), the largest where layers differ. `trained`
    counts trained weights (None: those of `ranks` on every layer), `adapted` the layers that have any (None:
    all). `adapter_bytes` is a trained weight, `state_bytes` its optimizer state. `saved` are modules_to_save:
    ends of the names of modules that are trained whole, as a copy.
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
    trained: int | None = None
    saved: tuple[str, ...] = ()
    adapted: int | None = None
    checkpointing: bool = True
    attention: str = "sdpa"
    full_logits: bool = False

    def rank_of(self, name: str) -> int:
        """Rank of the adapter on a linear module; 0 where there is none."""
        return self.rank if self.ranks is None else self.ranks.get(name, 0)

    def saves(self, name: str) -> bool:
        """Whether a module is trained whole, or one that it is in."""
        return saved_by(self.saved, name)

    def adapter(self, shape: Decoder) -> int:
        """Trained weights: both factors on every module, and what is trained whole."""
        if self.trained is not None:
            return self.trained
        layer = sum(self.rank_of(one.name) * (one.inputs + one.outputs) for one in shape.linears)
        return shape.layers * layer


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


def method(job: Job, shape: Decoder) -> Method:
    """How a job trains. Raises `CannotTell` for what the formulas do not cover, and `UnknownShape`
    for target_modules that PEFT would refuse.
    """
    training, extra = job.training, job.training.extra
    if training.lora is None:
        raise CannotTell("all weights are trained (no training.lora): this memory is not modelled")
    adapter = decoder_adapter(training.lora, shape)
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
        ranks=adapter.ranks,
        dropout=training.lora.lora_dropout,
        adapter_bytes=adapter_bytes,
        state_bytes=state_bytes(job, adapter_bytes),
        trained=adapter.trained,
        saved=tuple(training.lora.modules_to_save or ()),
        adapted=adapter.layers,
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


def state_bytes(job: Job, weight: int) -> float:
    """Bytes of optimizer state for a trained weight of `weight` bytes."""
    name = str(job.training.optim or "adamw_torch_fused")
    if name not in OPTIMIZERS:
        return 8.0
    if name == "sgd":
        return 0.0
    return OPTIMIZERS[name] or 2.0 * weight


def feed(job: Job, shape: Decoder, *, longest: int, sequences: int | None = None) -> Feed:
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


def usual_length(job: Job, lengths: "NDArray[Any]") -> int | None:
    """Tokens of the longest row of a usual batch: half of the batches drawn by chance are no longer.

    `lengths` are those of the rows as fed. None where the longest batch comes first: one batch is all there
    is, or batches are grouped by length (transformers' LengthGroupedSampler begins with the longest).
    """
    import numpy as np

    training = job.training
    batch = training.per_device_train_batch_size
    if len(lengths) <= batch or training.extra.get("train_sampling_strategy") == "group_by_length":
        return None
    # A padded batch has the length of its longest row; a flat one has all its rows, long and short.
    return round(float(np.quantile(lengths, 0.5 if training.padding_free else 0.5 ** (1 / batch))))
