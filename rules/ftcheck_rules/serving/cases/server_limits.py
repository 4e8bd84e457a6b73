"""Must-fail and must-pass inputs of server-limits."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, job, model_config, saved

MULTIMODAL = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "vision_config": {"depth": 2},
    "text_config": {"model_type": "qwen3_5_text"},
}


def _server(
    serving: Mapping[str, Any],
    lora: Mapping[str, Any] | None = None,
    name: str = "org/base",
    config: Mapping[str, Any] | None = None,
    **found: Any,
) -> Mapping[str, Any]:
    one = job(model={"name": name}, training={"lora": lora or {"r": 16}}, serving=serving)
    return {"job": one, "saved": saved(**found), "model": model_config(**(config or {}))}


BESIDE = {"engine": "vllm", "adapter": "separate"}


CASES: tuple[Case, ...] = (
    Case("server-limits", "a rank above the default", True, lambda: _server(BESIDE, {"r": 17})),
    Case("server-limits", "DoRA", True, lambda: _server(BESIDE, {"r": 16, "use_dora": True})),
    Case(
        "server-limits",
        "a tokenizer class of transformers 5",
        True,
        lambda: _server({"engine": "vllm", "transformers": "4.57.6"}),
    ),
    Case(
        "server-limits",
        "an adapter on a multimodal base's vision modules too",
        True,
        lambda: _server(BESIDE, {"r": 16, "target_modules": "all-linear"}, config=MULTIMODAL),
    ),
    Case(
        "server-limits",
        "an adapter on a multimodal base's text model",
        False,
        lambda: _server(BESIDE, {"r": 16, "target_modules": ["q_proj", "v_proj"]}, config=MULTIMODAL),
    ),
    Case("server-limits", "the rank it was started for", False, lambda: _server(BESIDE)),
    Case("server-limits", "merged, any rank", False, lambda: _server({"engine": "vllm"}, {"r": 256})),
    Case(
        "server-limits",
        "a class that transformers 4 knows",
        False,
        lambda: _server({"engine": "vllm", "transformers": "4.57.6"}, tokenizer_class="LlamaTokenizer"),
    ),
)
