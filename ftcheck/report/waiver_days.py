"""What every report says of waivers: which end soon, and what is wrong with the others."""

from collections.abc import Iterable, Iterator, Mapping
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


def told(waivers: Iterable[WaiverUse], soon: Mapping[str, int]) -> Iterator[tuple[WaiverUse, str]]:
    """Each waiver that something is to be said of, with the words; `soon` are the days left, by check."""
    waivers = tuple(waivers)
    for use in waivers:
        yield from ((use, f"waiver of {use.check}: {remark}") for remark in use.remarks)
    for check, days in soon.items():
        use = min((one for one in waivers if one.check == check), key=lambda one: one.expires)
        yield use, f"waiver of {check}: {expires_in(days)}"
