"""Must-fail and must-pass inputs of the template rules."""

from typing import Any

from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.tokenizer import Message
from ftcheck.testing import Case, FakeTokenizer, job, prepared, sample, tokenizer

TALK: tuple[Message, ...] = (
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "The capital of France?"},
    {"role": "assistant", "content": "Paris"},
)
MARKED = "{% for m in messages %}{% generation %}…{% endgeneration %}{% endfor %}"


def _rendered(using: FakeTokenizer, **changes: Any) -> dict[str, Any]:
    made = {
        "job": job(),
        "tokenizer": using,
        "prepared": prepared([9, 9], trained=[4, 4]),
        "sample": sample(TALK, using=using),
    }
    return {**made, **changes}


def _raises() -> dict[str, Any]:
    trouble = RowError("template", "the chat template raised TemplateError: roles must alternate")
    return _rendered(tokenizer(), prepared=prepared([9, 9], row_errors={1: trouble}))


def _loss(template: str) -> dict[str, Any]:
    using = tokenizer(chat_template=template, training_template=template)
    return _rendered(using, job=job(training={"assistant_only_loss": True}))


CASES = (
    Case("chat-template", "a row on which the template raises", True, _raises),
    Case(
        "chat-template",
        "conversations and no template",
        True,
        lambda: _rendered(tokenizer(chat_template=None, training_template=None)),
    ),
    Case("chat-template", "a loss that needs markers, and none there", True, lambda: _loss("{{ messages }}")),
    Case(
        "chat-template",
        "a template that drops the system message",
        True,
        lambda: _rendered(tokenizer(loses=("system",))),
    ),
    Case("chat-template", "every row rendered whole", False, lambda: _rendered(tokenizer())),
    Case("chat-template", "markers where the loss needs them", False, lambda: _loss(MARKED)),
)
