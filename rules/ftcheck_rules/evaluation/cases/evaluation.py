"""Must-fail and must-pass inputs of the evaluation rules: evaluation-parity."""

from collections.abc import Mapping
from typing import Any

from ftcheck.inputs.tokenizer import Message, ServingSide
from ftcheck.settings import Evaluation
from ftcheck.testing import (
    Case,
    FakeTokenizer,
    gold,
    job,
    model_config,
    prepared,
    rows,
    sample,
    serving_side,
    tokenizer,
)

PROMPT = "Answer briefly."
TURNS: tuple[Message, ...] = (
    {"role": "system", "content": PROMPT},
    {"role": "user", "content": "what is it?"},
    {"role": "assistant", "content": "A printer."},
)


def _parity(
    served: str | None = PROMPT,
    *,
    trained: FakeTokenizer | None = None,
    stated: Mapping[str, Any] | None = None,
    evaluation: FakeTokenizer | None = None,
    **serving: Any,
) -> Mapping[str, Any]:
    """One row with a system prompt, asked through a serving side that differs by `serving`.

    `stated` is the policy's evaluation section, `evaluation` the tokenizer that it loads.
    """
    section = None if stated is None else Evaluation(**stated)
    side = ServingSide(evaluation or tokenizer(), same=evaluation is None)
    return {
        "job": job(serving={"system_prompt": served}, evaluation=section),
        "tokenizer": trained or tokenizer(),
        "serving": serving_side(**serving),
        "model": model_config(),
        "prepared": prepared([8]),
        "rows": rows(1, system_prompts=[PROMPT], system=[0]),
        "sample": sample(TURNS, using=trained),
        "gold": gold(("what is that?", "A chair."), system_prompt=served),
        "evaluation": None if section is None else side,
    }


CASES: tuple[Case, ...] = (
    Case(
        "evaluation-parity",
        "a benchmark that applies no template",
        True,
        lambda: _parity(stated={"apply_chat_template": False}),
    ),
    Case(
        "evaluation-parity",
        "another template in evaluation",
        True,
        lambda: _parity(stated={"tokenizer": "base"}, evaluation=tokenizer(opening="<|user|>")),
    ),
    Case(
        "evaluation-parity",
        "another tokenizer in evaluation",
        True,
        lambda: _parity(stated={"tokenizer": "base"}, evaluation=tokenizer(shift=1)),
    ),
    Case(
        "evaluation-parity",
        "batches padded on the right",
        True,
        lambda: _parity(stated={"batch_size": 8, "padding_side": "right"}),
    ),
    Case("evaluation-parity", "no system prompt at the server", True, lambda: _parity(None)),
    Case(
        "evaluation-parity",
        "a turn end that stops nothing",
        True,
        lambda: _parity(trained=tokenizer(), eos_token_id=1_000_001),
    ),
    Case("evaluation-parity", "asked as trained", False, _parity),
    Case(
        "evaluation-parity",
        "evaluated as trained, in batches",
        False,
        lambda: _parity(stated={"batch_size": 8, "padding_side": "left"}),
    ),
)
