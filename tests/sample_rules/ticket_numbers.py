"""A rule that reads the rows' words: no answer names a ticket number."""

import re
from collections.abc import Iterator

from ftcheck import Finding, Measurement, Rows, rule

TICKET = re.compile(r"\bINC\d{7}\b")


@rule("ticket-numbers")
def ticket_numbers(rows: Rows) -> Iterator[Finding | Measurement]:
    """No answer names a ticket number.

    The model learns numbers by heart that mean nothing to the next user, and may give them away.
    """
    named = {}
    for row in range(len(rows)):
        words = " ".join(text for role, text in rows.texts(row) if role == "assistant")
        if found := TICKET.search(words):
            named[row] = found[0]
    yield Measurement("rows_with_ticket_numbers", len(named), unit="rows", limit="0")
    for row, number in named.items():
        yield Finding("an answer names a ticket", at=rows.at(row), fix="write INC0000000", content=number)
