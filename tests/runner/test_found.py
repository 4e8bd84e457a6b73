"""What a rule finds is counted, named and kept; what a waiver names is set aside."""

from ftcheck.records import MAX_FINDINGS, Check, Finding, Outcome, Result, Severity, Stage
from ftcheck.report.identity import MAX_FINGERPRINTS, Namer
from ftcheck.runner.found import Found

CHECK = Check("m::c", "c", "c", "m", Stage.BEFORE)
LETTERS = [chr(ord("a") + n) for n in range(5)]


def names(*messages: str) -> frozenset[str]:
    return frozenset(Namer(CHECK).name(Finding(message)) for message in messages)


def entered(findings: list[Finding], waived: frozenset[str] = frozenset()) -> Result:
    found = Found(CHECK, waived)
    for one in findings:
        found.add(one)
    return found.entered(Result(CHECK, Outcome.PASSED))


def test_everything_is_counted_and_the_worst_is_kept() -> None:
    remarks = [Finding(f"remark {n}", Severity.INFO) for n in range(30)]
    result = entered([*remarks, Finding("a", Severity.WARNING), Finding("b", Severity.ERROR)])

    assert [one.message for one in result.findings[:3]] == ["b", "a", "remark 0"]
    assert (len(result.findings), result.findings_total) == (MAX_FINDINGS, 32)
    assert (result.failing_total, result.waived_total) == (2, 0)
    assert result.fingerprints == tuple(sorted(names("a", "b")))


def test_what_a_waiver_names_is_set_aside() -> None:
    result = entered([Finding(one) for one in LETTERS], names("b", "d"))

    assert [one.message for one in result.findings] == ["a", "c", "e"]
    assert (result.findings_total, result.failing_total, result.waived_total) == (3, 5, 2)
    assert len(result.fingerprints) == 5


def test_where_all_is_waived_all_is_told() -> None:
    result = entered([Finding("a"), Finding("b")], names("a", "b", "gone"))

    assert [one.message for one in result.findings] == ["a", "b"]
    assert (result.findings_total, result.failing_total, result.waived_total) == (2, 2, 2)


def test_waived_findings_do_not_hide_others_that_come_late() -> None:
    many = [Finding(f"{n} rows are cut") for n in range(50)]
    named = frozenset(f"{next(iter(names('1 rows are cut'))).partition(':')[0]}:{n}" for n in range(1, 51))

    result = entered([*many, Finding("another")], named)

    assert [one.message for one in result.findings] == ["another"]
    assert result.waived_total == 50


def test_too_many_findings_cannot_all_be_named() -> None:
    result = entered([Finding("a row is cut")] * (MAX_FINGERPRINTS + 5))

    assert (len(result.fingerprints), result.failing_total) == (MAX_FINGERPRINTS, MAX_FINGERPRINTS + 5)


def test_a_remark_is_not_waived() -> None:
    result = entered([Finding("a", Severity.INFO)], names("a"))

    assert (result.findings_total, result.failing_total, result.waived_total) == (1, 0, 0)


def test_a_message_is_one_line() -> None:
    [one] = entered([Finding("row\nFAILED x")]).findings

    assert one.message == r"row\nFAILED x"
