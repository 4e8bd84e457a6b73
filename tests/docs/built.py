"""The site as a browser gets it: built once in a temporary folder, and its pages taken apart."""

import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from tests.places import CHECKOUT

FETCHED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
"""What a browser fetches by itself, by tag and attribute."""


@dataclass
class Page(HTMLParser):
    """The ids, the text and the fetched addresses of a page."""

    ids: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Get ready to parse."""
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.add(str(given["id"]))
        address = given.get(FETCHED.get(tag, ""))
        if address and given.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(address)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All words, in order, with single spaces between them."""
        return " ".join("".join(self.words).split())


def build(folder: Path) -> str:
    """Build the site strictly into a folder; what was printed. Fails where it warns."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def page(path: Path) -> Page:
    """A built page."""
    parsed = Page()
    parsed.feed(path.read_text(encoding="utf-8"))
    return parsed
