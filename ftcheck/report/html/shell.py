"""The document around every page: one file, its style and script in it, and a policy that allows no other."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from markupsafe import Markup

from ftcheck.distribution import version
from ftcheck.report.html.elements import joined, tag


@dataclass(frozen=True, slots=True)
class Document:
    """A page: what kind it is (`report`), its title, where its sections are, and what stands in it.

    `sections` are pairs of an id and the word that the navigation shows for it.
    """

    kind: str
    title: str
    sections: Sequence[tuple[str, str]]
    body: Markup


def document(page: Document) -> str:
    """The page as one HTML file. It loads nothing: not from the network, not from files beside it."""
    style, script = _file("page.css"), _file("page.js")
    # both are ours, and neither holds an end tag: they are written as they are, for their digests to hold
    head = joined(
        (
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", name="generator", content=f"ftcheck {version()}"),
            tag("title", page.title),
            tag("style", Markup(style)),
        )
    )
    body = joined(
        (
            tag("a", "Skip to the content", href="#main", class_="to-main"),
            _bar(page),
            tag("main", page.body, id="main", class_="wrap", tabindex="-1"),
            tag("footer", f"Made by ftcheck {version()}. This file loads nothing.", class_="wrap"),
            tag("div", id="said", class_="sr", role="status", aria_live="polite"),
            tag("script", Markup(script)),
        ),
        "\n",
    )
    return f'<!doctype html>\n<html lang="en">\n{tag("head", head)}\n{tag("body", body)}\n</html>\n'


def _bar(page: Document) -> Markup:
    links = (tag("li", tag("a", word, href=f"#{identifier}")) for identifier, word in page.sections)
    brand = tag("p", tag("b", "ftcheck"), " ", page.kind, class_="brand")
    across = tag("nav", tag("ul", joined(links)), aria_label="Sections")
    theme = tag("button", "Dark", type="button", id="theme", class_="button js", aria_pressed="false")
    return tag("header", tag("div", brand, across, theme, class_="wrap"), class_="bar")


def _policy(style: str, script: str) -> str:
    """Nothing is fetched, sent or embedded; no style and no script but these two, by their digests."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}';"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
