"""Tables that a screen reader can follow, and that a phone shows row by row or scrolls."""

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


def table(
    caption: str, columns: Sequence[Column], rows: Iterable[Sequence[str | None]], *, stacked: bool = False
) -> Markup:
    """A table with a caption for screen readers; nothing without rows.

    A `stacked` one is shown on a phone as one block a row, each value behind its heading; others scroll. The
    roles are written out, because a style that changes how rows are laid out takes them from the elements.
    """
    body = joined(_row(columns, row, stacked=stacked) for row in rows)
    if not body:
        return Markup("")
    heads = (tag("th", one.heading, scope="col", role="columnheader", class_=_kind(one)) for one in columns)
    head = tag("thead", tag("tr", joined(heads), role="row"), role="rowgroup")
    shown = tag("caption", caption, class_="sr")
    inside = tag("table", shown, head, tag("tbody", body, role="rowgroup"), role="table")
    kind = "scroll stacked" if stacked else "scroll"
    return tag("div", inside, class_=kind, tabindex="0", role="group", aria_label=caption)


def _row(columns: Sequence[Column], cells: Sequence[str | None], *, stacked: bool) -> Markup:
    inside = (_cell(column, cell, stacked=stacked) for column, cell in zip(columns, cells, strict=True))
    return tag("tr", joined(inside), role="row")


def _cell(column: Column, cell: str | None, *, stacked: bool) -> Markup:
    if column.names:
        return tag("th", cell, scope="row", role="rowheader")
    label = column.heading if stacked else None
    inside = tag("span", cell) if stacked and cell else cell
    return tag("td", inside, class_=_kind(column), role="cell", data_label=label)


def _kind(column: Column) -> str | None:
    return "number" if column.number else None
