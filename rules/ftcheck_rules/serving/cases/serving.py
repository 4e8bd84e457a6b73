"""Must-fail and must-pass inputs of output-cap and output-schema."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, gold, job, output_schema, prepared, rows

SCHEMA = {"type": "object", "required": ["team"], "properties": {"team": {"enum": ["hr", "it"]}}}
PROMPT = "Answer with one line of JSON: team."


def _cap(tokens: int | None) -> Mapping[str, Any]:
    """Gold answers of two tokens and training answers of ten."""
    return {
        "job": job(serving={"max_new_tokens": tokens}),
        "gold": gold(("what is it?", "A.")),
        "prepared": prepared([50, 50], trained=[10, 10]),
    }


def _schema(answer: Any, system_prompt: str | None = PROMPT) -> Mapping[str, Any]:
    return {
        "job": job(serving={"system_prompt": system_prompt, "output_schema": "output_schema.json"}),
        "output_schema": output_schema(SCHEMA),
        "gold": gold(("who mends the printer?", answer)),
        "rows": rows(),
    }


CASES: tuple[Case, ...] = (
    Case("output-cap", "none", True, lambda: _cap(None)),
    Case("output-cap", "below the answers", True, lambda: _cap(9)),
    Case("output-cap", "just enough", False, lambda: _cap(10)),
    Case("output-schema", "an answer that breaks it", True, lambda: _schema({"team": "sales"})),
    Case("output-schema", "an answer that is no JSON", True, lambda: _schema("it, I think")),
    Case("output-schema", "no system prompt", True, lambda: _schema({"team": "it"}, None)),
    Case("output-schema", "an answer that fits", False, lambda: _schema({"team": "it"})),
)
