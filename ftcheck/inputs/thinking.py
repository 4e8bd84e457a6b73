"""Where reasoning stands in messages and in rendered text (`tables/thinking.json`)."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from ftcheck import tables


class Tag(NamedTuple):
    """How a model's template writes a thinking block in text."""

    open: str
    close: str


class Thought(NamedTuple):
    """Reasoning of one message: the key or the tag that it stands under, and its text without outer space."""

    where: str
    text: str


def _table() -> dict[str, Any]:
    return tables.load("thinking")


KEYS: tuple[str, ...] = tuple(_table()["keys"])
"""Keys of a message that hold reasoning."""
TAGS: tuple[Tag, ...] = tuple(Tag(one["open"], one["close"]) for one in _table()["tags"])
"""How reasoning is marked in text."""
SWITCHES: Mapping[str, bool] = _table()["switches"]
"""Template switches that turn thinking on, with their value for that."""
HISTORY_SWITCHES: Mapping[str, bool] = _table()["history_switches"]
"""Template switches that keep the reasoning of earlier turns, with their value for that."""
PARTS = frozenset({"thinking", "reasoning", "thoughts"})
"""Types of content parts that are reasoning."""
BEGINS = r"(?:^|[\n>\]|:])\s*"
"""What stands before a tag that opens a block: a tag in the middle of a sentence is only spoken of."""


@cache
def _opening(tag: Tag) -> re.Pattern[str]:
    return re.compile(BEGINS + re.escape(tag.open))


@cache
def _block(tag: Tag) -> re.Pattern[str]:
    return re.compile(f"{re.escape(tag.open)}(.*?){re.escape(tag.close)}", re.DOTALL)


@cache
def _blocks() -> re.Pattern[str]:
    """Any thinking block with the space around it, and one that is open at the end of a text."""
    closed = (f"{re.escape(tag.open)}.*?{re.escape(tag.close)}" for tag in TAGS)
    ends = (rf"(?:{re.escape(tag.open)}|{re.escape(tag.close)})\s*\Z" for tag in TAGS)
    lone = (re.escape(tag.close) for tag in TAGS if tag.close[:2] in ("</", "[/"))
    return re.compile(rf"\s*(?:{'|'.join([*closed, *ends, *lone])})\s*", re.DOTALL)


def of_message(message: Mapping[str, Any]) -> list[Thought]:
    """All reasoning in a message: under a key, in tags of its content, or as parts of it."""
    found = [
        Thought(key, value.strip())
        for key in KEYS
        if isinstance(value := message.get(key), str) and value.strip()
    ]
    content = message.get("content")
    if isinstance(content, str):
        found.extend(of_text(content))
    elif isinstance(content, list):
        found.extend(_of_parts(content))
    return found


def _of_parts(parts: list[Any]) -> Iterator[Thought]:
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in PARTS:
            text = part.get(kind) or part.get("text")
            if isinstance(text, str) and text.strip():
                yield Thought(f"a part of type {kind}", text.strip())


def of_text(content: str) -> Iterator[Thought]:
    """Blocks of reasoning in a text; one that begins before it, in the prompt, ends with the closing tag."""
    for tag in TAGS:
        if tag.close not in content:
            continue
        if tag.open not in content:
            if (before := content.partition(tag.close)[0].strip()) and tag.close[:2] in ("</", "[/"):
                yield Thought(tag.open, before)
        elif _opening(tag).search(content):
            for text in _block(tag).findall(content):
                if text.strip():
                    yield Thought(tag.open, text.strip())


def open_tag(text: str) -> Tag | None:
    """The tag of a thinking block that the text opens and never closes."""
    for tag in TAGS:
        if tag.open in text:
            last = max((one.end() for one in _opening(tag).finditer(text)), default=-1)
            if last >= 0 and tag.close not in text[last:]:
                return tag
    return None


def without(text: str) -> str:
    """A text without its thinking blocks, empty and open ones too, and without the space around them."""
    return _blocks().sub("", text)


def block_at_end(prompt: str) -> str | None:
    """The thinking block that a prompt ends in: `open`, `empty` (opened and closed), or None."""
    text = prompt.rstrip()
    for tag in TAGS:
        if text.endswith(tag.open):
            return "open"
        if text.endswith(tag.close) and tag.close[:2] in ("</", "[/", "<c"):
            return "empty"
    return None


def same_but_thinking(prompt: str, text: str) -> bool:
    """Whether a text begins with this prompt, but for thinking blocks in either."""
    return without(text).startswith(without(prompt).rstrip())
