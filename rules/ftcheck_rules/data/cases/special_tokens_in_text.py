"""Must-fail and must-pass inputs of the rule on special tokens in text."""

from typing import Any

from ftcheck.testing import Case, prepared, rows, tokenizer


def _marked(marks: dict[str, list[int]], layout: str = "messages") -> dict[str, Any]:
    return {"prepared": prepared([5] * 4, of=rows(4, marks=marks, layout=layout)), "tokenizer": tokenizer()}


CASES = (
    Case("special-tokens-in-text", "a quoted end of turn", True, lambda: _marked({"<|end|>": [2]})),
    Case("special-tokens-in-text", "no special token", False, lambda: _marked({})),
    Case(
        "special-tokens-in-text", "plain text with them", False, lambda: _marked({"<|end|>": [0, 1]}, "text")
    ),
)
