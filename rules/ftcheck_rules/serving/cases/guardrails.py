"""Must-fail and must-pass inputs of guardrail."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, inputs, job, model_config, prepared


def _guardrail(limit: int = 64, **serving: Any) -> Mapping[str, Any]:
    """Prompts of forty tokens."""
    declared = {
        "max_input_tokens": limit,
        "max_new_tokens": 16,
        "over_limit": "reject",
        "log": "token-counts",
    }
    return {
        "job": job(serving={**declared, **serving}),
        "model": model_config(context=128),
        "gold": None,
        "endpoint": None,
        "inputs": inputs(),
        "prepared": prepared([50, 50], trained=[10, 10]),
    }


CASES: tuple[Case, ...] = (
    Case("guardrail", "nothing declared", True, lambda: {**_guardrail(), "job": job(serving={})}),
    Case("guardrail", "a log of content", True, lambda: _guardrail(log="content")),
    Case("guardrail", "real inputs refused", True, lambda: _guardrail(limit=39)),
    Case("guardrail", "input and output above the context", True, lambda: _guardrail(limit=113)),
    Case("guardrail", "declared, and the inputs fit", False, _guardrail),
)
