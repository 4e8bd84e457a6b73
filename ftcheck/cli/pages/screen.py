"""Lines on a terminal or in a log: wrapped between words, in an encoding that holds them, never as markup."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck.records import Outcome
from ftcheck.report.wording import SYMBOLS

if TYPE_CHECKING:
    from rich.console import Console

Piece = tuple[str, str]
"""A text and its style."""

NARROWEST = 24
WIDEST_PART = 36
TIE = "\x00"
"""A space at which no line is broken. No text that is printed can hold it: it was made visible."""
_ASCII_SYMBOLS = {"✓": "+", "✗": "x"}
_ASCII = {"·": "-", "…": "...", "→": "->", "━": "=", "↵": "|", "⏎": "|", "×": "x", "µ": "u", "–": "-"}


@dataclass(frozen=True)
class Screen:
    """A console with what it can show. On a terminal lines end at its width; in a log they stay whole."""

    console: "Console"

    @property
    def live(self) -> bool:
        """Whether somebody is watching: progress bars make sense."""
        return self.console.is_interactive and not os.environ.get("CI")

    @property
    def width(self) -> int | None:
        """Columns to stay within; None for no limit."""
        return max(self.console.width, 40) if self.live else None

    def symbol(self, outcome: Outcome) -> str:
        """The outcome's sign, in ASCII where the encoding has no better one."""
        return self.fit(SYMBOLS[outcome], _ASCII_SYMBOLS)

    def fit(self, text: str, instead: dict[str, str] = _ASCII) -> str:
        """The text with what the encoding cannot hold written in other characters."""
        text = text.replace("\t", "    ").replace(" %", f"{TIE}%")
        encoding = self.console.encoding
        if _holds(encoding, text):
            return text
        plain = "".join(sign if _holds(encoding, sign) else instead.get(sign, sign) for sign in text)
        return plain.encode(encoding, "backslashreplace").decode(encoding)

    def blank(self) -> None:
        """An empty line."""
        self._write([])

    def put(self, prefix: Sequence[Piece], text: str = "", style: str = "", hang: int | None = None) -> None:
        """A line that begins with `prefix`, which is never broken, and goes on with `text`.

        Further lines of the text begin at column `hang` (default: where the text began). Where the
        prefix leaves too little room, the whole text moves below it.
        """
        prefix = [(self.fit(one.replace("\n", "\\n")), look) for one, look in prefix]
        offset = sum(_cells(one) for one, _ in prefix)
        hang = offset if hang is None else hang
        lines = self._laid_out(self.fit(text), offset, hang)
        self._write([*prefix, (lines[0], style)] if lines else prefix)
        for line in lines[1:]:
            self._write([(" " * hang + line, style)])

    def _laid_out(self, text: str, offset: int, hang: int) -> list[str]:
        if not text:
            return []
        below = self.width is not None and self.width - offset < NARROWEST and hang < offset
        lines = [""] if below else []
        for line in text.split("\n"):
            first = hang if lines else offset
            lines += self._wrapped(line, first, hang)
        return lines

    def _wrapped(self, line: str, first: int, hang: int) -> Iterable[str]:
        if self.width is None:
            return [line.rstrip()]
        own = len(line) - len(line.lstrip(" "))
        rest = max(self.width - hang - own, NARROWEST)
        lines = wrapped(line.strip(), max(self.width - first - own, NARROWEST), rest)
        return [" " * own + one for one in lines]

    def _write(self, pieces: Sequence[Piece]) -> None:
        from rich.text import Text

        line = Text(no_wrap=True)
        for text, style in _without_commands(pieces):
            line.append(text.replace(TIE, " "), style)
        line.rstrip()
        self.console.print(line, soft_wrap=True, highlight=False)


def wrapped(text: str, first: int, rest: int) -> list[str]:
    """The text in lines of at most `first`, then `rest` columns; words are never broken."""
    lines = [""]
    for word in re.findall(r"[^ ]+ *", text):
        limit = first if len(lines) == 1 else rest
        if lines[-1] and _cells(lines[-1]) + _cells(word.rstrip()) > limit:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        lines[-1] += word
    return [*lines[:-1], lines[-1].rstrip()]


def tied(text: str) -> str:
    """The text as one word, as far as line breaks go: a command, a count with its noun."""
    return text.replace(" ", TIE)


def tied_parts(text: str) -> str:
    """A line of short parts, such as `p95 93 · p99 107`, that is rather broken between them than in them."""
    return " · ".join(tied(part) if len(part) <= WIDEST_PART else part for part in text.split(" · "))


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text.replace(TIE, " "))


def _holds(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _without_commands(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """In a GitHub log a line that begins with `::` is a command: text from a data row must not be one."""
    if not os.environ.get("GITHUB_ACTIONS"):
        return pieces
    pieces = [(text.replace("##[", "#\\x23["), style) for text, style in pieces]
    first = next((number for number, (text, _) in enumerate(pieces) if text.strip()), None)
    if first is None or not "".join(text for text, _ in pieces).lstrip().startswith("::"):
        return pieces
    text, style = pieces[first]
    return [*pieces[:first], (text.replace(":", "\\x3a", 1), style), *pieces[first + 1 :]]
