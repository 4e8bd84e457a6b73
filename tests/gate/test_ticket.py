"""Tickets and refusals."""

import pytest

from ftcheck.gate.ticket import Refusal, Ticket


def test_a_ticket_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError, match="handed out by the gate"):
        Ticket(job="j", policy="p", report="", job_digest="", plan="", model=None, template=None, ids=None)


def test_a_refusal_is_no_ticket() -> None:
    assert not isinstance(Refusal("job", ()), Ticket)
