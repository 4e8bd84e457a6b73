"""Peak memory of one training step by closed formulas, with its parts, as an interval.

Where the formulas come from: weights as bitsandbytes 0.50.2 stores them (functional.py: quantize_4bit,
quantize_blockwise); what a decoder layer keeps for its backward pass from transformers 5.23
(models/llama/modeling_llama.py) and PEFT 0.21.2 (tuners/lora/bnb.py), counted as in Korthikanti et al.
(arXiv 2205.05198, section 4) but for this code; the loss from TRL 1.16 (kernels/chunked_logprob.py);
attention from torch 2.13's flash and memory-efficient kernels (Dao, arXiv 2307.08691: output and one
float32 a row are kept, no length x length matrix). `trace` and `replay` count the same step another way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ftcheck import tables
from ftcheck.estimate.interval import Interval
from ftcheck.estimate.memory.shapes import KNOWN, Feed, Method, feed, method
from ftcheck.estimate.memory.sharding import per_process
from ftcheck.inputs.model_shape import Decoder, Linear, model_shape
from ftcheck.settings import Job

GIB = 1 << 30
MIB = 1 << 20
TILE_TOKENS, TILE_WORDS = 4096, 32768
"""Tile of TRL 1.16's loss (TOKEN_CHUNK_SIZE, _CHUNKED_LOGPROB_CHUNK_SIZE): one of it is held at a time."""

CONTEXT = (0.25 * GIB, 0.45 * GIB, 0.8 * GIB)
"""CUDA context with the kernels that a run loads: least, usual, most. Not counted by torch."""
USUAL_CONTEXT = Interval(*CONTEXT)
WORKSPACE = (8 * MIB, 32 * MIB, 96 * MIB)
"""Workspaces of cuBLAS and cuBLASLt, inside torch's count: 8 MiB a handle, 32 on Hopper."""
FRAGMENTED = (0.0, 0.03, 0.08)
"""Share of what lives shortly that the allocator holds but cannot use."""
MODEL_ERROR = 0.09
"""Share by which what lives shortly may be off: kernels whose own buffers are not seen without a GPU."""
UNKNOWN_ERROR = 0.25
"""The same for a model_type that the formulas were not held against."""


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes of one forward and backward pass beyond weights, adapter, gradients and optimizer state.

    `saved` is what stands at the end of the forward pass, `moments` what is alive at the moments that can be
    the peak.
    """

    saved: float
    moments: Mapping[str, float]

    @property
    def peak(self) -> float:
        """The most of all moments."""
        return max(self.moments.values())

    @property
    def moment(self) -> str:
        """The moment of the peak."""
        return max(self.moments, key=lambda name: self.moments[name])


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory of a job's worst batch on one GPU, in bytes.

    `low`, `likely` and `high` are what the process takes of the GPU, CUDA context and fragmentation with it;
    `allocated` is what torch.cuda.max_memory_allocated would say. `parts` add up to `likely`.
    `assumptions` are in words. `least` is the memory that the run completes in, where that is known: PyTorch
    gives back what it only caches before it goes out of memory. `context` is CUDA's part.
    """

    low: float
    likely: float
    high: float
    allocated: Interval
    parts: Mapping[str, float]
    feed: Feed
    moment: str
    assumptions: tuple[str, ...]
    model_type: str | None = None
    least: Interval | None = None
    context: Interval = USUAL_CONTEXT


def estimate(
    job: Job,
    config: Mapping[str, Any],
    *,
    longest: int,
    sequences: int | None = None,
    scored: int | None = None,
    traced: bool = False,
) -> Memory:
    """Peak memory of the job's worst batch, from the model's config.json alone.

    `longest` is the longest row as fed, in tokens; `sequences` how many rows (or blocks) there are, and
    `scored` the most tokens of a batch that are in the loss (default: all). `traced`: it will be scaled to
    a traced step of this model, so that nothing of its family is unknown. Takes a millisecond, and
    imports neither torch nor transformers. Raises `UnknownShape` for experts, state-space layers and for a
    config.json without the usual dimensions, `CannotTell` for full fine-tuning and for
    ways of sharding that are not modelled.
    """
    shape = model_shape(config).decoder()
    how = method(job, shape)
    batch = replace(feed(job, shape, longest=longest, sequences=sequences), scored=scored)
    return per_process(job, shape, how, whole(job, shape, how, batch, traced=traced))


