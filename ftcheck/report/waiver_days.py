"""Which waivers end soon: every report says so, before the night on which a check turns red."""

from collections.abc import Iterable
from datetime import date

from ftcheck.plurals import counted
from ftcheck.report.record import WaiverUse

SOON = 7
"""Days."""


def expiring(waivers: Iterable[WaiverUse], today: date) -> dict[str, int]:
    """The days left of waivers that expire within a week, by check; 0 on the last day."""
    left = sorted(((date.fromisoformat(one.expires) - today).days, one.check) for one in waivers)
    soon: dict[str, int] = {}
    for days, check in left:
        if 0 <= days <= SOON:
            soon.setdefault(check, days)
    return soon


def expires_in(days: int) -> str:
    """`expires today`, `expires in 3 days`."""
    return f"expires in {counted(days, 'day')}" if days else "expires today"
