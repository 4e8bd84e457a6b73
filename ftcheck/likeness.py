"""When two texts count as the same words: normalised, and as a number of 64 bits."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NOTHING = 0
"""The fingerprint of no text at all."""
SPACE = 32
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
    words = _ascii_words(text) if text.isascii() else b""
    words = words or normalised(text).encode("utf-8", "surrogatepass")
    return _number(words) if words else NOTHING


def _ascii_words(text: str) -> bytes:
    return b" ".join(text.encode().translate(ASCII_WORDS).split())


def _number(words: bytes) -> int:
    return int.from_bytes(hashlib.sha256(words).digest()[:8], "big", signed=True)


def fingerprints(texts: Sequence[str]) -> list[int]:
    """The fingerprints of many texts: words of ASCII texts are looked for in all of them at once."""
    plain = [text for text in texts if text.isascii()]
    found = iter(_words_of_all(plain) if plain else ())
    words = [next(found) if text.isascii() else b"" for text in texts]
    return [_number(one) if one else fingerprint(text) for one, text in zip(words, texts, strict=True)]


def _words_of_all(texts: Sequence[str]) -> Iterator[bytes]:
    """What `_ascii_words` makes of each text: of a run of spaces only the first one stays."""
    import numpy as np

    table = np.frombuffer(ASCII_WORDS, dtype=np.uint8)
    words = table[np.frombuffer("\n".join(texts).encode() + b"\n", dtype=np.uint8)]
    stays = words != SPACE
    stays[1:] |= stays[:-1]
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + 1
    left = words[stays].tobytes()
    start = 0
    for stop in np.cumsum(np.add.reduceat(stays, np.cumsum(lengths) - lengths, dtype=np.int64)).tolist():
        yield left[start:stop].strip()
        start = stop


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
