"""Counts an input as the server renders it, decides what becomes of it, and caps the answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from ftcheck.errors import InputError
from ftcheck_plugins.guard.records import Code, Decision, Guard, Messages, Question, Refused

LONGEST_TOKEN = 200
"""Characters: a text with so many times the limit is not tokenised to be refused."""
MAX_CHUNKS = 16
"""So many parts of one input are sent at most: a request must not cost a hundred."""


def admitted(guard: Guard, messages: Any, cap: Any = None, tools: Any = None) -> Question:
    """A request as it may be answered. Raises `Refused` for one that is not let through.

    `messages`, `cap` and `tools` are as they came: nothing about them is taken for granted.
    """
    asked = normalised(messages, guard.system_prompt)
    most = capped(cap, guard.max_new_tokens)
    if len(str(asked)) + len(str(tools)) > LONGEST_TOKEN * MAX_CHUNKS * (guard.max_input_tokens + 1):
        raise Refused(Code.OVER_LIMIT, f"the input is far longer than the limit of {guard.max_input_tokens}")
    tokens = count(guard, asked, tools)
    decision = decide(tokens, guard.max_input_tokens, guard.over_limit)
    if decision is Decision.REJECT:
        raise Refused(
            Code.OVER_LIMIT,
            f"the input has {tokens:,} tokens as the model reads it; the limit is {guard.max_input_tokens:,}",
        )
    return Question(asked, tokens, decision, most, tools or None)


def decide(tokens: int, limit: int, over_limit: Decision) -> Decision:
    """What becomes of an input of so many tokens: the limit itself still passes."""
    return Decision.PASS if tokens <= limit else over_limit


def capped(asked: Any, limit: int) -> int:
    """The output cap of a request: what it asks for, never more than the limit. Raises `Refused`."""
    if asked is None:
        return limit
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise Refused(Code.NOT_COUNTED, "max_tokens must be a whole number above 0")
    return min(asked, limit)


def count(guard: Guard, messages: Messages, tools: Sequence[Any] | None = None) -> int:
    """Tokens of a conversation as the server renders it, with the opened turn of the assistant.

    Raises `Refused` where the template does not take the conversation.
    """
    switches = {**guard.switches, "tools": list(tools)} if tools else guard.switches
    try:
        text = guard.tokenizer.render(messages, prompt=True, **switches)
    except InputError as error:
        # the template's own words may quote the conversation
        raise Refused(Code.NOT_COUNTED, "the chat template cannot render this conversation") from error
    return len(guard.tokenizer.encode(text))


def normalised(messages: Any, system_prompt: str | None) -> Messages:
    """A conversation as it is counted and sent: every content one text, the server's system prompt first.

    A system prompt of the request's own stays, as in the gold set. Raises `Refused` for anything that is
    not text: images and sounds cannot be counted.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise Refused(Code.NOT_COUNTED, "messages must be a list with at least one message")
    asked = tuple(_message(one) for one in messages)
    if system_prompt is None or any(one["role"] in ("system", "developer") for one in asked):
        return asked
    return ({"role": "system", "content": system_prompt}, *asked)


def _message(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not isinstance(given.get("role"), str):
        raise Refused(Code.NOT_COUNTED, "every message must be an object with a role and a content")
    return {**given, "content": _text(given.get("content"))}


def _text(content: Any) -> str | None:
    """Parts of text become one text, a line each, as servers put them together."""
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, Sequence) else ()
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") == "text"]
    if not parts or len(texts) != len(parts) or not all(isinstance(text, str) for text in texts):
        raise Refused(Code.NOT_COUNTED, "only text can be counted: a content is a text, or a list of texts")
    return "\n".join(str(text) for text in texts)
