"""Prompts, and the rows that begin with them: what both begin with is tokenised once.

TRL tokenises each prompt alone and with its completion. Where a byte-level tokenizer always begins a word at
a space between two ASCII letters, whatever stands around, a text has the ids of its two parts, cut there.
That holds for the patterns below, which were read; with any other, nothing is cut.
"""

import json
from collections.abc import Iterable
from typing import Any

LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS = frozenset({LLAMA % r"\p{N}", LLAMA % r"\p{N}{1,3}", DEEPSEEK})
"""Patterns of words: a run of letters, with the space before it."""
OTHERS = frozenset({"[0-9][0-9][0-9]", r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+"})
"""Patterns that cut nothing between ASCII letters and spaces."""
HARMLESS = frozenset({"Digits", "Punctuation", "Sequence"})
"""Pre-tokenizers of which the same holds."""


def is_cuttable(raw: Any, added: Iterable[Any]) -> bool:
    """Whether a Rust tokenizer gives the same ids for a text and for its parts, cut as `cut` does it."""
    if raw.pre_tokenizer is None or type(raw.model).__name__ != "BPE":
        return False
    if raw.normalizer is not None and json.loads(raw.normalizer.__getstate__())["type"] != "NFC":
        return False  # NFC leaves a space and what stands before it as they are
    if raw.model.dropout or any(map(_takes_in_spaces, added)):
        return False
    whole = json.loads(raw.pre_tokenizer.__getstate__())
    parts = [whole, *whole.get("pretokenizers", ())]
    return all(map(_is_known, parts)) and any(map(_makes_words, parts))


def _takes_in_spaces(token: Any) -> bool:
    return bool(token.lstrip or token.rstrip or token.single_word or " " in token.content)


def _pattern(part: Any) -> str | None:
    """The pattern of a `Split` that isolates what it finds, with line breaks written as escapes."""
    usual = part["type"] == "Split" and part.get("behavior") == "Isolated" and not part.get("invert")
    stated = part["pattern"].get("Regex") if usual else None
    return None if stated is None else stated.replace("\r", r"\r").replace("\n", r"\n")


def _is_known(part: Any) -> bool:
    if part["type"] == "ByteLevel":
        return not part.get("add_prefix_space")
    return part["type"] in HARMLESS or _pattern(part) in WORDS | OTHERS


def _makes_words(part: Any) -> bool:
    return (part["type"] == "ByteLevel" and bool(part.get("use_regex"))) or _pattern(part) in WORDS


def cut(text: str) -> int:
    """The last place before a space between two ASCII letters; 0 where there is none."""
    at = text.rfind(" ", 0, len(text) - 1)
    while at > 0:
        before, after = text[at - 1], text[at + 1]
        if before.isascii() and before.isalpha() and after.isascii() and after.isalpha():
            return at
        at = text.rfind(" ", 0, at)
    return 0
