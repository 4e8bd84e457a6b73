"""Questions with known answers, and the schema of the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck.inputs.prepared import RowError
from ftcheck.inputs.tokenizer import Message
from ftcheck.records import Location

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class GoldItem:
    """One question with its answer: `messages` as served, `answer` as text, its length in tokens."""

    id: str
    messages: tuple[Message, ...]
    prompt: str
    prompt_ids: tuple[int, ...]
    expected: Any
    answer: str
    answer_tokens: int
    at: Location


@dataclass(frozen=True, slots=True)
class GoldSet:
    """Questions with known answers, rendered as the server will render them."""

    path: str
    items: tuple[GoldItem, ...]
    system_prompt: str | None = None
    row_errors: tuple[tuple[Location, RowError], ...] = ()


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The JSON Schema of the answers, and a function that lists what is wrong with one."""

    path: str
    schema: Mapping[str, Any]
    errors: Callable[[Any], list[str]]
