"""What `--show-content` adds to findings: the beginning of a row's line, and the row as the model sees it."""

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from ftcheck.errors import FtcheckError, in_one_line
from ftcheck.inputs import bounded
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.prepared import Prepared
from ftcheck.inputs.row_view import Piece, pieces_of
from ftcheck.records import Finding, Location
from ftcheck.report.wording import AS_SEEN
from ftcheck.settings import Job

MAX_CONTENT = 600
"""Characters of a row's line, and of a finding's own content."""
MAX_SEEN = 4_000
"""Characters of a row as the model sees it."""
WITHOUT_LINES = (".arrow", ".parquet")


def in_line(finding: Finding) -> Finding:
    """A finding whose message is one line: what it names of a file begins no line of its own."""
    return replace(finding, message=in_one_line(finding.message))


def with_content(finding: Finding, seen: str = "") -> Finding:
    """A finding with its content and, about a row, the beginning of that row's line and the row as `seen`.

    Only where `--show-content` asks.
    """
    texts = (_shortened(_line_at(finding.at)), _shortened(finding.content or ""), seen)
    return replace(finding, message="\n".join(map(in_one_line, (finding.message, *filter(None, texts)))))


def as_seen(finding: Finding, job: Job, inputs: Inputs) -> str:
    """The row that a finding is about as the model sees it: «in the loss», cut off between ✂ and ✂.

    Empty for a finding about anything but a row of the prepared training data.
    """
    at = finding.at
    if at is None or at.row is None:
        return ""
    try:
        prepared: Prepared = inputs.get("prepared")
        index = prepared.rows.index(at.row)
        if index is None or prepared.at(index) != at:
            return ""
        return marked(pieces_of(prepared, inputs.get("tokenizer"), job, index))
    except FtcheckError:
        return ""


def marked(pieces: Sequence[Piece]) -> str:
    """Pieces as one line, with signs around what is trained and what is cut off."""
    text, sign = AS_SEEN, ""
    for piece in pieces:
        now = "✂" if not piece.fed else "«" if piece.trained else ""
        if now != sign:
            text += {"«": "»"}.get(sign, sign) + now
            sign = now
        text += piece.text.replace("\n", "⏎")
        if len(text) > MAX_SEEN:
            return f"{text[:MAX_SEEN]} …"
    return text + {"«": "»"}.get(sign, sign)


def _line_at(at: Location | None) -> str:
    """The line of a row of data; nothing for any other place."""
    if at is None or at.row is None or at.path is None or at.line is None or at.path.endswith(WITHOUT_LINES):
        return ""
    try:
        with io.TextIOWrapper(bounded.open_file(at.path), encoding="utf-8", errors="replace") as file:
            return next(islice(file, at.line - 1, None), "").strip()
    except OSError:
        return ""


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CONTENT else text[:MAX_CONTENT] + " …"
