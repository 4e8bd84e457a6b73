"""Must-fail and must-pass inputs of the token rules."""

from typing import Any

from ftcheck.inputs.evaluation import GoldSet
from ftcheck.inputs.probe_texts import CONVERSATIONS, PROBES
from ftcheck.inputs.tokenizer import Message
from ftcheck.lock import Lock
from ftcheck.testing import (
    Case,
    FakeTokenizer,
    gold,
    inputs,
    job,
    lock,
    packages,
    sample,
    serving_side,
    tokenizer,
)

TALK: tuple[Message, ...] = (
    {"role": "user", "content": "The capital of France?"},
    {"role": "assistant", "content": "Paris"},
)
ASKED = {"gold": {"path": "gold.json"}}
TEXTS = {probe.name: probe.text for probe in PROBES}
TALKS = {one.name: one.messages for one in CONVERSATIONS}


def _sides(
    training: FakeTokenizer,
    *,
    held: GoldSet | None = None,
    serving: Any = None,
    locked: Lock | None = None,
    **changes: Any,
) -> dict[str, Any]:
    made = job(serving=serving or {}, data=ASKED if held is not None else {})
    return {
        "job": made,
        "tokenizer": training,
        "serving": serving_side(training, **changes),
        "sample": sample(TALK, using=training),
        "lock": locked,
        "packages": packages(transformers="5.23.0"),
        "inputs": inputs(made, gold=held) if held is not None else inputs(made),
    }


def locked_with(using: FakeTokenizer) -> Lock:
    """A lock that holds the ids of every built-in text and conversation, as this tokenizer gives them."""
    return lock(using, texts=TEXTS, conversations=TALKS, versions={"transformers": "5.23.0"})


CASES = (
    Case("tokenizer-parity", "a server with another tokenizer", True, lambda: _sides(tokenizer(), shift=1)),
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
    Case(
        "tokenizer-parity",
        "other ids than when the policy was locked",
        True,
        lambda: _sides(tokenizer(), locked=locked_with(tokenizer(shift=1))),
    ),
    Case(
        "tokenizer-parity",
        "a Mistral tokenizer whose mended regex gives other ids",
        True,
        lambda: _sides(tokenizer(fixed_shift=1)),
    ),
    Case("tokenizer-parity", "one tokenizer on all sides", False, lambda: _sides(tokenizer())),
    Case(
        "tokenizer-parity",
        "another template, which is another rule's",
        False,
        lambda: _sides(tokenizer(), opening="<|assistant|>\n"),
    ),
    Case(
        "tokenizer-parity",
        "a gold set that agrees",
        False,
        lambda: _sides(tokenizer(), held=gold(("Why?", "So."))),
    ),
    Case(
        "tokenizer-parity",
        "the ids of the lock",
        False,
        lambda: _sides(tokenizer(), locked=locked_with(tokenizer())),
    ),
    Case(
        "tokenizer-parity",
        "a Mistral tokenizer on which the mended regex changes nothing",
        False,
        lambda: _sides(tokenizer(fixed_shift=0)),
    ),
)
