"""A row on the terminal, as plain text and as a page: tokens in the loss stand out, masked ones are dim."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from ftcheck.inputs.row_view import Piece, RowView
from ftcheck.plurals import agreeing, counted
from ftcheck.report.redact import visible
from ftcheck.report.wording import place

if TYPE_CHECKING:
    from rich.text import Text

NEWLINE = "⏎\n"


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
    body = "".join(_marked(trained, fed, text) for trained, fed, text in _stretches(view.pieces))
    return "\n".join([*lines, body]) + "\n"


def _marked(trained: bool, fed: bool, text: str) -> str:
    if not fed:
        return f"✂{text}✂"
    return f"«{text}»" if trained else text


def _stretches(pieces: Sequence[Piece]) -> Iterator[tuple[bool, bool, str]]:
    for (trained, fed), group in groupby(pieces, key=lambda piece: (piece.trained, piece.fed)):
        yield trained, fed, "".join(_text(piece) for piece in group)


def _text(piece: Piece) -> str:
    return "\n".join(visible(line) for line in piece.text.replace("\n", NEWLINE).split("\n"))


def coloured(view: RowView) -> "Text":
    """The row for a terminal: trained bright, the rest dim, special tokens cyan, cut off struck through."""
    from rich.text import Text

    text = Text(headline(view) + "\n", style="bold")
    if view.trouble is not None:
        text.append(f"not prepared: {view.trouble}\n", style="red")
    before = False
    for piece in view.pieces:
        if piece.trained != before:
            text.append("«" if piece.trained else "»", style="green")
            before = piece.trained
        text.append(_text(piece), style=_style(piece))
    text.append("»" if before else "", style="green")
    return text


def _style(piece: Piece) -> str:
    if not piece.fed:
        return "strike red"
    colour = "cyan" if piece.special else "green" if piece.trained else ""
    return f"{'bold' if piece.trained else 'dim'} {colour}".strip()


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
.legend span {{ margin-right: 1.5rem; }}
</style>
<h1>{title}</h1>
<p class="legend"><span>masked</span><span class="t">in the loss</span><span class="s">special token</span>\
<span class="c">cut off</span> hover over a token for its id</p>
{trouble}<pre>{body}</pre>
</html>
"""


def page(view: RowView) -> str:
    """The row as an HTML page that stands alone."""
    title = html.escape(headline(view))
    trouble = f"<p><b>not prepared:</b> {html.escape(view.trouble)}</p>\n" if view.trouble else ""
    body = "".join(_span(piece) for piece in view.pieces)
    return PAGE.format(title=title, trouble=trouble, body=body)


def _span(piece: Piece) -> str:
    kinds = [(piece.trained, "t"), (piece.special, "s"), (not piece.fed, "c")]
    classes = " ".join(name for holds, name in kinds if holds)
    ids = " ".join(map(str, piece.ids))
    attribute = f' class="{classes}"' if classes else ""
    return f'<span{attribute} title="{ids}">{html.escape(_text(piece))}</span>'
