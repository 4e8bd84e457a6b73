"""When two texts count as the same words: normalised, and as a number of 64 bits."""

import sys
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOTHING = 0
"""The fingerprint of no text at all."""
OPERATORS = "+-*/=<>%^$×÷−"
"""They count beside a number of their line: `2 + 3` is not `2 - 3`. Else they are bullets and dashes."""
SUFFIXES = "+#"
"""They count after a letter: `C++` is not `C#`."""
SPACE, END = 32, 1
"""What parts two words, and two texts that are looked at together: a control character, in no word."""
MARK, WIDE_MARK = 1 << 7, 1 << 21
"""Set in an ASCII character, or in any, that is an operator or a suffix, until it is settled."""
UNKNOWN, SEVERAL = 0, 1 << 22
"""Stand for a character that was not met yet, and for one that is several in lower case (`ß`)."""


def normalised(text: str) -> str:
    """A text without case, and without the punctuation and white space that carries no words (Unicode NFKC).

    A text that has nothing but punctuation (`++`, `:-)`) stays as it is: it would be nothing.
    """
    return _as_one(words_of([text]), [text]).decode("utf-8", "surrogatepass")


def fingerprint(text: str) -> int:
    """The first 8 bytes of sha256 over the normalised text, signed; `NOTHING` for a blank one."""
    return int(fingerprints([text])[0])


def fingerprints(texts: Sequence[str]) -> "NDArray[np.int64]":
    """The fingerprints of many texts (int64, one a text)."""
    return _numbers([_as_one([one], [text]) for one, text in zip(words_of(texts), texts, strict=True)])


def of_rows(
    rows: Sequence[Sequence[str]], asked: Sequence[Sequence[int]], answers: Sequence[int]
) -> "tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]":
    """Of each row the fingerprints of the texts that `asked` counts up, of all its texts, and of the answer.

    The first two are those of the texts as one, a line each; `answers` names one text a row (-1: none). No
    text is looked at twice.
    """
    words = words_of([text for row in rows for text in row])
    some: list[bytes] = []
    whole: list[bytes] = []
    last: list[bytes] = []
    start = 0
    for row, places, answer in zip(rows, asked, answers, strict=True):
        here = words[start : start + len(row)]
        start += len(row)
        whole.append(_as_one(here, row))
        only = here[places[0]] if len(places) == 1 else b""
        some.append(only or _as_one([here[place] for place in places], [row[place] for place in places]))
        last.append(b"" if answer < 0 else here[answer] or _as_one([b""], [row[answer]]))
    return _numbers(some), _numbers(whole), _numbers(last)


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
    """The words of each text in UTF-8, none for nothing but punctuation; of all texts at once."""
    wide = [n for n, text in enumerate(texts) if not text.isascii()]
    if not wide:
        return _ascii_words(texts) if texts else []
    plain = [*texts]
    for n in wide:
        plain[n] = ""
    found = _ascii_words(plain)
    for n, words in zip(wide, _wide_words([texts[n] for n in wide]), strict=True):
        found[n] = words
    return found


def _ascii_words(texts: Sequence[str]) -> list[bytes]:
    import numpy as np

    whole = _whole(texts).encode()
    seen = np.frombuffer(bytearray(whole.translate(_ascii_table())), dtype=np.uint8)
    words = _words_in(seen, np.frombuffer(whole, dtype=np.uint8), MARK).tobytes()
    return [one.rstrip() for one in words.split(bytes([END]))]


def _wide_words(texts: Sequence[str]) -> list[bytes]:
    """The same of texts with any characters, by a table of code points."""
    whole = _whole([unicodedata.normalize("NFKC", text) for text in texts])
    codes = _points(whole)
    seen = _wide(codes)
    if (seen == SEVERAL).any():
        codes = _points(whole.casefold())
        seen = _wide(codes)
    words = _words_in(seen, codes, WIDE_MARK).tobytes().decode("utf-32-le", "surrogatepass")
    return [one.rstrip().encode("utf-8", "surrogatepass") for one in words.split(chr(END))]


def _points(text: str) -> "NDArray[np.uint32]":
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _wide(codes: "NDArray[np.uint32]") -> "NDArray[np.uint32]":
    """Of each character what `_code` makes of it, folded; `SEVERAL` of one that folds to more than one."""
    import numpy as np

    table = _wide_table()
    seen = table[codes]
    if not seen.all():
        met = np.unique(codes[seen == UNKNOWN])
        folded = [chr(one).casefold() for one in met.tolist()]
        table[met] = [_code(ord(one), WIDE_MARK) if len(one) == 1 else SEVERAL for one in folded]
        seen = table[codes]
    return seen


def _whole(texts: Sequence[str]) -> str:
    """The texts with `END` between them, and nowhere else."""
    end = chr(END)
    whole = end.join(texts)
    return whole if whole.count(end) < len(texts) else end.join([text.replace(end, " ") for text in texts])


@cache
def _ascii_table() -> bytes:
    """Of each ASCII character what `_code` makes of it in lower case."""
    return bytes(_code(ord(chr(one).lower()), MARK) if one < MARK else SPACE for one in range(256))


@cache
def _wide_table() -> "NDArray[np.uint32]":
    """The same of all of Unicode, filled in as characters are met."""
    import numpy as np

    return np.full(sys.maxunicode + 1, UNKNOWN, dtype=np.uint32)


def _code(point: int, mark: int) -> int:
    """A letter or a digit as it is, an operator or a suffix with the mark, `END` as it is, else a space."""
    if point == END or chr(point).isalnum():
        return point
    return point | mark if chr(point) in OPERATORS + SUFFIXES else SPACE


def _words_in(seen: "NDArray[Any]", given: "NDArray[Any]", mark: int) -> "NDArray[Any]":
    """Of what is between two words, a space; of all else that is no word, nothing.

    `seen` is what `_code` made of the characters that were `given`. It is changed.
    """
    marked = (seen >= mark).nonzero()[0]
    seen[marked] = _settled(seen, given, marked, mark)
    stays = seen != SPACE
    stays[1:] |= seen[:-1] > SPACE
    words: NDArray[Any] = seen[stays]
    return words


def _settled(
    seen: "NDArray[Any]", given: "NDArray[Any]", marked: "NDArray[np.int64]", mark: int
) -> "NDArray[Any]":
    """The marked characters that count, without the mark, and a space for the others."""
    import numpy as np

    def at(step: int) -> Any:
        """What stands so many characters away: an end where there is none, or where a line ends."""
        places = (marked + step).clip(0, len(seen) - 1)
        outside = (places != marked + step) | (given[places] == ord("\n"))
        return np.where(outside, END, seen[places])

    earlier, before, sign, after, later = (at(step) for step in range(-2, 3))
    plus, hash_sign = ord("+") | mark, ord("#") | mark
    after_suffix = (before == plus) | (before == hash_sign)
    beside = _digit(before) | ((before == SPACE) & _digit(earlier))
    beside |= _digit(after) | ((after == SPACE) & _digit(later))
    attached = _letter(before) | (after_suffix & _letter(earlier))
    counts = (beside & (sign != hash_sign)) | (attached & ((sign == plus) | (sign == hash_sign)))
    settled: NDArray[Any] = np.where(counts, sign ^ mark, SPACE).astype(seen.dtype)
    return settled


def _digit(seen: "NDArray[Any]") -> Any:
    return (seen >= ord("0")) & (seen <= ord("9"))


def _letter(seen: "NDArray[Any]") -> Any:
    return (seen >= ord("a")) & (seen <= ord("z"))


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
