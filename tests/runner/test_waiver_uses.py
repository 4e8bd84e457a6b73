"""What a report says of each waiver: whether it is used, and what is wrong with it."""

from dataclasses import replace
from datetime import date

import pytest

from ftcheck.policy.waivers import waived
from ftcheck.records import Check, Outcome, Result, Stage
from ftcheck.report.record import WaiverUse
from ftcheck.report.waiver_days import expires_in, expiring
from ftcheck.runner.waiver_uses import waiver_uses
from ftcheck.settings import Policy, Waiver

CHECK = Check("m::c", "c", "c", "m", Stage.BEFORE)
A, B, C = (letter * 32 + ":1" for letter in "abc")


def waiver(*names: str, whole: bool = False, check: str = "m::c") -> Waiver:
    return Waiver(
        check=check, reason="r", owner="o", expires=date(2026, 12, 6), fingerprints=names, all=whole
    )


def policy(*waivers: Waiver) -> Policy:
    return Policy(path="p.yaml", name="p", stage=Stage.BEFORE, jobs={}, checks={}, waivers=waivers)


def failed(*names: str, total: int | None = None) -> Result:
    return Result(
        CHECK,
        Outcome.FAILED if names else Outcome.PASSED,
        blocking=bool(names),
        failing_total=len(names) if total is None else total,
        fingerprints=names,
    )


def use(result: Result | None, *waivers: Waiver) -> WaiverUse:
    asked = policy(*waivers)
    results = [waived(result, asked)] if result is not None else []
    return waiver_uses(asked, results, frozenset({"m::c"}))[0]


@pytest.mark.parametrize(
    ("names", "found", "outcome", "count"),
    [
        ((A, B), (A, B), Outcome.WAIVED, 2),
        ((A, B, C), (A, B), Outcome.WAIVED, 2),
        ((A,), (A, B), Outcome.FAILED, 1),
        ((C,), (A, B), Outcome.FAILED, 0),
        ((), (A, B), Outcome.WAIVED, 2),
        ((A,), (), Outcome.PASSED, 0),
    ],
)
def test_a_waiver_covers_what_it_names(
    names: tuple[str, ...], found: tuple[str, ...], outcome: Outcome, count: int
) -> None:
    told = waived(failed(*found), policy(waiver(*names)))

    assert (told.outcome, told.waived_total) == (outcome, count)
    assert told.blocking is (outcome is Outcome.FAILED)


def test_two_waivers_cover_what_both_name() -> None:
    assert waived(failed(A, B), policy(waiver(A), waiver(B))).outcome is Outcome.WAIVED


def test_more_findings_than_are_named_are_not_waived() -> None:
    assert waived(failed(A, B, total=1200), policy(waiver(A, B))).outcome is Outcome.FAILED
    assert waived(failed(A, B, total=1200), policy(waiver(whole=True))).waived_total == 1200


@pytest.mark.parametrize(
    ("result", "one", "remarks"),
    [
        (failed(A, B), waiver(A, B), ()),
        (failed(A, B), waiver(A), ()),
        (failed(A), waiver(A, B), ("1 finding that it names is gone",)),
        (failed(A), waiver(A, B, C), ("2 findings that it names are gone",)),
        (failed(A), waiver(B), ("unused: the check finds others than it names",)),
        (failed(), waiver(A), ("unused: the check did not fail",)),
        (failed(A, total=1200), waiver(A, B), ()),
        (None, waiver(A), ()),
        (replace(failed(), outcome=Outcome.ERRORED), waiver(A), ()),
        (failed(A), waiver(A, check="m::x"), ("unused: no check 'm::x' is planned",)),
        (failed(A), waiver(whole=True), ("too broad: covers whatever m::c finds, also what is new",)),
        (
            failed(A),
            waiver(),
            ("too broad: covers whatever m::c finds, also what is new; `ftcheck waive` names findings",),
        ),
    ],
)
def test_what_is_wrong_with_a_waiver(result: Result | None, one: Waiver, remarks: tuple[str, ...]) -> None:
    told = use(result, one)

    assert told.remarks == remarks
    assert told.used is (told.findings > 0)


def test_waivers_that_end_within_a_week() -> None:
    told = WaiverUse("m::c", "r", "o", "2026-12-06", used=True)

    days = {one: expiring([told], date(2026, 11, one)) for one in (28, 29, 30)}
    assert days == {28: {}, 29: {"m::c": 7}, 30: {"m::c": 6}}
    assert expiring([told], date(2026, 12, 6)) == {"m::c": 0}
    assert expiring([told], date(2026, 12, 7)) == {}
    assert [expires_in(n) for n in (0, 1, 5)] == ["expires today", "expires in 1 day", "expires in 5 days"]
