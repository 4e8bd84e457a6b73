"""Questions with known answers, and the schema of the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.tokenizer import Message
from ftcheck.inputs.tool_parsers import FunctionCall
from ftcheck.records import Location

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class GoldItem:
    """One question with its answer: `messages` as served, `answer` as text, its length in tokens.

    `tools` are those that the question offers. Where the expected answer is one or several calls, `calls` are
    these, `call_message` is the assistant's message with them, and `answer` is what the template makes of it.
    """

    id: str
    messages: tuple[Message, ...]
    prompt: str
    prompt_ids: tuple[int, ...]
    expected: Any
    answer: str
    answer_tokens: int
    at: Location
    tools: Any = None
    calls: tuple[FunctionCall, ...] = ()
    call_message: Message | None = None


@dataclass(frozen=True, slots=True)
class GoldSet:
    """Questions with known answers, rendered as the server will render them.

    `call_format` is the id of the format (`inputs.tool_parsers`) in which answers that are calls are read:
    that of serving.tool_parser, else the one that the chat template writes. None where no answer is a call,
    or the format is unknown.
    """

    path: str
    items: tuple[GoldItem, ...]
    system_prompt: str | None = None
    row_errors: tuple[tuple[Location, RowError], ...] = ()
    call_format: str | None = None


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The JSON Schema of the answers, and a function that lists what is wrong with one."""

    path: str
    schema: Mapping[str, Any]
    errors: Callable[[Any], list[str]]
