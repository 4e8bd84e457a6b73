"""One training step of the real model class under fake tensors: which storages are alive at once.

The second way to a job's peak memory, beside the closed formulas of `formulas`. Nothing is
computed: torch's FakeTensorMode knows shapes only, and a dispatch mode counts each storage from its first
sight to its death. bitsandbytes' and flash attention's kernels allocate inside CUDA code that fake tensors
do not see, so functions with the same allocations stand in for them.
"""

import contextlib
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ftcheck.errors import InputError
from ftcheck.estimate.memory.shapes import Feed, Method
from ftcheck.inputs.model_shape import model_shape

ATTENTION = "ftcheck-simulated"


@dataclass(frozen=True, slots=True)
class Simulated:
    """Bytes of one step: the most that was alive at once `beyond` weights, adapter and optimizer state.

    `saved` is what stood at the end of the forward pass. `layers` were simulated; the rest is extrapolated.
    """

    beyond: int
    saved: int
    layers: tuple[int, ...]


def simulate(
    config: Mapping[str, Any], method: Method, feed: Feed, layers: tuple[int, int] = (2, 4)
) -> Simulated:
    """Simulate forward and backward at two depths, and extrapolate linearly to the model's own.

    Bytes are those of a CUDA run with TRL 1.16, PEFT 0.21 and bitsandbytes 0.50, without the caching
    allocator's rounding. Raises `InputError` for a model_type that the installed transformers does not know.
    """
    whole = model_shape(config).decoder().layers
    low, high = sorted(min(one, whole) for one in layers)
    first = _run(config, method, feed, low)
    if high == low:
        return Simulated(first[0], first[1], (low,))
    second = _run(config, method, feed, high)
    more = (whole - high) / (high - low)
    peak, saved = (round(b + (b - a) * more) for a, b in zip(first, second, strict=True))
    return Simulated(peak, saved, (low, high))


def _run(config: Mapping[str, Any], method: Method, feed: Feed, layers: int) -> tuple[int, int]:
    """(peak, saved after the forward pass) in bytes, of a model with so many layers."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.device("cpu"):
        model = _model(config, method, layers)
        ids = torch.zeros(feed.rows, feed.length, dtype=torch.int64)
        labels = torch.zeros(feed.rows, feed.length, dtype=torch.int64)
        standing = [*model.parameters(), *model.buffers(), ids, labels]
        with storages(standing) as alive:
            mask = (
                torch.ones(feed.rows, 1, feed.length, feed.length, dtype=torch.bool) if feed.masked else None
            )
            hidden = model.get_decoder()(
                input_ids=ids, attention_mask=mask, use_cache=False
            ).last_hidden_state
            loss = _loss(hidden[:, :-1], labels[:, 1:], model.get_output_embeddings().weight, method)
            del hidden
            saved = alive.now
            loss.backward()
        return alive.peak, saved


def _model(config: Mapping[str, Any], method: Method, layers: int) -> Any:
    """The model class on fake weights, its linear layers replaced by 4-bit ones with LoRA."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    _register_attention()
    kind = str(config.get("model_type"))
    try:
        made = AutoConfig.for_model(kind, **{k: v for k, v in config.items() if k != "model_type"})
    except ValueError as error:
        raise InputError(f"the installed transformers does not know the model_type '{kind}'") from error
    text = made.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    attention = "eager" if method.attention == "eager" else ATTENTION
    model = AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16, attn_implementation=attention)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    _put_lora(model, method)
    model.train()
    if method.checkpointing:
        _checkpoint(model)
        model.get_input_embeddings().register_forward_hook(lambda module, args, out: out.requires_grad_(True))
    return model


def _checkpoint(model: Any) -> None:
    """transformers 5.2x renamed the function, with a warning for the old name."""
    name = "activation_checkpointing"
    if not hasattr(model, f"{name}_enable"):
        name = "gradient_checkpointing"
    getattr(model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})


def _put_lora(model: Any, method: Method) -> None:
    import torch

    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and module is not head:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, _linear(module, own, method))


