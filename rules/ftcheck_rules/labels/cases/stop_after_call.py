"""Must-fail and must-pass inputs of the rule `stop-after-call`."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, FakeTokenizer, job, model_config, prepared, rows, tokenizer

MARKS = ("<|end|>", "<|pad|>", "<|call|>", "<|system|>", "<|user|>", "<|assistant|>")


def behind(
    *tokens: str,
    result: str = "",
    generation: Mapping[str, Any] | None = None,
    using: FakeTokenizer | None = None,
    layout: str = "messages",
    **training: Any,
) -> dict[str, Any]:
    """Two rows with a call; `tokens` are what stands behind it (`+<|end|>`: in the loss)."""
    remarks = {"call-ends": [0, 1], f"call-end:{' '.join(tokens)}": [0, 1]}
    if result:
        remarks[f"result-trained:{result}"] = [1]
    return {
        "job": job(training=training),
        "tokenizer": using or tokenizer(marks=MARKS),
        "prepared": prepared([9, 9], trained=[4, 4], of=rows(2, remarks=remarks, layout=layout)),
        "model": model_config(generation=generation),
    }


CASES = (
    Case("stop-after-call", "calls that end without a stop token", True, lambda: behind("+<|user|>")),
    Case("stop-after-call", "a stop token that is masked", True, lambda: behind("-<|end|>", "-<|user|>")),
    Case(
        "stop-after-call",
        "a token that generation does not stop at",
        True,
        lambda: behind("+<|call|>", generation={"eos_token_id": 1_000_000}),
    ),
    Case(
        "stop-after-call",
        "results in the loss",
        True,
        lambda: behind("+<|end|>", result="tool", assistant_only_loss=True),
    ),
    Case("stop-after-call", "a stop token in the loss", False, lambda: behind("+<|end|>", "-<|user|>")),
    Case(
        "stop-after-call",
        "a token that generation stops at",
        False,
        lambda: behind("+<|call|>", generation={"eos_token_id": [1_000_000, 1_000_002]}),
    ),
)
