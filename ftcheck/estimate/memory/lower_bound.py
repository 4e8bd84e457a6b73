"""The least that training needs on a GPU, for any architecture: its weights as they are loaded.

bitsandbytes quantises linear modules only. Weights of fused experts are parameters of another module, and
stay in 16 bits under load_in_4bit (transformers 5.23, integrations/bitsandbytes.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftcheck.estimate.lora_targets import expert_family
from ftcheck.estimate.memory.shapes import OPTIMIZERS, state_bytes
from ftcheck.inputs.model_shape import model_shape, text_config
from ftcheck.inputs.modules import Modules
from ftcheck.settings import Job

BYTES = {4: 0.516, 8: 1.0}
"""Bytes of a quantised weight: NF4 with double quantisation, and LLM.int8."""


@dataclass(frozen=True, slots=True)
class LowerBound:
    """Bytes that are needed at least. `experts` are those of fused experts that stay unquantised."""

    total: float
    experts: float


def lower_bound(job: Job, config: Mapping[str, Any], modules: Modules | None) -> LowerBound | None:
    """The least memory of a job on each GPU; None where the model is spread, or nothing is known of it.

    Without `modules` only fused experts are counted, by config.json's dimensions.
    """
    if _spread(job) or _own_quantization(config):
        return None
    number = 4 if job.training.bf16 is False and not job.training.fp16 else 2
    if modules is None:
        held = float(_stated_experts(config) * number)
        return LowerBound(held, held) if held and _bits(job) < 16 else None
    total = experts = 0.0
    for name, shape in modules.parameters.items():
        count, owner = math.prod(shape), name.rpartition(".")[0]
        quantised = _bits(job) < 16 and owner in modules.linear and owner != modules.head
        size = count * (BYTES[_bits(job)] if quantised else number)
        total += size
        if _bits(job) < 16 and len(shape) == 3 and ".experts." in f".{name}":
            experts += size
    if job.training.lora is None and _bits(job) == 16:
        total += modules.total * (number + _states(job, number))
    return LowerBound(total, experts)


def _states(job: Job, number: int) -> float:
    """Bytes of optimizer state a weight: paged ones may lie in the CPU's memory, unknown ones are none."""
    name = str(job.training.optim or "adamw_torch_fused")
    return 0 if name.startswith("paged") or name not in OPTIMIZERS else state_bytes(job, number)


def _bits(job: Job) -> int:
    chosen = job.training.quantization
    return 16 if chosen is None else 4 if chosen.load_in_4bit else 8 if chosen.load_in_8bit else 16


def _spread(job: Job) -> bool:
    """Whether one GPU holds only part of the model, or the CPU holds some of it."""
    extra = job.training.extra
    device_map = (extra.get("model_init_kwargs") or {}).get("device_map")
    return bool(extra.get("deepspeed") or extra.get("fsdp") or device_map)


def _own_quantization(config: Mapping[str, Any]) -> bool:
    return any(part.get("quantization_config") for part in (config, text_config(config)))


def _stated_experts(config: Mapping[str, Any]) -> int:
    """Weights of the routed experts, where transformers fuses them; 0 for others."""
    shape, text = model_shape(config), text_config(config)
    inner = text.get("moe_intermediate_size")
    fuses = expert_family(text.get("model_type")) or expert_family(shape.model_type)
    if not fuses or type(inner) is not int or shape.hidden is None or shape.layers is None:
        return 0
    dense = text.get("first_k_dense_replace") or len(text.get("mlp_only_layers") or ())
    step = text.get("decoder_sparse_step") or 1
    sparse = max(0, shape.layers - int(dense)) // int(step)
    return sparse * shape.experts * 3 * shape.hidden * inner
