"""The hook of mkdocs: adds the generated reference to the pages, while the site is built."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

PARTS = Path(__file__).resolve().parents[1] / "parts"
PLACE = re.compile(r"^<!-- part: ([a-z]+) -->$", re.MULTILINE)
"""Where a page takes in `docs/parts/NAME.md`, if it is there."""

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add each generated page."""
    from mkdocs.structure.files import File

    from docs.generator.pages import pages

    for address, text in pages().items():
        files.append(File.generated(config, address, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the parts into their places."""
    return with_parts(markdown)


def with_parts(markdown: str) -> str:
    """A page with its parts, a level lower; a place whose part is not written yet stays empty."""

    def part(place: re.Match[str]) -> str:
        path = PARTS / f"{place[1]}.md"
        return _lower(path.read_text(encoding="utf-8")) if path.is_file() else ""

    return PLACE.sub(part, markdown)


def _lower(markdown: str) -> str:
    """The same text with its headings one level lower; code stays as it is."""
    code, lines = False, []
    for line in markdown.splitlines():
        code = code != line.lstrip().startswith("```")
        lines.append(f"#{line}" if line.startswith("#") and not code else line)
    return "\n".join(lines)
