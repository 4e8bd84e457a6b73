"""A call as text: what a model writes for it by its template, and what a server's parser gets of that."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

from ftcheck.errors import InputError
from ftcheck.inputs import tool_parsers
from ftcheck.inputs.tokenizer import Message, Tokenizer
from ftcheck.inputs.tool_parsers import Format, FunctionCall, Unreadable

Render = Callable[[Sequence[Message], bool, Any], str]
"""Renders messages: with the assistant's turn opened where the flag says so, and with these tools."""

QUESTION: Message = {"role": "user", "content": "Which rooms are free in Bonn?"}
PROBE_TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "find_room",
            "description": "Find a room.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city."},
                    "beds": {"type": "integer", "description": "How many beds."},
                    "quiet": {"type": "boolean", "description": "Whether it must be quiet."},
                },
                "required": ["city"],
            },
        },
    },
)
PROBE = FunctionCall("find_room", {"city": "Bonn", "beds": 2, "quiet": True})
PROBE_IDS = ("call12345", "functions.find_room:0")
"""Ids as Mistral's templates ask for them, and as Kimi's write them."""


def message_of(calls: Sequence[FunctionCall], ids: Sequence[str] = ()) -> Message:
    """An assistant's message with these calls, their arguments as objects."""
    known = [*ids, *(f"call{number:05}" for number in range(len(ids), len(calls)))]
    made = [
        {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for id, call in zip(known, calls, strict=False)
    ]
    return {"role": "assistant", "content": "", "tool_calls": made}


def answer_text(render: Render, before: Sequence[Message], answer: Message, tools: Any) -> str:
    """What a model writes for `answer`, by a template: what follows the prompt, to the end of the turn.

    A template may open a turn otherwise than it renders one that is there (a thinking block): then what both
    have in common, up to the end of a mark or line, is left out. Raises `InputError`.
    """
    whole, prompt = render([*before, answer], False, tools), render(before, True, tools)
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    base = whole[: _shared(whole, render(before, False, tools))]
    opening, rest = prompt[len(base) :], whole[len(base) :]
    shared = _shared(opening, rest)
    while shared and rest[shared - 1] not in "\n>] ":
        shared -= 1
    return rest[shared:]


def _shared(one: str, other: str) -> int:
    """With how many characters both texts begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def as_served(tokenizer: Tokenizer, text: str, stops: Collection[int], form: Format) -> str:
    """An answer as a server hands it to its parser: up to the stop token, special tokens kept or left out."""
    ids = tokenizer.encode(text)
    end = next((place for place, one in enumerate(ids) if one in stops), len(ids))
    return tokenizer.show(ids[:end]) if form.special == "kept" else tokenizer.plain(ids[:end])


def has_token(tokenizer: Tokenizer, token: str) -> bool:
    """Whether a text is one token of this tokenizer."""
    return any(tokenizer.show([one]) == token for one in tokenizer.encode(token))


def written_by(
    tokenizer: Tokenizer, render: Render, stops: Collection[int] = frozenset()
) -> tuple[Format, ...]:
    """The formats in which a template writes calls: those that read a call rendered by it, the best first."""
    ends = {*tokenizer.stop_ids, *stops}
    for text in probe_texts(render):
        found = tuple(form for form in tool_parsers.formats().values() if _reads(tokenizer, form, text, ends))
        if found:
            return found
    return ()


def _reads(tokenizer: Tokenizer, form: Format, text: str, stops: Collection[int]) -> bool:
    try:
        calls = tool_parsers.read(form, as_served(tokenizer, text, stops, form), PROBE_TOOLS)
    except Unreadable:
        return False
    return tool_parsers.same_calls(calls, [PROBE])


def probe_texts(render: Render) -> Iterator[str]:
    """A call as a template writes it: with arguments as an object, and as JSON text, and with other ids."""
    for id in PROBE_IDS:
        for arguments in (PROBE.arguments, json.dumps(PROBE.arguments)):
            message = message_of([FunctionCall(PROBE.name, arguments)], [id])
            with suppress(InputError):
                yield answer_text(render, [QUESTION], message, list(PROBE_TOOLS))
