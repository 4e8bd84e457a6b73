"""When two texts count as the same words: normalised, and as a number of 64 bits."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOTHING = 0
"""The fingerprint of no text at all."""
SPACE = 32
TYPOGRAPHY = "’“”‘–—…•°×→·«»\u00a0"
"""Characters beside ASCII that texts are full of and that belong to no word, in Unicode NFKC neither."""
NO_WORD = re.compile(r"[\W_]+")
END = 1
"""Stands between texts where many are looked at together: a control character, which is no word."""
ASCII_WORDS = bytes(
    END if one == END else ord(chr(one).lower()) if one < 128 and chr(one).isalnum() else SPACE
    for one in range(256)
)
"""What `normalised` makes of each ASCII character: letters in lower case, digits, else a space."""


def normalised(text: str) -> str:
    """A text without case, punctuation and white space that carries no words (Unicode NFKC).

    A text that has nothing but punctuation (`++`, `:-)`) stays as it is: it would be nothing.
    """
    return _words(text) or text.strip()


def _words(text: str) -> str:
    return NO_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def fingerprint(text: str) -> int:
    """The first 8 bytes of sha256 over the normalised text, signed; `NOTHING` for a blank one."""
    return int(fingerprints([text])[0])


def fingerprints(texts: Sequence[str]) -> "NDArray[np.int64]":
    """The fingerprints of many texts (int64, one a text)."""
    return _numbers([one or _as_one([], [text]) for one, text in zip(words_of(texts), texts, strict=True)])


def of_rows(
    rows: Sequence[Sequence[str]], asked: Sequence[Sequence[int]]
) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Of each row the fingerprints of the texts that `asked` counts up, and of all its texts.

    Both are those of the texts as one, a line each; no text is looked at twice.
    """
    words = words_of([text for row in rows for text in row])
    some: list[bytes] = []
    whole: list[bytes] = []
    start = 0
    for row, places in zip(rows, asked, strict=True):
        here = words[start : start + len(row)]
        start += len(row)
        whole.append(_as_one(here, row))
        only = here[places[0]] if len(places) == 1 else b""
        some.append(only or _as_one([here[place] for place in places], [row[place] for place in places]))
    return _numbers(some), _numbers(whole)


def _as_one(words: Sequence[bytes], texts: Sequence[str]) -> bytes:
    """What `normalised` makes of texts as one, by the words of each."""
    if b"" in words:
        words = [one for one in words if one]
    return b" ".join(words) if words else "\n".join(texts).strip().encode("utf-8", "surrogatepass")


def _numbers(words: Sequence[bytes]) -> "NDArray[np.int64]":
    import numpy as np

    digests = b"".join([sha256(one).digest() for one in words])
    numbers = np.frombuffer(digests, dtype=">i8")[::4].astype(np.int64)
    numbers[[n for n, one in enumerate(words) if not one]] = NOTHING
    return numbers


def words_of(texts: Sequence[str]) -> list[bytes]:
    """The words of each text, none for nothing but punctuation: in ASCII texts those of all at once."""
    rare = [n for n, text in enumerate(texts) if not text.isascii()]
    plain = [*texts]
    for n in rare:
        plain[n] = _without_typography(texts[n])
    found = _words_of_all(plain)
    for n in rare:
        if not plain[n]:
            found[n] = _words(texts[n]).encode("utf-8", "surrogatepass")
    return found


def _without_typography(text: str) -> str:
    """An ASCII text of the same words; none where there is none."""
    for one in TYPOGRAPHY:
        text = text.replace(one, " ")
    return text if text.isascii() else ""


def _words_of_all(texts: Sequence[str]) -> list[bytes]:
    """The words of ASCII texts: of a run of characters that are none, a space where they part two words."""
    import numpy as np

    if not texts:
        return []
    end = chr(END)
    whole = end.join(texts)
    if whole.count(end) >= len(texts):
        whole = end.join([text.replace(end, " ") for text in texts])
    seen = np.frombuffer(whole.encode().translate(ASCII_WORDS), dtype=np.uint8)
    stays = seen != SPACE
    stays[1:] |= seen[:-1] > SPACE
    return [one.rstrip() for one in seen[stays].tobytes().split(bytes([END]))]


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
