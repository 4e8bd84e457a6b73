"""A row as a page: tokens in the loss stand out, masked ones are dim, what is cut off is struck through."""

from collections.abc import Iterator
from dataclasses import replace

from markupsafe import Markup

from ftcheck.cli.pages.row_page import COUNTED, groups, headline, shown_text
from ftcheck.inputs.row_view import Piece, RowView
from ftcheck.plurals import counted
from ftcheck.report.html.data_table import Column, table
from ftcheck.report.html.elements import code, facts, folded, joined, section, tag
from ftcheck.report.html.figures import GREY, Part, figure, legend, stacked
from ftcheck.report.html.shell import Document, document
from ftcheck.report.redact import visible
from ftcheck.report.wording import place

TOKENS = (
    Column("position", names=True),
    Column("text"),
    Column("ids"),
    Column("state"),
)
LEGEND = (("t", "in the loss"), ("m", "masked"), ("s", "special token"), ("c", "cut off"))
TOOLS = (
    ("p", "definition, call or result"),
    ("d", "dropped by the template"),
    ("u", "made up by the template"),
)


def page(view: RowView) -> str:
    """The row as one HTML file. It shows the row's text: that is what it is for."""
    where = visible(place(replace(view.at, column=None)))
    sections = [("row", "Row"), ("tokens", "Tokens")]
    body = joined(
        (_top(view, where), section("row", "As the model sees it", _legend(view), drawn(view)), _tokens(view))
    )
    return document(Document("row", f"{where} · ftcheck show", sections, body))


def _top(view: RowView, where: str) -> Markup:
    trouble = tag("p", f"Not prepared: {visible(view.trouble)}", class_="lead") if view.trouble else None
    tools = ", ".join(
        counted(view.tools[part], name) for part, name in COUNTED.items() if view.tools.get(part)
    )
    told = facts(
        (
            ("Tokens", f"{view.tokens:,}"),
            ("In the loss", f"{view.trained:,}"),
            ("Cut off", f"{view.tokens - view.fed:,}" if view.fed < view.tokens else None),
            ("End", visible(view.ending)),
            ("Tools", tools),
            ("Dropped by the template", f"{len(view.dropped):,}" if view.dropped else None),
            ("Packed with rows", _neighbours(view)),
        )
    )
    kind = "fail" if view.trouble else "plan"
    return tag(
        "section",
        tag("h1", "Row ", tag("span", where, class_="policy")),
        trouble,
        told,
        _shares(view),
        class_=f"verdict {kind}",
        aria_label=visible(headline(view)),
    )


def _neighbours(view: RowView) -> str | None:
    if not view.neighbours:
        return None
    more = f" and {len(view.neighbours) - 8} more" if len(view.neighbours) > 8 else ""
    return ", ".join(map(str, view.neighbours[:8])) + more


def _shares(view: RowView) -> Markup | None:
    if not view.tokens:
        return None
    cut = view.tokens - view.fed
    every = (
        Part("in the loss", view.trained, f"{view.trained:,}", 2),
        Part("masked", view.fed - view.trained, f"{view.fed - view.trained:,}", GREY),
        Part("cut off", cut, f"{cut:,}", 4),
    )
    parts = [one for one in every if one.size > 0]
    said = "Tokens: " + ", ".join(f"{one.name} {one.written}" for one in parts)
    drawing = stacked(parts, "tokens", said)
    return tag("div", figure("Tokens", drawing, legend(parts)), class_="figures")


def _legend(view: RowView) -> Markup:
    shown = (*LEGEND, *(TOOLS if view.tools or view.dropped else ()))
    items = (tag("li", _styled(word, kind)) for kind, word in shown)
    return tag("ul", joined(items), class_="legend tokens-legend")


def _styled(word: str, kind: str) -> Markup:
    """A word of the legend, drawn as what it names."""
    if kind in ("d", "u"):
        return tag("del" if kind == "d" else "u", word)
    return tag("span", word, class_=f"k {kind}")


def drawn(view: RowView) -> Markup:
    """The row's text, its tokens marked; a token's ids are its title."""
    return tag(
        "pre", joined(_body(view)), class_="row", tabindex="0", role="group", aria_label="The row's text"
    )


def _body(view: RowView) -> Iterator[Markup]:
    for lost, group in groups(view):
        for one in lost:
            yield tag("del", f"{one.part} {visible(one.name)}", title=visible(one.words))
        for stretch in _stretches(group):
            yield from _stretch(stretch)


def _stretches(group: list[Piece]) -> Iterator[list[Piece]]:
    """Pieces that follow one another and are trained alike, or are cut alike."""
    begun: list[Piece] = []
    for piece in group:
        if begun and (piece.trained, piece.fed) != (begun[0].trained, begun[0].fed):
            yield begun
            begun = []
        begun.append(piece)
    if begun:
        yield begun


def _stretch(pieces: list[Piece]) -> Iterator[Markup]:
    """Signs around what is trained or cut off, as plain output has them: colour alone says nothing."""
    sign = "✂" if not pieces[0].fed else "«" if pieces[0].trained else ""
    yield tag("i", sign) if sign else Markup("")
    yield from map(_span, pieces)
    yield tag("i", {"«": "»"}.get(sign, sign)) if sign else Markup("")


def _span(piece: Piece) -> Markup:
    kinds = [
        (piece.trained and piece.fed, "t"),
        (not piece.trained and piece.fed, "m"),
        (piece.special, "s"),
        (not piece.fed, "c"),
        (piece.part is not None, "p"),
    ]
    classes = " ".join(name for holds, name in kinds if holds)
    ids = " ".join(map(str, piece.ids))
    title = f"{piece.part} · {ids}" if piece.part is not None else ids
    text = shown_text(piece)
    return tag("span", tag("u", text) if piece.invented else text, class_=f"k {classes}", title=title)


def _tokens(view: RowView) -> Markup:
    inside = table("Tokens", TOKENS, _rows(view))
    return section("tokens", f"Tokens ({view.tokens:,})", folded("Each token with its id", inside))


def _rows(view: RowView) -> Iterator[tuple[str, ...]]:
    position = 0
    for piece in view.pieces:
        state = "cut off" if not piece.fed else "in the loss" if piece.trained else "masked"
        said = ", ".join(
            one
            for one in (state, "special" if piece.special else "", piece.part or "", _made_up(piece))
            if one
        )
        text = shown_text(piece).replace("\n", "")
        yield f"{position:,}", code(text), " ".join(map(str, piece.ids)), said
        position += len(piece.ids)


def _made_up(piece: Piece) -> str:
    return "made up by the template" if piece.invented else ""
