"""HTML elements, made so that no text of anybody's can become markup: what is not `Markup` is escaped."""

from collections.abc import Iterable, Iterator

from markupsafe import Markup, escape

from ftcheck.records import Outcome
from ftcheck.report.wording import SYMBOLS

Attribute = str | int | float | bool | None
VOID = frozenset({"br", "circle", "input", "line", "meta", "path", "rect"})
"""Elements without content."""


def tag(name: str, /, *children: str | None, **attributes: Attribute) -> Markup:
    """An element. Children that are no `Markup` are escaped, None and empty ones are left out.

    Attributes are named as in HTML, with `_` for `-` and one behind a Python word (`class_`); None and False
    leave one out, True writes its name alone.
    """
    start = f"<{name}{''.join(_attributes(attributes))}"
    if name in VOID:
        return Markup(f"{start}/>")
    return Markup(f"{start}>{''.join(escape(one) for one in children if one)}</{name}>")


def _attributes(given: dict[str, Attribute]) -> Iterator[str]:
    for name, value in given.items():
        if value is None or value is False:
            continue
        written = name.rstrip("_").replace("_", "-")
        yield f" {written}" if value is True else f' {written}="{escape(_number(value))}"'


def _number(value: Attribute) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def joined(parts: Iterable[str | None], between: str = "") -> Markup:
    """Parts one behind the other."""
    return Markup(between).join(escape(one) for one in parts if one)


def section(identifier: str, heading: str, *children: str | None, note: str = "") -> Markup:
    """A landmark with its heading, which the navigation leads to; nothing without children."""
    inside = joined(children)
    if not inside:
        return Markup("")
    head = tag("h2", heading, id=f"{identifier}-h")
    told = tag("p", note, class_="note") if note else None
    return tag("section", head, told, inside, id=identifier, aria_labelledby=f"{identifier}-h")


def badge(text: str, kind: str, sign: str = "") -> Markup:
    """A word on a coloured ground. The colour says nothing that the word, or the sign before it, does not."""
    shown = tag("span", sign, aria_hidden="true") if sign else None
    return tag("span", shown, " " if sign else None, text, class_=f"badge {kind}")


def outcome_sign(outcome: Outcome) -> Markup:
    """The sign of an outcome; its word stands beside it."""
    return tag("span", SYMBOLS[outcome], class_=f"sign {kind_of(outcome)}", aria_hidden="true")


def kind_of(outcome: Outcome) -> str:
    """The class that gives an outcome its colour."""
    return {
        Outcome.PASSED: "pass",
        Outcome.FAILED: "fail",
        Outcome.WAIVED: "warn",
        Outcome.SKIPPED: "skip",
    }.get(outcome, "broken")


def prose(text: str | None) -> Markup | None:
    """A sentence in which what stands between backticks is code."""
    if not text:
        return None
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return joined(code(one) if number % 2 else one for number, one in enumerate(parts))


def code(text: str) -> Markup:
    """A place, a key or a command."""
    return tag("code", text)


def copyable(text: str, what: str) -> Markup:
    """A line of code with a button that copies it; the button is there only where scripts run."""
    button = tag("button", "Copy", type="button", class_="copy js", data_copy=text, aria_label=f"Copy {what}")
    return tag("span", code(text), button, class_="copyable")


def folded(summary: str, *children: str | None, class_: str = "fold", open_: bool = False) -> Markup:
    """What opens by a click, by the keyboard, and on paper."""
    return tag("details", tag("summary", summary), *children, class_=class_, open=open_)


def facts(pairs: Iterable[tuple[str, str | None]], class_: str = "facts") -> Markup:
    """Names and values as a description list; those without a value are left out."""
    kept = [(name, value) for name, value in pairs if value]
    inside = (tag("div", tag("dt", name), tag("dd", value)) for name, value in kept)
    return tag("dl", joined(inside), class_=class_) if kept else Markup("")
