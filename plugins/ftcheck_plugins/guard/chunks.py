"""Chunked analysis: cuts a text into parts that fit, and makes one answer of theirs."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ftcheck.inputs.output_schema import parsed

PARAGRAPH = re.compile(r"\n[ \t]*\n")
SENTENCE = re.compile(r"[.!?…][\"')\]”’»]?\s|[。！？]|\n")
WORD = re.compile(r"\s")
FIRST = 64
"""Characters that are tried first; then twice as many, and so on."""

Fits = Callable[[str], bool]


def split(text: str, fits: Fits) -> list[str]:
    """Parts of a text, in order, each of which `fits`; put together they are the text again.

    Each part is as long as it can be, and ends where a paragraph does if that leaves it at least half as
    long, else where a sentence does, else between words, else anywhere. Raises `ValueError` where not even
    one character fits.
    """
    parts, start = [], 0
    while start < len(text):
        end = _end(text[start:], fits)
        parts.append(text[start : start + end])
        start += end
    return parts


def _end(text: str, fits: Fits) -> int:
    most = _longest(text, fits)
    if most == len(text):
        return most
    for place in (_boundary(PARAGRAPH, text, most), _boundary(SENTENCE, text, most)):
        if 2 * place >= most and fits(text[:place]):
            return place
    word = _boundary(WORD, text, most)
    return word if word and fits(text[:word]) else most


def _boundary(kind: re.Pattern[str], text: str, most: int) -> int:
    """Where the last boundary of a kind ends, at `most` at the latest; 0 if there is none."""
    return max((found.end() for found in kind.finditer(text, 0, most)), default=0)


def _longest(text: str, fits: Fits) -> int:
    """Characters from the start that fit: doubled until they do not, then halved in between."""
    low, high = 0, min(FIRST, len(text))
    while fits(text[:high]):
        if high == len(text):
            return high
        low, high = high, min(2 * high, len(text))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle)
    if low == 0:
        raise ValueError("not even one character fits")
    return low


def merge(answers: Sequence[str]) -> str:
    """One answer of the parts' answers, in their order.

    JSON arrays are put together. JSON objects become one, key by key: arrays are put together, objects
    merged in the same way, and of other values the most frequent stands, the first of them where several
    are. Other JSON values are voted on likewise. If any answer is no JSON, or they are of several kinds,
    they are texts and stand below one another.
    """
    try:
        values = [parsed(answer) for answer in answers]
    except (ValueError, RecursionError):
        return "\n".join(answers)
    kinds = {_kind(value) for value in values}
    return json.dumps(_merged(values), ensure_ascii=False) if len(kinds) == 1 else "\n".join(answers)


def _kind(value: Any) -> type:
    return type(value) if isinstance(value, list | dict) else object


def _merged(values: Sequence[Any]) -> Any:
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    if all(isinstance(value, dict) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _merged([value[key] for value in values if key in value]) for key in keys}
    votes = Counter(json.dumps(value, sort_keys=True) for value in values)
    return json.loads(votes.most_common(1)[0][0])
