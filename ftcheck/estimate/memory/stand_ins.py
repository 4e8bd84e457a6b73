"""Stand-ins for what runs inside CUDA code: functions that allocate what the kernels allocate.

The trace runs on meta tensors, which see PyTorch's own operations only. What stands here, with versions and
sources, is listed in tables/cuda_stand_ins.json.
"""

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from ftcheck.estimate.memory.program import Program

FIELDS = ("log_probs", "entropy", "is_top1")
"""What SFTTrainer asks of the fused head beside the loss (TRL 1.16)."""
TOKENS, WORDS = 4096, 32768
"""Tile of TRL 1.16's fused head: TOKEN_CHUNK_SIZE and _CHUNKED_LOGPROB_CHUNK_SIZE."""


def dtype(name: str) -> Any:
    """torch's dtype of this name."""
    return getattr(torch, name)


# --- linear layers -------------------------------------------------------------------------------------


class FourBit(torch.autograd.Function):  # type: ignore[misc]
    """bitsandbytes' MatMul4Bit: the layer is dequantised whole in both passes; its input is not kept."""

    @staticmethod
    def forward(ctx: Any, x: Any, rows: int, columns: int, double: bool, bias: Any) -> Any:
        """x @ W.T, W dequantised for it alone."""
        ctx.shape = rows, columns, double
        return functional.linear(x, _dequantised(x, rows, columns, double), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The same for the input's gradient."""
        return torch.matmul(grads[0], _dequantised(grads[0], *ctx.shape)), None, None, None, None


def _dequantised(x: Any, rows: int, columns: int, double: bool) -> Any:
    """The weights; with double quantisation their scales are dequantised beside them, and freed."""
    if double:
        _scales = x.new_empty(-(-rows * columns // 64), dtype=torch.float32)
    return x.new_empty(rows, columns)


class Adapted(torch.nn.Module):  # type: ignore[misc]
    """Forward of peft's lora.Linear and lora.Linear4bit (0.21.2) on the base layer."""

    def __init__(self, linear: Any, rank: int, program: Program) -> None:
        """`rank` 0: no adapter."""
        super().__init__()
        self.linear, self.rank, self.program = [linear], rank, program
        if program.method.bits == 16:
            self.weight = linear.weight
        self.bias = linear.bias
        if rank:
            new: dict[str, Any] = {"dtype": dtype(program.adapter)}
            self.a = torch.nn.Parameter(torch.empty(rank, linear.in_features, **new))
            self.b = torch.nn.Parameter(torch.empty(linear.out_features, rank, **new))

    def forward(self, x: Any) -> Any:
        """The base's output and the adapter's."""
        result = self._base(x)
        if not self.rank:
            return result
        method, program = self.program.method, self.program
        kept = result.dtype
        if method.bits != 16:
            result = result.clone()
        if method.bits == 16 or not program.autocast:
            x = x.to(self.a.dtype)
        x = torch.native_dropout(x, method.dropout, True)[0] if method.dropout else x
        low = cast_linear(x, self.a, program)
        output = cast_linear(low, self.b, program) * 0.5
        if method.bits != 16 and not program.autocast:
            output = output.to(kept)
        return (result + output).to(kept) if method.bits == 16 else result + output

    def _base(self, x: Any) -> Any:
        method, linear = self.program.method, self.linear[0]
        if method.bits == 16:
            return cast_linear(x, self.weight, self.program, self.bias)
        wide = torch.float32 if method.compute_bytes == 4 else dtype(self.program.dtype)
        bias = None if self.bias is None else self.bias.to(wide)
        made = FourBit.apply(x.to(wide), linear.out_features, linear.in_features, method.double, bias)
        return made.to(x.dtype)


def cast_linear(x: Any, weight: Any, program: Program, bias: Any = None) -> Any:
    """A linear layer; under autocast its inputs are cast first."""
    if program.autocast:
        half = dtype(program.dtype)
        x, weight = x.to(half), weight.to(half)
        bias = None if bias is None else bias.to(half)
    return functional.linear(x, weight, bias)


# --- attention -----------------------------------------------------------------------------------------


class Flash(torch.autograd.Function):  # type: ignore[misc]
    """Flash attention: it saves its inputs, its output and the log-sums, and sums repeated keys itself."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any) -> Any:
        """Output of shape (rows, heads, length, size)."""
        rows, heads, length, _ = q.shape
        out = q.new_empty(rows, length, heads, v.shape[-1]).transpose(1, 2)
        ctx.save_for_backward(q, k, v, out, q.new_empty(rows, heads, length, dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The query's gradient is also held in float32; repeated keys have gradients for every head."""
        q, k, v, _out, sums = ctx.saved_tensors
        dq = torch.empty_like(q)
        _accumulated = q.new_empty(q.shape, dtype=torch.float32)
        _delta = torch.empty_like(sums)
        if k.shape[1] == q.shape[1]:
            return dq, torch.empty_like(k), torch.empty_like(v)
        wide = [k.new_empty(q.shape), v.new_empty(q.shape)]
        groups = (k.shape[0], k.shape[1], -1, k.shape[2], k.shape[3])
        return dq, *(one.view(groups).sum(2) for one in wide)


class Efficient(torch.autograd.Function):  # type: ignore[misc]
    """Memory-efficient attention: as flash, with a bias, and an output's product for float32."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, bias: Any) -> Any:
        """Output of shape (rows, heads, length, size); log-sums are kept in blocks of 32."""
        rows, heads, length, _ = q.shape
        out = q.new_empty(rows, length, heads, v.shape[-1]).transpose(1, 2)
        sums = q.new_empty(rows, heads, -(-length // 32) * 32, dtype=torch.float32)
        ctx.save_for_backward(q, k, v, bias, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """16 bits: the query's gradient in float32 as workspace; float32: output times its gradient."""
        q, k, v, _bias, out, sums = ctx.saved_tensors
        if q.dtype == torch.float32:
            delta = (grads[0] * out).sum(-1)
        else:
            delta = torch.empty_like(sums)
            _workspace = q.new_empty(q.shape, dtype=torch.float32)
        made = (torch.empty_like(q), torch.empty_like(k), torch.empty_like(v))
        del delta
        return *made, None


def attention(program: Program) -> Any:
    """transformers' attention function, by what the GPU runs for it."""

    def forward(module: Any, query: Any, key: Any, value: Any, mask: Any, **given: Any) -> tuple[Any, None]:
        if program.autocast and query.dtype == torch.float32:
            query, key, value = (one.to(dtype(program.dtype)) for one in (query, key, value))
        groups = query.shape[1] // key.shape[1]
        if groups > 1 and (mask is not None or program.repeats_keys):
            if program.repeats_keys:
                key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
            else:
                key, value = _repeat(key, groups), _repeat(value, groups)
            groups = 1
        bias = None if mask is None else mask.to(query.dtype)
        out = _kernel(program, query, key, value, bias, groups)
        return out.transpose(1, 2).contiguous(), None

    return forward


def _repeat(one: Any, groups: int) -> Any:
    """transformers' repeat_kv."""
    rows, heads, length, size = one.shape
    wide = one[:, :, None, :, :].expand(rows, heads, groups, length, size)
    return wide.reshape(rows, heads * groups, length, size)


def _kernel(program: Program, query: Any, key: Any, value: Any, bias: Any, groups: int) -> Any:
    """Flash needs 16 bits, capability 8.0 and no bias; memory-efficient needs as many keys as queries; what
    neither can do, is done by plain multiplications, with matrices of length x length."""
    flash = program.capability is None or program.capability >= (8, 0)
    if flash and bias is None and query.dtype != torch.float32:
        return Flash.apply(query, key, value)
    if groups == 1:
        return Efficient.apply(query, key, value, bias)
    key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
    scores = torch.matmul(query * 0.5, (key * 0.5).transpose(2, 3))
    bias = query.new_empty(query.shape[2], query.shape[2])
    return torch.matmul(torch.softmax(scores + bias, -1), value)


class _HalfToFloat(torch.autograd.Function):  # type: ignore[misc]
    """Softmax of float16 scores in float32: one kernel on CUDA, without a float32 copy of the scores."""

    @staticmethod
    def forward(ctx: Any, scores: Any) -> Any:
        """The probabilities in float32."""
        made = scores.new_empty(scores.shape, dtype=torch.float32)
        ctx.save_for_backward(made)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The scores' gradient in float16; gradient times output is a float32 tensor of its own."""
        made = grads[0].new_empty(grads[0].shape, dtype=torch.float16)
        _product = torch.empty_like(ctx.saved_tensors[0])
        return made


@contextlib.contextmanager
def half_softmax() -> Iterator[None]:
    """While it is open, softmax of float16 scores in float32 allocates what it allocates on CUDA.

    A TorchFunctionMode would not be seen where a checkpoint recomputes: autograd puts modes aside.
    """
    plain = functional.softmax

    def softmax(scores: Any, *args: Any, **given: Any) -> Any:
        if given.get("dtype") == torch.float32 and scores.dtype == torch.float16:
            return _HalfToFloat.apply(scores)
        return plain(scores, *args, **given)

    functional.softmax = softmax  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.softmax = plain


# --- loss ----------------------------------------------------------------------------------------------


class Tiled(torch.autograd.Function):  # type: ignore[misc]
    """TRL's ChunkedLogProbFunction: one tile of logits, and gradients (the hidden states', and the head's
    where it is trained) gathered in float32. A head in another dtype is cast tile by tile."""

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any) -> Any:
        """Log-probabilities of the targets, one a token."""
        ctx.save_for_backward(hidden, weight)
        _tile = hidden.new_empty(min(len(hidden), TOKENS), WORDS)
        _cast(weight, hidden)
        return hidden.new_empty(len(hidden), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Both are cast at the end, while the tile stands."""
        hidden, weight = ctx.saved_tensors
        made = hidden.new_empty(hidden.shape, dtype=torch.float32)
        wide = weight.new_empty(weight.shape, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        _tile = hidden.new_empty(min(len(hidden), TOKENS), WORDS)
        _part = _cast(weight, hidden)
        return made.to(hidden.dtype), None if wide is None else wide.to(weight.dtype)


def _cast(weight: Any, hidden: Any) -> Any:
    """The head's rows of one tile in the dtype of the hidden states; nothing where it is that already."""
    if weight.dtype == hidden.dtype:
        return None
    return hidden.new_empty(min(len(weight), WORDS), weight.shape[1])


@contextlib.contextmanager
def _no_autocast() -> Iterator[None]:
    """TRL asks for the device's autocast, which meta tensors have none of: its inputs are cast already."""
    asked = torch.is_autocast_enabled
    torch.is_autocast_enabled = lambda *_: False
    try:
        yield
    finally:
        torch.is_autocast_enabled = asked


def tiled(hidden: Any, head: Any, program: Program, scored: int | None, softcap: float | None = None) -> Any:
    """The loss of TRL's fused head: hidden states of the scored tokens are gathered, then go through it.

    `softcap` is the model's final_logit_softcapping. Without Triton every token is scored, and TRL's own
    function runs: it folds tiles by torch's operations.
    """
    shifted = hidden[:, :-1]
    tokens = shifted.shape[0] * shifted.shape[1]
    if not program.triton and importlib.util.find_spec("trl") is not None:
        from trl.kernels import ChunkedLogProbFunction

        rows, targets = shifted.reshape(-1, hidden.shape[-1]), hidden.new_empty(tokens, dtype=torch.int64)
        with _no_autocast():
            made = ChunkedLogProbFunction.apply(rows, head, None, targets, 1.0, WORDS, softcap, 1.0, FIELDS)
        return made[0].sum()
    count = tokens if scored is None else max(1, min(scored, tokens))
    index = tuple(hidden.new_empty(count, dtype=torch.int64) for _ in range(2))
    return Tiled.apply(shifted[index], head).sum()
