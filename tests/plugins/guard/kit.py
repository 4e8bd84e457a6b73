"""Guards of a tokenizer of characters, and models that answer from a list."""

from typing import Any

from ftcheck_plugins.guard import Answer, Decision, Guard
from ftcheck_plugins.guard.records import Messages
from ftcheck_plugins.reading.output_schema import describe
from jsonschema import Draft202012Validator

from ftcheck.inputs.evaluation import OutputSchema
from ftcheck.testing import tokenizer

TEAM = {"type": "object", "required": ["team"], "properties": {"team": {"enum": ["hr", "it"]}}}
OVERHEAD = 3
"""Tokens of one message in the conversation of `ftcheck.testing.tokenizer`: role, end, the opened turn."""


def guard(limit: int = 100, over: str = "reject", *, schema: Any = None, **changes: Any) -> Guard:
    """A guard whose tokens are characters: a lone message of n characters has n + 3."""
    made: dict[str, Any] = {
        "job": "job",
        "tokenizer": tokenizer(),
        "max_input_tokens": limit,
        "max_new_tokens": 16,
        "over_limit": Decision(over),
        "schema": held(schema) if schema is not None else None,
    }
    return Guard(**{**made, **changes})


def held(schema: dict[str, Any]) -> OutputSchema:
    """A schema whose errors are worded as the loader words them."""
    validator = Draft202012Validator(schema)

    def errors(value: Any) -> list[str]:
        return [describe(error, frozenset({"team"})) for error in validator.iter_errors(value)]

    return OutputSchema("output_schema.json", schema, errors)


def user(text: str) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


class Script:
    """A model that gives these answers, one after the other; `asked` are the conversations it was sent."""

    def __init__(self, *answers: str | Answer) -> None:
        self.answers = list(answers)
        self.asked: list[Messages] = []
        self.caps: list[int] = []

    async def __call__(self, messages: Messages, cap: int) -> Answer:
        self.asked.append(messages)
        self.caps.append(cap)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return (
            given if isinstance(given, Answer) else Answer(given, "stop", len(str(messages)), len(given) // 8)
        )
