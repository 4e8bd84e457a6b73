"""Two reports beside each other: what must be told, worked out by hand; what is unknown is never "none"."""

import json
from dataclasses import replace
from typing import Any

import pytest

from ftcheck.records import Finding, Location, Measurement, Outcome, Result, Severity
from ftcheck.report.diff import FindingsChange, compare, to_dict
from ftcheck.report.record import InputDigest, PluginInfo, Report, WaiverUse
from tests.plugins.reporters.fakes import digest, failed, finding, red_night, report, result

ID = "mapper::truncation"


def row(letter: str, message: str = "the answer is cut", **changes: Any) -> Finding:
    return finding(message, at=Location("train.jsonl", 3, 1, row=3, record=digest(letter)), **changes)


def findings(before: Report, after: Report) -> FindingsChange:
    [one] = compare(before, after).findings
    return one


def counts(one: FindingsChange) -> tuple[int, int, int, bool]:
    return one.new_total, one.fixed_total, one.still_total, one.exact


def test_equal_reports_do_not_differ() -> None:
    found = compare(red_night(), red_night())

    assert not found.differs
    assert found.total("new") == found.total("fixed") == 0


def test_findings_are_new_fixed_or_still_there() -> None:
    one = findings(report(failed(ID, row("a"), row("b"))), report(failed(ID, row("b"), row("c"), row("d"))))

    assert counts(one) == (2, 1, 1, True)
    assert [f.at.record for f in one.new if f.at] == [digest("c"), digest("d")]
    assert [f.at.record for f in one.fixed if f.at] == [digest("a")]


def test_a_row_that_moved_is_the_same_finding() -> None:
    moved = replace(row("a"), at=Location("train.jsonl", 9, 1, row=9, record=digest("a")))

    assert counts(findings(report(failed(ID, row("a"))), report(failed(ID, moved)))) == (0, 0, 1, True)


def test_remarks_are_no_findings_that_fail() -> None:
    remark = row("a", severity=Severity.INFO)

    assert compare(report(result(ID)), report(result(ID, findings=(remark,)))).findings == ()


def test_more_findings_than_are_kept_are_lower_bounds() -> None:
    """1,204 before, 1,500 now, of which 2 each are kept and 1 is common: at least 296 new, 1 still there."""
    before = report(failed(ID, row("a"), row("b"), findings_total=1204))
    after = report(failed(ID, row("b"), row("c"), findings_total=1500))

    assert counts(findings(before, after)) == (296, 0, 1, False)
    assert findings(before, after).new == (), "c may have been there before"
    assert not compare(before, after).exact


@pytest.mark.parametrize("outcome", [Outcome.ERRORED, Outcome.TIMEOUT, Outcome.NOT_RUN, Outcome.SKIPPED])
def test_what_did_not_come_to_an_end_fixed_nothing(outcome: Outcome) -> None:
    one = findings(report(failed(ID, row("a"))), report(result(ID, outcome, reason="r")))

    assert counts(one) == (0, 0, 0, False)
    assert outcome.value in one.unknown


def test_a_check_that_is_not_planned_any_more_fixed_nothing() -> None:
    found = compare(report(failed(ID, row("a"))), report(result("mapper::answers")))

    assert [(one.check, one.presence) for one in found.checks] == [
        ("mapper::answers", "new"),
        (ID, "removed"),
    ]
    assert [one.unknown for one in found.findings] == ["the check is not planned any more"]


def test_a_new_checks_findings_are_new() -> None:
    assert counts(findings(report(), report(failed(ID, row("a"))))) == (1, 0, 0, True)


def test_nothing_is_said_to_be_new_where_nobody_looked_before() -> None:
    one = findings(report(result(ID, Outcome.ERRORED, reason="r")), report(failed(ID, row("a"))))

    assert counts(one) == (0, 0, 0, False)
    assert "before: errored" in one.unknown


def test_waived_findings_are_still_there() -> None:
    waived = result(ID, Outcome.WAIVED, findings=(row("a"),), reason="waived until 2026-12-31: r (o)")
    found = compare(report(failed(ID, row("a"))), report(waived))

    assert counts(found.findings[0]) == (0, 0, 1, True)
    assert [(one.before, one.after) for one in found.checks] == [(Outcome.FAILED, Outcome.WAIVED)]


