"""A row on the terminal, as plain text and as a page: tokens in the loss stand out, masked ones are dim."""

import html
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
    for dropped, group in _groups(view):
        for lost in dropped:
            yield f"⟦dropped {lost.part} {lost.name}⟧"
        if not group:
            continue
        first = group[0]
        text = _marked(first.trained, first.fed, "".join(_text(one) for one in group))
        text = f"⟦made up: {text}⟧" if first.invented else text
        yield f"⟦{first.part}: {text}⟧" if first.part is not None else text


def _groups(view: RowView) -> Iterator[tuple[list[Dropped], list[Piece]]]:
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


def _text(piece: Piece) -> str:
    return "\n".join(visible(line) for line in piece.text.replace("\n", NEWLINE).split("\n"))


def coloured(view: RowView) -> "Text":
    """The row for a terminal: trained bright, the rest dim, special tokens cyan, cut off struck through."""
    from rich.text import Text

    text = Text(headline(view) + "\n", style="bold")
    if view.trouble is not None:
        text.append(f"not prepared: {view.trouble}\n", style="red")
    before: Piece | None = None
    for lost, group in _groups(view):
        for one in lost:
            text.append(f"{one.part} {one.name}", style="strike bold red")
        for piece in group:
            _switch(text, before, piece)
            text.append(_text(piece), style=_style(piece))
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
        lines.append(f"{position:>6}  {ids:<14} {state:<8} {_text(piece).replace(chr(10), '')}")
        position += len(piece.ids)
    return "\n".join(lines) + "\n"


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --dim: #6b7280; --trained: #15803d; --wash: #dcfce7; }}
:root {{ --special: #0e7490; --cut: #b91c1c; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --dim: #9ca3af; --trained: #86efac; --wash: #14532d; --special: #67e8f9; --cut: #fca5a5; }}
}}
body {{ font: 15px/1.6 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1rem; overflow-wrap: anywhere; }}
pre {{ font: 14px/1.7 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }}
span {{ color: var(--dim); border-radius: 3px; }}
.t {{ color: var(--trained); background: var(--wash); font-weight: 600; }}
.s {{ color: var(--special); }}
.c {{ color: var(--cut); text-decoration: line-through; }}
.p {{ outline: 1px solid var(--special); }}
u {{ text-decoration-color: var(--cut); text-decoration-thickness: 2px; }}
del {{ color: var(--cut); font-weight: 600; }}
.legend span {{ margin-right: 1.5rem; }}
</style>
<h1>{title}</h1>
<p class="legend"><span>masked</span><span class="t">in the loss</span><span class="s">special token</span>\
<span class="c">cut off</span>{tools} hover over a token for its id</p>
{trouble}<pre>{body}</pre>
</html>
"""


def page(view: RowView) -> str:
    """The row as an HTML page that stands alone."""
    title = html.escape(headline(view))
    trouble = f"<p><b>not prepared:</b> {html.escape(view.trouble)}</p>\n" if view.trouble else ""
    body = "".join(_html_body(view))
    tools = TOOLS if view.tools or view.dropped else ""
    return PAGE.format(title=title, trouble=trouble, body=body, tools=tools)


TOOLS = (
    '<span class="p">definition, call or result</span><del>dropped by the template</del>'
    " <u>made up by the template</u>"
)
"""The legend of a row with tools."""


def _html_body(view: RowView) -> Iterator[str]:
    for lost, group in _groups(view):
        for one in lost:
            words = html.escape(f"{one.part} {one.name}")
            yield f'<del title="{html.escape(one.words)}">{words}</del>'
        yield from map(_span, group)


def _span(piece: Piece) -> str:
    kinds = [
        (piece.trained, "t"),
        (piece.special, "s"),
        (not piece.fed, "c"),
        (piece.part is not None, "p"),
    ]
    classes = " ".join(name for holds, name in kinds if holds)
    ids = " ".join(map(str, piece.ids))
    attribute = f' class="{classes}"' if classes else ""
    told = f"{piece.part} · {ids}" if piece.part is not None else ids
    text = html.escape(_text(piece))
    return f'<span{attribute} title="{told}">{f"<u>{text}</u>" if piece.invented else text}</span>'
