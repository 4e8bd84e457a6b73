"""Tables that a screen reader can follow and a phone can scroll."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ftcheck.report.html.elements import joined, tag


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, whether it holds numbers, whether it names the row."""

    heading: str
    number: bool = False
    names: bool = False


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[str | None]]) -> Markup:
    """A table with a caption for screen readers; nothing without rows."""
    body = joined(_row(columns, row) for row in rows)
    if not body:
        return Markup("")
    heads = (tag("th", one.heading, scope="col", class_=_kind(one)) for one in columns)
    head = tag("thead", tag("tr", joined(heads)))
    inside = tag("table", tag("caption", caption, class_="sr"), head, tag("tbody", body))
    return tag("div", inside, class_="scroll", tabindex="0", role="group", aria_label=caption)


def _row(columns: Sequence[Column], cells: Sequence[str | None]) -> Markup:
    inside = (_cell(column, cell) for column, cell in zip(columns, cells, strict=True))
    return tag("tr", joined(inside))


def _cell(column: Column, cell: str | None) -> Markup:
    if column.names:
        return tag("th", cell, scope="row")
    return tag("td", cell, class_=_kind(column))


def _kind(column: Column) -> str | None:
    return "number" if column.number else None
