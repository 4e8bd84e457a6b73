"""A row on the terminal and as plain text: tokens in the loss stand out, masked ones are dim."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ftcheck.inputs.row_view import Dropped, Piece, RowView
from ftcheck.inputs.tool_rendering import Part
from ftcheck.plurals import agreeing, counted
from ftcheck.report.redact import visible
from ftcheck.report.wording import place

if TYPE_CHECKING:
    from rich.text import Text

NEWLINE = "⏎\n"
COUNTED: dict[Part, str] = {"definition": "tool definition", "call": "call", "result": "result"}
"""Parts of a row's tools, and what they are called when they are counted."""


def headline(view: RowView) -> str:
    """`data/train.jsonl:17:1 · 74 tokens · 21 in the loss · ends with <|eot_id|>, in the loss`."""
    parts = [
        place(replace(view.at, column=None)),
        counted(view.tokens, "token"),
        f"{view.trained:,} in the loss",
    ]
    if view.fed < view.tokens:
        parts.append(f"{view.tokens - view.fed:,} cut off")
    parts.append(view.ending)
    parts += [counted(view.tools[part], name) for part, name in COUNTED.items() if view.tools.get(part)]
    if view.dropped:
        parts.append(f"{counted(len(view.dropped), 'piece')} of the tools dropped by the template")
    if view.neighbours:
        shown = ", ".join(map(str, view.neighbours[:8]))
        more = f" and {len(view.neighbours) - 8} more" if len(view.neighbours) > 8 else ""
        parts.append(f"packed with {agreeing(len(view.neighbours), 'row', 'rows')} {shown}{more}")
    return " · ".join(parts)


def plain(view: RowView) -> str:
    """The row without colours: «trained», and what is cut off between ✂ and ✂."""
    lines = [headline(view)]
    if view.trouble is not None:
        lines.append(f"not prepared: {view.trouble}")
    return "\n".join([*lines, "".join(_plain_body(view))]) + "\n"


def _plain_body(view: RowView) -> Iterator[str]:
    """Stretches of pieces of one kind; tools between ⟦ and ⟧, with what was dropped and made up."""
    for dropped, group in groups(view):
        for lost in dropped:
            yield f"⟦dropped {lost.part} {lost.name}⟧"
        if not group:
            continue
        first = group[0]
        text = _marked(first.trained, first.fed, "".join(shown_text(one) for one in group))
        text = f"⟦made up: {text}⟧" if first.invented else text
        yield f"⟦{first.part}: {text}⟧" if first.part is not None else text


def groups(view: RowView) -> Iterator[tuple[list[Dropped], list[Piece]]]:
    """What was dropped before some pieces that follow one another and are of one kind, and these pieces."""
    lost: dict[int, list[Dropped]] = {}
    for one in view.dropped:
        lost.setdefault(one.before, []).append(one)
    group: list[Piece] = []
    before: list[Dropped] = []
    for number, piece in enumerate(view.pieces):
        if group and (number in lost or _kind(piece) != _kind(group[0])):
            yield before, group
            before, group = [], []
        before = before or lost.get(number, [])
        group.append(piece)
    yield before, group
    yield [one for place, some in lost.items() if place >= len(view.pieces) for one in some], []


def _kind(piece: Piece) -> tuple[bool, bool, Part | None, bool]:
    return piece.trained, piece.fed, piece.part, piece.invented


def _marked(trained: bool, fed: bool, text: str) -> str:
    if not fed:
        return f"✂{text}✂"
    return f"«{text}»" if trained else text


def shown_text(piece: Piece) -> str:
    """The text of a piece with its line ends shown, and nothing in it that a terminal would act on."""
    return "\n".join(visible(line) for line in piece.text.replace("\n", NEWLINE).split("\n"))


def coloured(view: RowView) -> "Text":
    """The row for a terminal: trained bright, the rest dim, special tokens cyan, cut off struck through."""
    from rich.text import Text

    text = Text(headline(view) + "\n", style="bold")
    if view.trouble is not None:
        text.append(f"not prepared: {view.trouble}\n", style="red")
    before: Piece | None = None
    for lost, group in groups(view):
        for one in lost:
            text.append(f"{one.part} {one.name}", style="strike bold red")
        for piece in group:
            _switch(text, before, piece)
            text.append(shown_text(piece), style=_style(piece))
            before = piece
    _switch(text, before, None)
    return text


def _switch(text: "Text", before: Piece | None, piece: Piece | None) -> None:
    """The signs between two pieces: of the loss, and of what belongs to the tools."""
    was, now = before is not None and before.trained, piece is not None and piece.trained
    part_was, part = before and before.part, piece and piece.part
    if part_was is not None and part != part_was:
        text.append("⟧", style="magenta")
    if was != now:
        text.append("«" if now else "»", style="green")
    if part is not None and part != part_was:
        text.append(f"⟦{part}: ", style="magenta")


def _style(piece: Piece) -> str:
    if not piece.fed:
        return "strike red"
    colour = "cyan" if piece.special else "green" if piece.trained else "magenta" if piece.part else ""
    weight = "bold" if piece.trained else "dim"
    return " ".join(one for one in (weight, "underline" if piece.invented else "", colour) if one)


def table(view: RowView) -> str:
    """One line per token group: position, ids, in the loss or masked, text."""
    lines, position = [], 0
    for piece in view.pieces:
        state = "cut off" if not piece.fed else "in loss" if piece.trained else "masked"
        ids = " ".join(map(str, piece.ids))
        lines.append(f"{position:>6}  {ids:<14} {state:<8} {shown_text(piece).replace(chr(10), '')}")
        position += len(piece.ids)
    return "\n".join(lines) + "\n"
