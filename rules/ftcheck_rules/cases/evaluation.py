"""Must-fail and must-pass inputs of the evaluation rules: evaluation-parity."""

from collections.abc import Mapping
from typing import Any

from ftcheck.inputs import Message
from ftcheck.testing import FakeTokenizer, gold, job, model_config, rows, sample, serving_side, tokenizer
from ftcheck_rules.cases import Case

PROMPT = "Answer briefly."
TURNS: tuple[Message, ...] = (
    {"role": "system", "content": PROMPT},
    {"role": "user", "content": "what is it?"},
    {"role": "assistant", "content": "A printer."},
)


def _parity(
    served: str | None = PROMPT, *, trained: FakeTokenizer | None = None, **serving: Any
) -> Mapping[str, Any]:
    """One row with a system prompt, asked through a serving side that differs by `serving`."""
    return {
        "job": job(serving={"system_prompt": served}),
        "tokenizer": trained or tokenizer(),
        "serving": serving_side(**serving),
        "model": model_config(),
        "rows": rows(1, system_prompts=[PROMPT], system=[0]),
        "sample": sample(TURNS, using=trained),
        "gold": gold(("what is that?", "A chair."), system_prompt=served),
    }


CASES: tuple[Case, ...] = (
    Case("evaluation-parity", "another template at the server", True, lambda: _parity(opening="<|user|>")),
    Case("evaluation-parity", "another tokenizer at the server", True, lambda: _parity(shift=1)),
    Case("evaluation-parity", "no system prompt at the server", True, lambda: _parity(None)),
    Case(
        "evaluation-parity",
        "a turn end that stops nothing",
        True,
        lambda: _parity(trained=tokenizer(), eos_token_id=1_000_001),
    ),
    Case("evaluation-parity", "asked as trained", False, _parity),
)
