"""Untrusted text in a markup language: as text, whatever it holds."""

import re
from html import escape

MAX_CELL = 600
"""Characters of a text that stands in a table cell."""
_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")


def markdown_text(text: str, limit: int = MAX_CELL) -> str:
    """The text with no HTML and no Markdown in it, and no way out of its table cell."""
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    escaped = _SPECIAL.sub(r"\\\1", escape(text.strip(), quote=False)).replace("\t", " ")
    return re.sub(r"\s*\n( *)", lambda match: "<br>" + "&nbsp;" * len(match[1]), escaped)
