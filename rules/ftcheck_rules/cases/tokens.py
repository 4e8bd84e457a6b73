"""Must-fail and must-pass inputs of the token rules."""

from typing import Any

from ftcheck.inputs import GoldSet, Message
from ftcheck.testing import FakeTokenizer, gold, inputs, job, sample, serving_side, tokenizer
from ftcheck_rules.cases import Case

TALK: tuple[Message, ...] = (
    {"role": "user", "content": "The capital of France?"},
    {"role": "assistant", "content": "Paris"},
)
ASKED = {"gold": {"path": "gold.json"}}


def _sides(
    training: FakeTokenizer, *, held: GoldSet | None = None, serving: Any = None, **changes: Any
) -> dict[str, Any]:
    made = job(serving=serving or {}, data=ASKED if held is not None else {})
    return {
        "job": made,
        "tokenizer": training,
        "serving": serving_side(training, **changes),
        "sample": sample(TALK, using=training),
        "inputs": inputs(made, gold=held) if held is not None else inputs(made),
    }


CASES = (
    Case("tokenizer-parity", "a server with another tokenizer", True, lambda: _sides(tokenizer(), shift=1)),
    Case(
        "tokenizer-parity",
        "a server with another template",
        True,
        lambda: _sides(tokenizer(), opening="<|assistant|>\n"),
    ),
    Case(
        "tokenizer-parity",
        "a tokenizer.json that says otherwise",
        True,
        lambda: _sides(tokenizer(reference_shift=1)),
    ),
    Case(
        "tokenizer-parity",
        "a gold set with other ids",
        True,
        lambda: _sides(tokenizer(), held=gold(("Why?", "So."), using=tokenizer(shift=1))),
    ),
    Case("tokenizer-parity", "one tokenizer on all sides", False, lambda: _sides(tokenizer())),
    Case(
        "tokenizer-parity",
        "a gold set that agrees",
        False,
        lambda: _sides(tokenizer(), held=gold(("Why?", "So."))),
    ),
)
