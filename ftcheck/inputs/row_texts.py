"""The input `row_texts`: what is said in some rows, read again from the data files."""

from collections.abc import Sequence
from typing import Protocol


class RowTexts(Protocol):
    """The texts of training rows, for rules that compare a few rows closely. Nothing is read before."""

    def said(self, rows: Sequence[int]) -> list[str]:
        """Of each of these rows (indices from 0) all that is said: no system prompt, no tool list.

        Raises `InputError` where the files are not those any more that were prepared.
        """
