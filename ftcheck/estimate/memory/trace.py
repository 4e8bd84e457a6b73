"""One training step of the real model class on meta tensors: every block that it allocates and frees.

Nothing is computed and nothing is loaded: meta tensors have shapes only. A dispatch mode sees every operation
of forward and backward pass and notes each storage at its birth and its death.
"""

import math
import warnings
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM
from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask, sdpa_mask

from ftcheck.errors import InputError
from ftcheck.estimate.memory import stand_ins
from ftcheck.estimate.memory.collector import paused
from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.shapes import Feed

ATTENTION = "ftcheck-traced"
Event = tuple[int, int]
"""A block's number and its size in bytes at its birth; its number and 0 at its death. `FIRST_PRODUCT` says
that a thread multiplies matrices for the first time."""
FIRST_PRODUCT: Event = (0, 1)


PRODUCTS = frozenset(
    getattr(torch.ops.aten, name).default for name in ("mm", "bmm", "addmm", "baddbmm", "addmv", "mv", "dot")
)


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter of the model: its name, its numbers, and whether it is a linear layer's matrix."""

    name: str
    shape: tuple[int, ...]
    quantised: bool

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Trace:
    """The blocks of one step. `forward` and `backward` are its passes, `after` what goes with its outputs;
    `gradients` are the blocks that stand afterwards. `weights` are the base's parameters in order, `trained`
    the numbers of each of the adapter's, `saved` the weights that are trained whole, beside the base's own.
    """

    forward: tuple[Event, ...]
    backward: tuple[Event, ...]
    after: tuple[Event, ...]
    gradients: frozenset[int]
    weights: tuple[Weight, ...]
    trained: tuple[int, ...]
    saved: tuple[Weight, ...] = ()


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Notes births and deaths of storages while it is active; those of `standing` tensors are not noted."""

    def __init__(self, standing: list[Any], *, masked: bool) -> None:
        """`masked`: what the program asks of its data (is nothing padded or packed?) is answered with no."""
        super().__init__()
        self.events: list[Event] = []
        self.multiplied = False
        """Whether this pass has multiplied matrices; a pass begins with False."""
        self._count, self._plain = 0, not masked
        self._known: dict[int, Any] = {}
        for one in standing:
            storage = one.untyped_storage()
            self._known[storage._cdata] = storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note what it made."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return self._plain
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and one.device.type == "meta":
                self._see(one.untyped_storage())
        if func in PRODUCTS and not self.multiplied:
            self.multiplied = True
            self.events.append(FIRST_PRODUCT)
        if func is torch.ops.aten._softmax_backward_data.default:
            # The CUDA kernel multiplies gradient and output first, into a tensor of its own.
            self._see(torch.empty_like(args[0]).untyped_storage())
        return made

    def _see(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._count += 1
        self.events.append((self._count, storage.nbytes()))
        end = weakref.finalize(storage, self._gone, key, self._count)
        end.atexit = False
        self._known[key] = end

    def _gone(self, key: int, number: int) -> None:
        self._known.pop(key, None)
        self.events.append((number, 0))


def trace(config: Mapping[str, Any], program: Program, feed: Feed, layers: int | None = None) -> Trace:
    """The blocks of one step of a model with so many layers (default: all of config.json's).

    Raises `InputError` for a model_type that the installed transformers does not know.
    """
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        with paused():
            model, weights, saved = _model(config, program, layers)
        ids = torch.zeros(feed.rows, feed.length, dtype=torch.int64)
        recorder = Recorder([*model.parameters(), *model.buffers(), ids], masked=feed.masked)
        with stand_ins.half_softmax(), recorder:
            outputs, loss = _forward(model, program, ids, feed)
            if not program.holds_outputs:
                del outputs
            forward = len(recorder.events)
            recorder.multiplied = False
            loss.backward()
            backward = len(recorder.events)
            outputs = loss = None
        after = len(recorder.events)
    events = recorder.events
    names = {one.name for one in saved}
    dead = {number for number, size in events if not size} | {FIRST_PRODUCT[0]}
    return Trace(
        tuple(events[:forward]),
        tuple(events[forward:backward]),
        tuple(events[backward:after]),
        frozenset(number for number, size in events if size and number not in dead),
        weights,
        tuple(
            one.numel() for name, one in model.named_parameters() if one.requires_grad and name not in names
        ),
        saved,
    )


def _forward(model: Any, program: Program, ids: Any, feed: Feed) -> tuple[Any, Any]:
    """The model's outputs and its loss."""
    given: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    if feed.masked:
        given["attention_mask"] = torch.ones(feed.rows, feed.length, dtype=torch.int64)
    if program.loss == "model":
        outputs = model(**given, labels=ids)
        return outputs, outputs.loss
    if program.loss == "tiled":
        return None, _fused(model, given, program, feed)
    outputs = model(**given)
    logits = outputs.logits.float()
    if program.loss == "smoothed":
        # accelerate replaces the outputs by float32 ones, and TRL's metrics come from a second forward pass.
        del outputs
        loss = _smoothed(logits[:, :-1].contiguous(), ids[:, 1:])
        del logits
        with torch.no_grad():
            _fused(model, given, program, feed)
        return None, loss
    shifted = logits[:, :-1].contiguous().view(-1, logits.shape[-1])
    return outputs, torch.nn.functional.cross_entropy(shifted, ids[:, 1:].reshape(-1))


def _fused(model: Any, given: Mapping[str, Any], program: Program, feed: Feed) -> Any:
    """TRL's forward pass: the decoder, then its head in tiles."""
    hidden = model.get_decoder()(**given).last_hidden_state
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return stand_ins.tiled(hidden, model.get_output_embeddings().weight, program, feed.scored, softcap)


def _smoothed(logits: Any, labels: Any) -> Any:
    """transformers' LabelSmoother (trainer_pt_utils.py, 5.23)."""
    log_probabilities = -torch.nn.functional.log_softmax(logits, dim=-1)
    labels = labels.unsqueeze(-1)
    padding = labels.eq(-100)
    labels = torch.clamp(labels, min=0)
    nll = log_probabilities.gather(dim=-1, index=labels)
    smoothed = log_probabilities.sum(dim=-1, keepdim=True, dtype=torch.float32)
    nll.masked_fill_(padding, 0.0)
    smoothed.masked_fill_(padding, 0.0)
    count = padding.numel() - padding.long().sum()
    return 0.9 * nll.sum() / count + 0.1 * smoothed.sum() / (count * logits.shape[-1])


def _model(
    config: Mapping[str, Any], program: Program, layers: int | None
) -> tuple[Any, tuple[Weight, ...], tuple[Weight, ...]]:
    """The model class on meta weights with LoRA, what its weights were before, and those trained whole."""
    kind = str(config.get("model_type"))
    try:
        made = AutoConfig.for_model(kind, **{k: v for k, v in config.items() if k != "model_type"})
    except ValueError as error:
        raise InputError(f"the installed transformers does not know the model_type '{kind}'") from error
    text = made.get_text_config()
    if layers is not None:
        text.num_hidden_layers = layers
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:layers]
    AttentionInterface.register(ATTENTION, stand_ins.attention(program))
    if program.method.attention.startswith(("flash", "kernels")):
        AttentionMaskInterface.register(ATTENTION, flash_attention_mask)
    else:
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    attention = "eager" if program.method.attention == "eager" else ATTENTION
    half = stand_ins.dtype(program.dtype)
    model = AutoModelForCausalLM.from_config(made, dtype=half, attn_implementation=attention)
    linears = _linears(model)
    weights = tuple(
        Weight(name, tuple(one.shape), name.removesuffix(".weight") in linears)
        for name, one in model.named_parameters()
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        parameter.data = parameter.data.to(stand_ins.dtype(program.dtype_of(name)))
    saved = tuple(_save(model, program, linears))
    for name, module in linears.items():
        parent, _, own = name.rpartition(".")
        adapted = stand_ins.Adapted(module, program.method.rank_of(own), program)
        setattr(model.get_submodule(parent), own, adapted)
    _cast_head(model, program)
    model.train()
    if program.method.checkpointing:
        _checkpoint(model)
        model.get_input_embeddings().register_forward_hook(lambda module, args, out: out.requires_grad_(True))
    return model, weights, saved


def _save(model: Any, program: Program, linears: Mapping[str, Any]) -> Iterator[Weight]:
    """Puts a trained copy in the place of every module that is trained whole, as peft's ModulesToSaveWrapper
    does: a tied table stays what it is. Linear layers of the decoder are left: none in 4 bits is trained."""
    for owner, module in model.named_modules():
        if owner in linears or not program.method.saves(owner):
            continue
        for own, weight in list(module.named_parameters(recurse=False)):
            setattr(module, own, torch.nn.Parameter(weight.to(stand_ins.dtype(program.saved))))
            yield Weight(f"{owner}.{own}", tuple(weight.shape), False)


def _linears(model: Any) -> dict[str, Any]:
    """The linear modules that are quantised or adapted: all but the head."""
    head = model.get_output_embeddings()
    return {
        name: one
        for name, one in model.named_modules()
        if isinstance(one, torch.nn.Linear) and one is not head
    }


def _cast_head(model: Any, program: Program) -> None:
    head = model.get_output_embeddings()
    head.forward = lambda x: stand_ins.cast_linear(x, head.weight, program, head.bias)


def _checkpoint(model: Any) -> None:
    """transformers 5.2x renamed the function, with a warning for the old name."""
    name = "activation_checkpointing"
    if not hasattr(model, f"{name}_enable"):
        name = "gradient_checkpointing"
    getattr(model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