def whole(job: Job, shape: Decoder, how: Method, batch: Feed, *, traced: bool = False) -> Memory:
    """The memory of one batch fed to a model of this shape, trained this way."""
    one = step(shape, how, batch)
    trained = how.adapter(shape)
    standing = {
        "weights": quantised_bytes(shape, how),
        "unquantised": shape.plain * how.number,
        "adapter": trained * how.adapter_bytes,
        "gradients": trained * how.adapter_bytes * _gradient_share(job),
        "optimizer": trained * how.state_bytes,
    }
    passing = {"activations": one.saved, "working": one.peak - one.saved}
    fixed, moving = sum(standing.values()), one.peak
    least, most = _errors(job, shape, how, batch, moving, known=traced or shape.model_type in KNOWN)
    allocated = Interval(
        low=fixed + least + WORKSPACE[0],
        likely=fixed + moving + WORKSPACE[1],
        high=fixed + most + _command_extra(job, shape, how, batch) + WORKSPACE[2],
    )
    lost = [share * moving for share in FRAGMENTED]
    parts = {
        **standing,
        **passing,
        "workspace": float(WORKSPACE[1]),
        "context": CONTEXT[1],
        "fragmentation": lost[1],
    }
    return Memory(
        low=allocated.low + CONTEXT[0] + lost[0],
        likely=allocated.likely + CONTEXT[1] + lost[1],
        high=allocated.high + CONTEXT[2] + lost[2],
        allocated=allocated,
        parts=parts,
        feed=batch,
        moment=one.moment,
        assumptions=_assumptions(job, shape, how, batch, known=traced or shape.model_type in KNOWN),
        model_type=shape.model_type,
    )


def quantised_bytes(shape: Decoder, how: Method) -> float:
    """Bytes of the linear layers as stored: 0.5625 a weight in 4-bit, 0.51593 with double quantisation.

    4-bit: half a byte a weight, and a scale a block: float32, or a byte with a float32 for 256 of them, a
    code of 256 float32 and an offset (bitsandbytes 0.50.2, functional.py: quantize_4bit). 8-bit: a byte a
    weight, and a float32 a row.
    """
    return shape.layers * sum(_stored(one, how) for one in shape.linears)