def measured(*found: Measurement) -> Report:
    return report(result(ID, measurements=found))


def test_measurements_change_by_a_share() -> None:
    before = measured(
        Measurement("p95", 80, "tokens", "<= 96"), Measurement("gone", "x"), Measurement("same", 1)
    )
    after = measured(
        Measurement("p95", 100, "tokens", "<= 96"), Measurement("same", 1), Measurement("new", 0)
    )

    told = {one.name: one for one in compare(before, after).measurements}

    assert {name: one.presence for name, one in told.items()} == {
        "p95": "changed", "gone": "removed", "new": "new"
    }  # fmt: skip
    assert (told["p95"].unit, told["p95"].relative) == ("tokens", 0.25)
    assert told["new"].relative is None


@pytest.mark.parametrize(("before", "after", "relative"), [(-4, -2, 0.5), (0, 3, None), (True, False, None)])
def test_a_share_of_nothing_is_not_told(before: Any, after: Any, relative: float | None) -> None:
    [one] = compare(measured(Measurement("m", before)), measured(Measurement("m", after))).measurements
    assert one.relative == relative


def test_volatile_measurements_and_times_only_where_asked() -> None:
    before, after = (measured(Measurement("free", n, "GiB", volatile=True)) for n in (1, 2))
    after = replace(after, finished_at="2026-11-23T22:10:04+00:00")

    assert not compare(before, after).differs
    asked = compare(before, after, volatile=True)
    assert [one.name for one in asked.measurements] == ["free"]
    assert [one.name for one in asked.run] == ["finished"]


def test_inputs_versions_plugins_gate_and_verdict() -> None:
    before = report(
        result(ID),
        inputs={"mapper.train": InputDigest("a.jsonl", digest("1"), 10)},
        packages={"trl": "1.15.0", "torch": "2.13.0"},
        plugins=(PluginInfo("rules", "ftcheck", "0.1.0", "abc"),),
        gate={"mapper": "open"},
    )
    after = replace(
        before,
        inputs={"mapper.train": InputDigest("a.jsonl", digest("2"), 12)},
        packages={"trl": "1.16.0", "torch": "2.13.0"},
        plugins=(PluginInfo("rules", "ftcheck", "0.1.0", "abd"),),
        gate={"mapper": "failed"},
        verdict="failed",
    )

    found = compare(before, after)

    assert [(one.name, one.before, one.after) for one in found.gate] == [("mapper", "open", "failed")]
    assert [one.name for one in found.inputs] == ["mapper.train"]
    assert {one.name for one in found.versions} == {"trl", "plugin rules (ftcheck)"}
    assert (found.before.verdict, found.after.verdict) == ("passed", "failed")


def test_the_record_is_json() -> None:
    after = report(failed(ID, row("a")))
    told = json.loads(json.dumps(to_dict(compare(red_night(), after))))

    assert told["schema"] == "ftcheck.diff/1"
    assert told["differs"] is True
    [mine] = [one for one in told["findings"] if one["check"] == ID]
    assert mine["new"][0]["fingerprint"] == after.results[0].fingerprints[0]


def test_a_result_says_how_many_fail() -> None:
    one: Result = failed(ID, row("a"), row("b", severity=Severity.INFO))
    assert one.failing_total == 1


def test_findings_that_an_earlier_ftcheck_did_not_name_are_unknown_and_not_fixed() -> None:
    old = report(replace(failed(ID, row("a")), failing_total=0, fingerprints=()))

    for pair in ((old, report(result(ID))), (report(failed(ID, row("a"))), old)):
        one = findings(*pair)
        assert one.unknown == "a report of an earlier ftcheck does not name them"
        assert counts(one) == (0, 0, 0, False)


def test_each_waiver_of_a_check_is_compared() -> None:
    first = WaiverUse(ID, "reviewed", "me", "2026-12-01", used=True)
    second = replace(first, reason="forum text")
    before = replace(report(result(ID)), waivers=(first, second))
    after = replace(before, waivers=(replace(first, expires="2026-12-09"), second))

    [change] = compare(before, after).waivers

    assert "2026-12-01" in str(change.before)
    assert "2026-12-09" in str(change.after)
    assert "forum text" in str(change.after)
