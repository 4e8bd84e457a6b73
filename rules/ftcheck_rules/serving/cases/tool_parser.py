"""Must-fail and must-pass inputs of tool-parser."""

import json
from collections.abc import Mapping
from typing import Any

from ftcheck.testing import (
    Case,
    inputs,
    job,
    model_config,
    prepared,
    row_conversations,
    rows,
    serving_side,
    tokenizer,
)

TOOLS = [{"type": "function", "function": {"name": "find_room", "parameters": {"type": "object"}}}]
HERMES, BARE = "<tool_call>\n%s\n</tool_call>", "%s"


def parsed(
    parser: str | None,
    written: str = HERMES,
    *,
    engine: str | None = "vllm",
    text: bool = False,
    called: bool = True,
    count: int = 3,
) -> Mapping[str, Any]:
    """The inputs of `tool-parser`: rows that call a tool, `written` so; `text`: arguments as JSON text."""
    stated = {name: one for name, one in (("engine", engine), ("tool_parser", parser)) if one is not None}
    policy, of = job(serving=stated), rows(count, remarks={"structured": range(count)})
    conversations: list[list[Mapping[str, Any]]] = [
        [
            {"role": "user", "content": f"A room for {number}?"},
            {"role": "assistant", "content": "", **({"tool_calls": [_call(number, text)]} if called else {})},
        ]
        for number in range(count)
    ]
    maker = tokenizer(call=written)
    return {
        "job": policy,
        "prepared": prepared([40] * count, of=of),
        "tokenizer": maker,
        "serving": serving_side(maker),
        "model": model_config(),
        "gold": None,
        "inputs": inputs(policy, row_texts=row_conversations(*conversations, tools=TOOLS)),
    }


def _call(beds: int, text: bool) -> Mapping[str, Any]:
    arguments = {"city": "Bonn", "beds": beds}
    written = json.dumps(arguments) if text else arguments
    return {"type": "function", "function": {"name": "find_room", "arguments": written}}


CASES: tuple[Case, ...] = (
    Case("tool-parser", "a parser whose marks no call has", True, lambda: parsed("hermes", BARE)),
    Case("tool-parser", "arguments encoded twice", True, lambda: parsed("hermes", text=True)),
    Case(
        "tool-parser", "a token that the tokenizer lacks", True, lambda: parsed("mistral", "[TOOL_CALLS][%s]")
    ),
    Case("tool-parser", "the parser of the template", False, lambda: parsed("hermes")),
    Case("tool-parser", "bare JSON", False, lambda: parsed("llama3_json", BARE)),
    Case("tool-parser", "SGLang's name for it", False, lambda: parsed("qwen25", engine="sglang")),
)