def _stored(one: Linear, how: Method) -> float:
    if how.bits == 16:
        return one.weights * how.number
    if how.bits == 8:
        return one.weights + 4 * one.outputs
    blocks = -(-one.weights // how.block)
    code = 16 * 4
    scales = blocks + -(-blocks // 256) * 4 + 256 * 4 + 4 if how.double else blocks * 4
    return one.weights / 2 + scales + code


def _gradient_share(job: Job) -> float:
    """With accumulation all gradients stand while the next batch goes through; else half on average."""
    return 1.0 if job.training.gradient_accumulation_steps > 1 else 0.5


# --- one step ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layer:
    """Bytes that one decoder layer keeps for its backward pass, by where."""

    attention: float
    mlp: float
    last_input: float

    @property
    def total(self) -> float:
        return self.attention + self.mlp


def step(shape: Decoder, how: Method, batch: Feed) -> Step:
    """What one forward and backward pass holds, at each moment that can be the peak."""
    layer = _layer(shape, how, batch)
    number, tokens = how.number, batch.tokens
    stream = number * shape.hidden * tokens
    # TRL gathers the gradient of a head that is trained whole in float32, and casts it.
    head = (4 + number) * shape.vocabulary * shape.hidden if how.saves("lm_head") else 0
    inner = number * shape.intermediate * tokens
    around = 2 * number * shape.queries // shape.heads * batch.length + _mask(how, batch)
    # Between the layers: their inputs with checkpointing, all they keep without; then the last norm's.
    kept = shape.layers * (stream if how.checkpointing else layer.total) + around
    loss = _loss(shape, how, batch)
    end = kept + 4 * shape.hidden * tokens
    moments = {
        "loss": end + loss + head,
        "last norm": kept + 5 * 4 * shape.hidden * tokens,
        "mask": 3 * batch.rows * batch.length**2 + stream if batch.masked else 0.0,
    }
    # Inside the last layer: with checkpointing all it keeps is made again, beside the gradient that came.
    base = kept + 2 * stream + (layer.total if how.checkpointing else 0.0)
    widest = {one.name: _dequantised(one, how) for one in shape.linears}
    down = shape.linears[-1]
    moments["MLP, forward"] = base + widest[down.name] + 2 * stream if how.checkpointing else 0.0
    # The adapter's and the base's gradient of the MLP's product, then of both its factors.
    freed = layer.last_input
    moments["down, backward"] = base - freed + 2 * inner + widest[down.name]
    moments["MLP, backward"] = base - freed + 3 * inner
    for one in shape.linears:
        here = number * tokens * (one.outputs + 2 * one.inputs)
        if one is not down:
            moments[f"{one.name}, backward"] = base - _released(shape, how, batch) + here + widest[one.name]
    moments["attention, backward"] = (
        base
        - _released(shape, how, batch)
        - _mlp_norm(shape, how, tokens)
        + (_attention_backward(shape, how, batch))
    )
    return Step(end + _hidden_copy(shape, how, batch), moments)


def _layer(shape: Decoder, how: Method, batch: Feed) -> _Layer:
    """Each norm keeps its input in float32, each adapter its input, attention and MLP their own.

    An adapter with dropout keeps an input of its own and a mask of a byte a number.
    """
    number, tokens = how.number, batch.tokens
    at = {one.name: _kept_input(one, how) for one in shape.linears}
    shared = {"q": number * shape.hidden, "mlp": number * shape.hidden}
    first, second = (
        (at[n] for n in ("qkv_proj", "gate_up_proj"))
        if shape.fused
        else (
            at["q_proj"] + at["k_proj"] + at["v_proj"],
            at["gate_proj"] + at["up_proj"],
        )
    )
    if not how.dropout:
        first, second = (min(one, shared[key]) for one, key in ((first, "q"), (second, "mlp")))
    norm = 4 * shape.hidden
    low = sum(number * how.rank_of(one.name) for one in shape.linears)
    attention = norm + first + _attention_kept(shape, how, batch) / tokens + low
    if how.dropout:
        attention += at["o_proj"]
    mlp = norm + second + 3 * number * shape.intermediate + at["down_proj"]
    return _Layer(attention * tokens, mlp * tokens, at["down_proj"] * tokens)


def _kept_input(one: Linear, how: Method) -> float:
    """Bytes a token that an adapted module keeps of its input."""
    if not how.rank_of(one.name):
        return 0.0
    return one.inputs * (how.number + (1 if how.dropout else 0))


def _attention_kept(shape: Decoder, how: Method, batch: Feed) -> float:
    """Query, key, value, output, and the log-sums in float32; eager: three matrices of length x length."""
    number, tokens = how.number, batch.tokens
    keys = shape.queries if batch.masked or how.attention == "eager" else shape.keys
    plain = number * (2 * shape.queries + 2 * keys) * tokens
    if shape.fused and keys == shape.keys and how.attention != "eager":
        # The values are a view: they keep queries and keys from before the rotation alive.
        plain += number * (shape.queries + shape.keys) * tokens
    if how.attention == "eager":
        return plain + shape.heads * batch.rows * batch.length**2 * (4 + number)
    bias = number * batch.rows * batch.length**2 if batch.masked else 0
    return plain + 4 * shape.heads * tokens + bias


def _attention_backward(shape: Decoder, how: Method, batch: Feed) -> float:
    """Gradients of output, query, keys and values, and the query's once more in float32."""
    number, tokens = how.number, batch.tokens
    if how.attention == "eager":
        return shape.heads * batch.rows * batch.length**2 * (4 + number)
    return tokens * (number * 4 * shape.queries + 4 * shape.queries + 2 * number * shape.keys)


def _released(shape: Decoder, how: Method, batch: Feed) -> float:
    """What the MLP kept and has given back when its first modules' turn comes."""
    down = next(one for one in shape.linears if one.name == "down_proj")
    return batch.tokens * (3 * how.number * shape.intermediate + _kept_input(down, how))


def _mlp_norm(shape: Decoder, how: Method, tokens: int) -> float:
    return 4.0 * shape.hidden * tokens


def _dequantised(one: Linear, how: Method) -> float:
    """The layer in full, and its scales in float32, twice where they were quantised."""
    if how.bits == 16:
        return 0.0
    scales = 4 * one.weights / how.block * (2 if how.double else 0) if how.bits == 4 else 0
    return one.weights * (how.compute_bytes if how.bits == 4 else 2) + scales


def _mask(how: Method, batch: Feed) -> float:
    return float(batch.rows * batch.length**2) if batch.masked else 0.0


def _scored(batch: Feed) -> int:
    return min(batch.tokens, batch.tokens if batch.scored is None else batch.scored)


def _hidden_copy(shape: Decoder, how: Method, batch: Feed) -> float:
    return float(how.number * shape.hidden * _scored(batch))


def _loss(shape: Decoder, how: Method, batch: Feed) -> float:
    """The loss's backward pass: a tile of logits, the hidden states, their gradient in float32 and cast.

    With full logits instead: they, a float32 copy, their log-probabilities, and a gradient (12 to 16 bytes).
    """
    scored = _scored(batch)
    if how.full_logits:
        return batch.tokens * shape.vocabulary * (how.number + 12.0)
    tile = min(scored, TILE_TOKENS) * TILE_WORDS * how.number
    return tile + scored * shape.hidden * (2 * how.number + 4.0)


# --- how sure ------------------------------------------------------------------------------------------


def _errors(
    job: Job, shape: Decoder, how: Method, batch: Feed, moving: float, *, known: bool
) -> tuple[float, float]:
    """The least and the most that the step may take."""
    error = MODEL_ERROR if known else UNKNOWN_ERROR
    if how.bits == 8 or how.attention not in ("sdpa", "eager", "flash_attention_2", "flash_attention_3"):
        error = max(error, 0.2)
    least = step(shape, how, replace(batch, masked=False, scored=0)).peak if batch.rows > 1 else moving
    lighter = tables.load("memory_evidence")["lighter"] if fuses(job) else 1
    return min(least, moving) * (1 - error) * lighter, moving * (1 + error)


def fuses(job: Job) -> bool:
    """Whether kernels that keep less take the place of the model's own operations."""
    return any(job.training.extra.get(key) for key in ("use_liger_kernel", "torch_compile"))


def _command_extra(job: Job, shape: Decoder, how: Method, batch: Feed) -> float:
    """A program of one's own may keep logits, and hold what is not quantised in float32 (peft's
    prepare_model_for_kbit_training)."""
    if job.trainer.use == "qlora":
        return 0.0
    logits = max(0.0, _loss(shape, replace(how, full_logits=True), batch) - step(shape, how, batch).peak)
    return logits + (2 * shape.plain if how.bits != 16 else 0)


def _assumptions(job: Job, shape: Decoder, how: Method, batch: Feed, *, known: bool) -> tuple[str, ...]:
    said = [
        f"worst batch: {batch.rows} x {batch.length} tokens"
        + (", with an attention mask" if batch.masked else ", no attention mask"),
        f"attention by {how.attention}, base in {how.bits}-bit, adapter in {8 * how.adapter_bytes}-bit",
        "activations are " + ("recomputed" if how.checkpointing else "kept") + " for the backward pass",
        "the full logits are allocated" if how.full_logits else "TRL's loss in tiles, without full logits",
        "CUDA context 0.25 to 0.8 GiB; 0 to 8 % of the activations lost to fragmentation",
        "formulas verified by a traced step of the same model",
    ]
    if not known:
        said.append(f"the formulas were not verified for model_type {shape.model_type}: +-25 %")
    if how.adapted is not None and how.adapted < shape.layers:
        said.append(f"LoRA is on {how.adapted} of {shape.layers} layers; activations are counted as for all")
    if job.trainer.use != "qlora":
        said.append(f"what the trainer '{job.trainer.use}' does is unknown: the upper end is wide")
    return tuple(said)
