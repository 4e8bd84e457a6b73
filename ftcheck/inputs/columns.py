"""Which columns of a data set TRL trains on, and where it raises (trl 1.16, SFTTrainer and data_utils).

TRL looks at the columns of the whole data set, in which a key that a row does not have is null, and at the
values of its first row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

CHAT = ("prompt", "chosen", "rejected", "completion", "messages")
"""Columns by one of which `is_conversational` tells conversations: whichever a set of them gives first."""
LOOKED_AT = (*CHAT, "conversations")
SWITCHES = "chat_template_kwargs"


class Keys(NamedTuple):
    """The keys of a row. `switches` False: no value under `chat_template_kwargs`. `talks` are those of `CHAT`
    that hold a conversation, where the row has more than one of them.
    """

    names: tuple[str, ...]
    switches: bool
    talks: tuple[str, ...] = ()

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Keys:
        """Those of a row."""
        chat = [name for name in CHAT if name in row]
        talks = tuple(name for name in chat if kind(row[name]) == "talk") if len(chat) > 1 else ()
        return cls(tuple(row), row.get(SWITCHES) is not None, talks)


@dataclass(frozen=True, slots=True)
class KeySet:
    """Rows with the same keys: how many, and the index of the first."""

    keys: Keys
    rows: int
    first: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What TRL makes of a data set: the layout that it trains, or what it raises; `column` is why.

    `ending` is the column that gets the EOS token where that is not the one that is trained.
    """

    layout: str | None = None
    raises: str | None = None
    column: str | None = None
    ending: str | None = None


def kind(value: Any) -> str:
    """What TRL sees in a value: `talk`, `from-value`, `empty`, `list`, `text`, `null`, or `other`."""
    if isinstance(value, list):
        first = value[0] if value else None
        if isinstance(first, Mapping):
            return "talk" if "role" in first else "from-value" if {"from", "value"} <= set(first) else "list"
        return "list" if value else "empty"
    return "text" if isinstance(value, str) else "null" if value is None else "other"


def kinds(row: Mapping[str, Any], text_field: str) -> dict[str, str]:
    """The kind of each value of a row that TRL looks at."""
    return {name: kind(row[name]) for name in (*LOOKED_AT, text_field) if name in row}


def decide(
    columns: Collection[str], first: Mapping[str, str], text_field: str, *, assistant_only_loss: bool = False
) -> Decision:
    """What TRL does with a data set of these columns; `first` are the kinds of its first row's values."""
    seen = {name: first.get(name, "null") for name in LOOKED_AT if name in columns}
    if "input_ids" in columns:
        return Decision("tokenised", column="input_ids")
    empty = next((name for name, one in seen.items() if one == "empty"), None)
    if empty is not None:
        return Decision(raises="IndexError: list index out of range", column=empty)
    unmasked = assistant_only_loss and False in _conversational(seen)
    before, converted = seen, seen.get("conversations") == "from-value"
    if converted:
        seen = {name: "talk" if one == "from-value" else one for name, one in seen.items()}
        seen["messages"] = seen.pop("conversations")
    found = [
        _of_columns(columns, seen, first, text_field, talks=talks, converted=converted)
        for talks in sorted(_conversational(seen))
    ]
    if unmasked:
        said = "ValueError: assistant_only_loss is set, but the dataset is not conversational"
        refused = Decision(raises=said, column="conversations" if "conversations" in columns else None)
        found = [refused] if True not in _conversational(before) else [refused, *found]
    if all(one.raises for one in found) or all(one == found[0] for one in found):
        return found[0]
    column = next((name for name in CHAT if seen.get(name, "talk") != "talk"), None)
    return Decision(raises="one error or another, by the order of a set", column=column)


def unclear(sets: Collection[KeySet]) -> list[KeySet]:
    """Rows that `is_conversational` takes for conversations or not, by the order of a set.

    A column that a row does not have is null there.
    """
    columns = {name for one in sets for name in one.keys.names if name in CHAT}
    return [one for one in sets if one.keys.talks and columns - {*one.keys.talks}]


def _conversational(seen: Mapping[str, str]) -> set[bool]:
    """`is_conversational`: it looks at whichever column a set gives first, so there may be two answers."""
    return {seen[name] == "talk" for name in CHAT if name in seen} or {False}


def _of_columns(
    columns: Collection[str],
    seen: Mapping[str, str],
    first: Mapping[str, str],
    text_field: str,
    *,
    talks: bool,
    converted: bool,
) -> Decision:
    has_text = text_field in columns
    if not talks and has_text and first.get(text_field) != "text":
        said = f"AttributeError: the column '{text_field}' is no text"
        return Decision(raises=said, column=text_field)
    if "prompt" in seen:
        if "completion" not in seen:
            return Decision(raises="KeyError: 'completion'", column="prompt")
        return Decision(
            "prompt-completion", column="prompt", ending=text_field if has_text and not talks else None
        )
    if talks:
        if "messages" not in seen:
            return Decision(raises="KeyError: 'messages'", column=next(iter(seen)))
        return Decision("sharegpt" if converted else "messages", column="messages")
    if has_text:
        return Decision("text", column=text_field)
    return Decision(raises=f"KeyError: '{text_field}'")
