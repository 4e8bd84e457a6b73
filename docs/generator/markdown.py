"""Text of docstrings and tables as Markdown."""

import inspect
import re
from collections.abc import Iterable, Sequence


def prose(text: str) -> str:
    """A docstring as Markdown: its code marks stay, everything else is text."""
    parts = re.split(r"(`[^`]*`)", inspect.cleandoc(text))
    return "".join(part if part.startswith("`") else _literal(part) for part in parts)


def _literal(text: str) -> str:
    """Text in which Markdown and HTML find nothing of theirs."""
    return re.sub(r"([\\*_\[\]#{}])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")


def paragraphs(text: str) -> str:
    """A docstring's paragraphs, each on a line of its own."""
    return "\n\n".join(" ".join(prose(part).split()) for part in inspect.cleandoc(text).split("\n\n"))


def line(text: str) -> str:
    """A docstring on one line, for a table."""
    return " ".join(prose(text).split()).replace("|", r"\|")


def code(text: str) -> str:
    """Code inside a line or a table's cell."""
    if not text:
        return ""
    shown = text.replace("|", r"\|")
    return f"`` {shown} ``" if "`" in text else f"`{shown}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty where it has no rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines]) if lines else ""


def anchored(anchor: str, shown: str) -> str:
    """Something in a table's cell that a link can lead to."""
    return f'<span id="{anchor}"></span>{shown}'


def page(title: str, *parts: str) -> str:
    """A page: what stands on it, with the note that nobody edits it."""
    note = "<!-- made by docs/generator from the code -->"
    return "\n\n".join([note, f"# {title}", *(part for part in parts if part)]) + "\n"
