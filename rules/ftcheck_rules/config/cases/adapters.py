"""Must-fail and must-pass inputs of the adapter rules."""

from typing import Any

from ftcheck.inputs.modules import Modules
from ftcheck.testing import Case, job, machine, model_config, modules


def _lora(of: Modules | None = None, **lora: Any) -> dict[str, Any]:
    made = job(training={"lora": {"r": 4, **lora}})
    return {"job": made, "model": model_config(), "modules": of or modules()}


def _fused(r: int) -> dict[str, Any]:
    names = {"target_modules": ("q_proj",), "extra": {"target_parameters": ["experts.gate_up_proj"]}}
    return _lora(modules(experts=8), r=r, **names)


def _merge(adapter: str, memory_gib: float = 24, **lora: Any) -> dict[str, Any]:
    made = job(training={"lora": lora}, serving={"adapter": adapter})
    return {
        "job": made,
        "model": model_config(),
        "modules": modules(hidden=1024, vocabulary=500_000, tied=True),
        "machine": machine(memory_gib=memory_gib),
    }


CASES = (
    Case("lora-targets", "names of another model", True, lambda: _lora(target_modules=("Wqkv",))),
    Case("lora-targets", "one name of two", True, lambda: _lora(target_modules=("q_proj", "Wqkv"))),
    Case(
        "lora-targets",
        "half of the layers",
        True,
        lambda: _lora(modules(layers=8, every=2), target_modules=("q_proj",)),
    ),
    Case("lora-targets", "a large rank on fused experts", True, lambda: _fused(32)),
    Case("lora-targets", "all linear modules", False, lambda: _lora(target_modules="all-linear")),
    Case("lora-targets", "PEFT's default", False, lambda: _lora()),
    Case("lora-targets", "a small rank on fused experts", False, lambda: _fused(1)),
    Case("merge", "tied tables, one trained", True, lambda: _merge("merged", modules_to_save=("lm_head",))),
    Case("merge", "merged into 4-bit", True, lambda: _merge("merged-4bit")),
    Case("merge", "too little memory", True, lambda: _merge("merged", memory_gib=1)),
    Case(
        "merge",
        "tied tables, tied in training",
        False,
        lambda: _merge("merged", modules_to_save=("lm_head",), extra={"ensure_weight_tying": True}),
    ),
)
