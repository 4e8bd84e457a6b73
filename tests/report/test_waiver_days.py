"""What every report says of waivers."""

from datetime import date

from ftcheck.report.record import WaiverUse
from ftcheck.report.waiver_days import expiring, told

LATER = WaiverUse("m::words", "r", "me", "2026-12-20", used=True, line=3, remarks=("too broad: covers all",))
SOON = WaiverUse("m::words", "r", "me", "2026-12-02", used=True, line=9)
TODAY = date(2026, 11, 29)


def test_the_days_left_are_those_of_the_waiver_that_ends_first_and_stand_at_its_line() -> None:
    waivers = (LATER, SOON)
    soon = expiring(waivers, TODAY)

    assert soon == {"m::words": 3}
    assert [(use.line, words) for use, words in told(waivers, soon)] == [
        (3, "waiver of m::words: too broad: covers all"),
        (9, "waiver of m::words: expires in 3 days"),
    ]


def test_a_week_is_soon_and_eight_days_are_not() -> None:
    last = WaiverUse("m::a", "r", "me", "2026-12-06", used=True)
    eighth = WaiverUse("m::b", "r", "me", "2026-12-07", used=True)

    assert expiring((last, eighth), TODAY) == {"m::a": 7}
    assert [words for _, words in told((), {})] == []
