"""Must-fail and must-pass inputs of the length rules."""

from collections.abc import Sequence
from typing import Any

from ftcheck.testing import Case, inputs, job, model_config, prepared


def _lengths(
    lengths: Sequence[int], max_length: int, target: tuple[int, int] | None = None
) -> dict[str, Any]:
    made = job(training={"max_length": max_length}, targets={"max_length": target})
    return {"job": made, "prepared": prepared(lengths), "inputs": inputs()}


def _window(longest: int, context: int, **serving: Any) -> dict[str, Any]:
    made = job(training={"max_length": 1024}, serving=serving)
    return {"job": made, "model": model_config(context), "prepared": prepared([8, longest])}


def _sliding(attention: str) -> dict[str, Any]:
    extra = {"model_init_kwargs": {"attn_implementation": attention}}
    made = job(training={"max_length": 1024, "extra": extra})
    return {"job": made, "model": model_config(4096, sliding_window=256), "prepared": prepared([8, 900])}


CASES = (
    Case("percentile-seq-len", "a p95 above max_length", True, lambda: _lengths([100, 900], 768)),
    Case(
        "percentile-seq-len",
        "a max_length outside its target",
        True,
        lambda: _lengths([700, 700], 1024, (512, 768)),
    ),
    Case("percentile-seq-len", "a p95 that just fits", False, lambda: _lengths([100, 768], 768, (512, 768))),
    Case(
        "percentile-seq-len", "the median alone", False, lambda: _lengths([9, 9, 99], 9), {"percentile": 50}
    ),
    Case("context-window", "a row past the model's context", True, lambda: _window(513, 512)),
    Case(
        "context-window",
        "a row past the server's window",
        True,
        lambda: _window(513, 2048, max_model_len=512),
    ),
    Case("context-window", "a window that this attention ignores", True, lambda: _sliding("xformers")),
    Case("context-window", "a window that sdpa keeps to", False, lambda: _sliding("sdpa")),
    Case("context-window", "a row that just fits", False, lambda: _window(1024, 1024, max_model_len=1024)),
)
