"""When two texts count as the same words: normalised, and as a number of 64 bits."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = 0
"""The fingerprint of no text at all."""
NO_WORD = re.compile(r"[\W_]+")
ASCII_WORDS = bytes(ord(chr(one).lower()) if chr(one).isalnum() and one < 128 else 32 for one in range(256))
"""What `normalised` makes of each ASCII character: letters in lower case, digits, else a space."""


def normalised(text: str) -> str:
    """A text without case, punctuation and white space that carries no words (Unicode NFKC).

    A text that has nothing but punctuation (`++`, `:-)`) stays as it is: it would be nothing.
    """
    words = NO_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return words or text.strip()


def fingerprint(text: str) -> int:
    """The first 8 bytes of sha256 over the normalised text, signed; `NOTHING` for a blank one."""
    words = b" ".join(text.encode().translate(ASCII_WORDS).split()) if text.isascii() else b""
    words = words or normalised(text).encode("utf-8", "surrogatepass")
    if not words:
        return NOTHING
    return int.from_bytes(hashlib.sha256(words).digest()[:8], "big", signed=True)


def asked(turns: Sequence[Mapping[str, Any]]) -> str:
    """What the user says before the first answer."""
    words: list[str] = []
    for turn in turns:
        if turn.get("role") == "assistant":
            break
        if turn.get("role") == "user":
            words.append(text_of(turn.get("content")))
    return "\n".join(words)


def whole(turns: Sequence[Mapping[str, Any]]) -> str:
    """What is said in a conversation; system messages, which every row shares, are left out."""
    return "\n".join(text_of(turn.get("content")) for turn in turns if turn.get("role") != "system")


def text_of(content: Any) -> str:
    """The words of a message's content: a text, or the texts in a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""