def _linear(linear: Any, name: str, method: Method) -> Any:
    """Forward of peft's lora.Linear4bit (0.21.2) on bitsandbytes' Linear4bit (0.50.2), by allocations."""
    import torch

    rank = method.rank_of(name)

    class Adapted(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.bias = linear.bias
            if rank:
                new: dict[str, Any] = {"dtype": torch.bfloat16}
                self.a = torch.nn.Parameter(torch.zeros(rank, linear.in_features, **new))
                self.b = torch.nn.Parameter(torch.zeros(linear.out_features, rank, **new))

        def forward(self, x: Any) -> Any:
            result = _base(x, linear, method)
            if not rank:
                return result
            if method.bits == 4:
                result = result.clone()
            dropped = torch.native_dropout(x, method.dropout, True)[0] if method.dropout else x
            low = torch.nn.functional.linear(dropped, self.a)
            output = torch.nn.functional.linear(low, self.b) * 0.5
            return result + output

    return Adapted()


def _base(x: Any, linear: Any, method: Method) -> Any:
    import torch

    if method.bits == 4:
        wide = method.compute_bytes == 4
        made = _four_bit().apply(
            x.float() if wide else x, linear.out_features, linear.in_features, method.double
        )
        return made.to(x.dtype)
    return torch.nn.functional.linear(x, linear.weight, linear.bias)


def _four_bit() -> Any:
    import torch

    class FourBit(torch.autograd.Function):  # type: ignore[misc]
        """MatMul4Bit: the layer is dequantised whole, forward and backward; its input is not kept."""

        @staticmethod
        def forward(ctx: Any, x: Any, rows: int, columns: int, double: bool) -> Any:
            ctx.shape = rows, columns, double
            weight, _scales = _dequantised(x, rows, columns, double)
            return torch.nn.functional.linear(x, weight)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return torch.matmul(grads[0], _dequantised(grads[0], *ctx.shape)[0]), None, None, None

    return FourBit


def _dequantised(x: Any, rows: int, columns: int, double: bool) -> tuple[Any, Any]:
    import torch

    scales = [x.new_empty(rows * columns // 64, dtype=torch.float32) for _ in range(2 if double else 0)]
    return x.new_empty(rows, columns), scales


def _register_attention() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attention)


def _attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **_: Any) -> tuple[Any, None]:
    """transformers' sdpa_attention_forward: a mask makes torch repeat the key-value heads and keep a bias."""
    from transformers.integrations.sdpa_attention import repeat_kv

    groups = query.shape[1] // key.shape[1]
    if mask is not None and groups > 1:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    bias = None if mask is None else mask.to(query.dtype)
    return _sdpa().apply(query, key, value, bias).transpose(1, 2).contiguous(), None


def _sdpa() -> Any:
    import torch

    class Sdpa(torch.autograd.Function):  # type: ignore[misc]
        """Flash (or, with a bias, memory-efficient) attention: saves its inputs, output and log-sums."""

        @staticmethod
        def forward(ctx: Any, q: Any, k: Any, v: Any, bias: Any) -> Any:
            batch, heads, length, _ = q.shape
            out = q.new_empty(batch, length, heads, v.shape[-1]).transpose(1, 2)
            sums = q.new_empty(batch, heads, length, dtype=torch.float32)
            ctx.save_for_backward(q, k, v, bias, out, sums)
            return out

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            q, k, v, _bias, _out, sums = ctx.saved_tensors
            dq = q.new_empty(q.shape)
            _accumulated = q.new_empty(q.shape, dtype=torch.float32)
            _delta = torch.empty_like(sums)
            if k.shape[1] == q.shape[1]:
                return dq, k.new_empty(k.shape), v.new_empty(v.shape), None
            wide = [k.new_empty(q.shape), v.new_empty(q.shape)]
            groups = (k.shape[0], k.shape[1], -1, k.shape[2], k.shape[3])
            return dq, *(one.view(groups).sum(2) for one in wide), None

    return Sdpa


def _loss(hidden: Any, labels: Any, weight: Any, method: Method) -> Any:
    if method.full_logits:
        return _full_logits(hidden, labels, weight)
    rows = hidden.reshape(-1, hidden.shape[-1]).clone()
    return _tiled().apply(rows, weight).sum()


def _full_logits(hidden: Any, labels: Any, weight: Any) -> Any:
    """transformers' ForCausalLMLoss: the logits, and the same in float32."""
    import torch

    logits = torch.nn.functional.linear(hidden, weight).float()
    return torch.nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), labels.reshape(-1))


TOKENS, WORDS = 4096, 32768
"""Tile of TRL 1.16's fused head: TOKEN_CHUNK_SIZE and _CHUNKED_LOGPROB_CHUNK_SIZE."""


def _tiled() -> Any:
    import torch

    class Tiled(torch.autograd.Function):  # type: ignore[misc]
        """TRL's ChunkedLogProbFunction: one tile of logits, and the hidden states' gradient in float32."""

        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any) -> Any:
            ctx.save_for_backward(hidden, weight)
            _tile = hidden.new_empty(min(len(hidden), TOKENS), WORDS)
            return hidden.new_empty(len(hidden), dtype=torch.float32)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            hidden, _weight = ctx.saved_tensors
            made = hidden.new_empty(hidden.shape, dtype=torch.float32)
            _tile = hidden.new_empty(min(len(hidden), TOKENS), WORDS)
            return made.to(hidden.dtype), None

    return Tiled


class _Alive:
    """Bytes of storages that are alive now, and the most there ever were."""

    def __init__(self, before: Iterable[Any]) -> None:
        """`before` are the tensors that stand from the start: they are not counted."""
        self.now, self.peak = 0, 0
        self._known: dict[int, Any] = {one.untyped_storage()._cdata: None for one in before}

    def see(self, tensor: Any) -> None:
        """Count a tensor's storage, unless it is known."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        end = weakref.finalize(storage, self._gone, key, size)
        end.atexit = False
        self._known[key] = end
        self.now += size
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        self._known.pop(key, None)
        self.now -= size


@contextlib.contextmanager
def storages(before: Iterable[Any]) -> Iterator[_Alive]:
    """Count the storages that operations make while this is open, on fake tensors or real ones."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    alive = _Alive(before)

    class Counting(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            for one in tree_leaves((args, kwargs, made)):
                if isinstance(one, torch.Tensor):
                    alive.see(one)
            return made

    with Counting():
        yield alive
