"""Must-fail and must-pass inputs of template parity."""

from typing import Any

from ftcheck.inputs.evaluation import GoldSet
from ftcheck.inputs.prepared import Sample
from ftcheck.inputs.tokenizer import Message
from ftcheck.lock import Lock
from ftcheck.testing import Case, FakeTokenizer, gold, inputs, job, sample, serving_side, tokenizer
from ftcheck_rules.tokens.cases.tokens import locked_with

TALK: tuple[Message, ...] = (
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "The capital of France?"},
    {"role": "assistant", "content": "Paris"},
)
ASKED = {"gold": {"path": "gold.json"}}


def _sides(
    training: FakeTokenizer | None = None,
    *,
    held: GoldSet | None = None,
    locked: Lock | None = None,
    rows: Sample | None = None,
    **changes: Any,
) -> dict[str, Any]:
    side = training or tokenizer()
    made = job(data=ASKED if held is not None else {})
    return {
        "job": made,
        "tokenizer": side,
        "serving": serving_side(side, **changes),
        "sample": rows or sample(TALK, using=side),
        "lock": locked,
        "inputs": inputs(made, gold=held) if held is not None else inputs(made),
    }


CASES = (
    Case("template-parity", "another template at the server", True, lambda: _sides(opening="<|bot|>")),
    Case(
        "template-parity", "a server that drops the system message", True, lambda: _sides(loses=("system",))
    ),
    Case("template-parity", "today's date in every prompt", True, lambda: _sides(tokenizer(dated=True))),
    Case(
        "template-parity",
        "gold questions rendered otherwise",
        True,
        lambda: _sides(held=gold(("Why?", "So."), using=tokenizer(opening="<|bot|>"))),
    ),
    Case(
        "template-parity",
        "another template than the locked one",
        True,
        lambda: _sides(
            tokenizer(training_template="new", loses=("system",)), locked=locked_with(tokenizer())
        ),
    ),
    Case("template-parity", "one template on both sides", False, _sides),
    Case(
        "template-parity",
        "another tokenizer, which is another rule's",
        False,
        lambda: _sides(shift=1),
    ),
    Case("template-parity", "the locked template", False, lambda: _sides(locked=locked_with(tokenizer()))),
)
