"""Holds an answer against the schema of answers, and says what is wrong with it without quoting it."""

import json
from typing import Any

from ftcheck.inputs.evaluation import OutputSchema


def problems(answer: Any, schema: OutputSchema) -> list[str]:
    """What is wrong with an answer, in words that do not quote it; nothing if it satisfies the schema.

    A text must be JSON, and is read first; any other value is held against the schema as it is.
    """
    if not isinstance(answer, str):
        return schema.errors(answer)
    try:
        value = parsed(answer)
    except json.JSONDecodeError as error:
        return [f"not JSON: {error.msg.lower()}, character {error.pos + 1}"]
    except (ValueError, RecursionError):
        return ["not JSON"]
    return schema.errors(value)


def parsed(text: str) -> Any:
    """The JSON value that a text is. Raises `ValueError`, for NaN and infinities too, or `RecursionError`."""
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")
