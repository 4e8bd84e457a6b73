"""The input `row_texts`: what stands in some rows, read again from the data files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ftcheck.inputs.tokenizer import Message


@dataclass(frozen=True, slots=True)
class ReadRow:
    """One row before any template: `index` from 0, its messages (none for plain text) and what goes with
    them.

    `prompt_turns` are the messages of a prompt column (0: all are in `messages`). `data` is the row as it is
    read, with the columns that no trainer looks at.
    """

    index: int
    messages: tuple[Message, ...]
    prompt_turns: int = 0
    tools: Any = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


class RowTexts(Protocol):
    """The texts of training rows, for rules that look closely at a few rows. Nothing is read before."""

    def said(self, rows: Sequence[int]) -> list[str]:
        """Of each of these rows (indices from 0) all that is said: no system prompt, no tool list.

        Raises `InputError` where the files are not those any more that were prepared.
        """

    def read(self, rows: Sequence[int]) -> list[ReadRow]:
        """These rows (indices from 0), in the order asked for. Raises `InputError` as above."""
