from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import junitparser
import pytest
from ftcheck_plugins.reporters.junit import MAX_NAME, REPORTER, render
from lxml import etree

from ftcheck.errors import Problem
from ftcheck.exit_codes import ExitCode
from ftcheck.ledger import exit_code
from ftcheck.records import Outcome
from ftcheck.report.record import Report
from tests.plugins.reporters import fakes

REPORTS = {
    "started": fakes.started(),
    "empty": fakes.empty(),
    "green": fakes.green_night(),
    "red": fakes.red_night(),
    "every outcome": fakes.every_outcome(),
    "nasty": fakes.nasty(),
    "many findings": fakes.many_findings(),
    "only skipped": fakes.report(fakes.result("gpu", Outcome.SKIPPED, reason="none"), verdict=None),
    "policy": fakes.report(status="incomplete", verdict=None, problems=(Problem("bad"), Problem("bad"))),
}


def cases(report: Report) -> dict[str, ElementTree.Element]:
    """Test cases by `classname name`; a name that is taken twice is an error."""
    found = list(ElementTree.fromstring(render(report).encode()).iter("testcase"))
    named = {f"{case.get('classname')} {case.get('name')}": case for case in found}
    assert len(named) == len(found)
    return named


def outcome(case: ElementTree.Element) -> str:
    """The one outcome of a test case."""
    outcomes = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    assert len(outcomes) <= 1
    return outcomes[0] if outcomes else "passed"


@pytest.mark.realdata
@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_valid_by_jenkins_schema(name: str, realdata: Path) -> None:
    schema = etree.XMLSchema(etree.parse(str(realdata / "schemas" / "junit-10.xsd")))

    schema.assertValid(etree.fromstring(render(REPORTS[name]).encode()))


@pytest.mark.parametrize("name", sorted(set(REPORTS) - {"started"}))
def test_it_is_red_exactly_when_the_exit_code_is_not_0(name: str) -> None:
    report = REPORTS[name]

    red = any(outcome(case) in ("failure", "error") for case in cases(report).values())

    stopped = any(one.outcome is Outcome.NOT_RUN for one in report.results)
    assert red == (exit_code(report.results, report.problems) is not ExitCode.OK or stopped)


@pytest.mark.parametrize("name", ["green", "red", "every outcome", "many findings"])
def test_the_counts_of_the_suite_are_those_of_the_ledger(name: str) -> None:
    report = REPORTS[name]
    suite = next(iter(junitparser.JUnitXml.fromstring(render(report).encode())))
    counts = report.counts()
    warnings = sum(one.outcome is Outcome.FAILED and not one.blocking for one in report.results)

    assert suite.tests == counts["planned"] == len(list(suite))
    assert suite.failures == counts["failed"] - warnings
    assert suite.skipped == counts["skipped"] + counts["waived"]
    assert suite.errors == counts["errored"] + counts["timeout"] + counts["not-run"]


@pytest.mark.parametrize("name", REPORTS)
def test_the_root_sums_its_suites_and_everything_has_a_time(name: str) -> None:
    root = ElementTree.fromstring(render(REPORTS[name]).encode())
    suites = root.findall("testsuite")

    for key in ("tests", "failures", "errors"):
        assert int(root.attrib[key]) == sum(int(suite.attrib[key]) for suite in suites)
    assert all("time" in element.attrib for element in (root, *suites, *root.iter("testcase")))
    assert all(suite.findall("testcase") for suite in suites)


def test_a_check_is_named_after_policy_job_and_check() -> None:
    report = fakes.report(fakes.result("environment"), fakes.result("mapper::truncation"))

    assert list(cases(report)) == [
        "ftcheck.night-before.host environment",
        "ftcheck.night-before.mapper truncation",
    ]


def test_a_blocking_finding_is_a_failure_with_place_message_and_remedy() -> None:
    case = cases(fakes.red_night())["ftcheck.night-before.analyst truncation"]

    [failure] = case.findall("failure")

    assert failure.attrib["type"] == "error"
    assert failure.attrib["message"].startswith("the answer is cut: 1,712 tokens")
    assert failure.attrib["message"].endswith("(and 1,203 more)")
    first, fix, change, *_ = (failure.text or "").splitlines()
    assert first.startswith("data/analyst/train.jsonl:412:1: the answer is cut")
    assert fix == "  fix: keeps 99.4 % of trained tokens, +9 % steps"
    assert change == "  change: jobs.analyst.training.max_length: 1024 -> 1536"
    assert "4 of 1,204 findings shown" in (failure.text or "")
    assert "rows_cut 1,204 rows (limit 0)" in (failure.text or "")


def test_a_failure_without_any_words_is_still_a_failure() -> None:
    for bare in (fakes.failed("a", fakes.finding("")), replace(fakes.failed("a"), findings=())):
        [case] = cases(fakes.report(bare)).values()

        assert outcome(case) == "failure"
        assert case.find("failure").attrib["message"]  # type: ignore[union-attr]


def test_a_warning_passes_and_its_findings_can_be_read() -> None:
    case = cases(fakes.red_night())["ftcheck.night-before.mapper learning-rate"]

    assert outcome(case) == "passed"
    assert (case.findtext("system-out") or "").startswith("warning: 0.002 is ten times")
    assert "policies/night_before.yaml:36:22" in (case.findtext("system-out") or "")


def test_waived_and_skipped_are_skipped_with_the_reason() -> None:
    found = cases(fakes.red_night())

    waived = found["ftcheck.night-before.analyst duplicates"].find("skipped")
    skipped = found["ftcheck.night-before.host gpu"].find("skipped")

    assert waived is not None
    assert waived.attrib["message"] == "waived until 2026-11-28: synthetic paraphrases, reviewed (data-team)"
    assert "data/analyst/train.jsonl:17:1" in (waived.text or "")
    assert skipped is not None
    assert skipped.attrib["message"] == "no NVIDIA GPU on this machine"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Outcome.ERRORED, "errored: the reason"),
        (Outcome.TIMEOUT, "timed out: the reason"),
        (Outcome.NOT_RUN, "not run: the reason"),
    ],
)
def test_what_did_not_finish_is_an_error(kind: Outcome, message: str) -> None:
    broken = fakes.result("mapper::x", kind, reason="the reason\nin two lines", detail="Traceback")

    [case] = cases(fakes.report(broken)).values()

    assert outcome(case) == "error"
    error = case.find("error")
    assert error is not None
    assert error.attrib == {"type": kind.value, "message": message}
    assert error.text == "the reason\n  | in two lines\n\nTraceback"


def test_an_outcome_without_a_reason_is_what_it_is_all_the_same() -> None:
    reports = [fakes.report(fakes.result("a", kind), fakes.result("b")) for kind in Outcome]

    outcomes = [outcome(next(iter(cases(report).values()))) for report in reports]

    assert outcomes == ["passed", "failure", "skipped", "skipped", "error", "error", "error"]


def test_a_run_that_did_not_finish_is_one_error() -> None:
    [(name, case)] = cases(fakes.started()).items()

    assert name == "ftcheck.night-before.run run did not finish"
    assert outcome(case) == "error"


def test_a_run_without_checks_is_an_error() -> None:
    [(name, case)] = cases(fakes.empty()).items()

    assert name == "ftcheck.night-before.run no checks ran"
    assert outcome(case) == "error"


def test_a_run_that_decided_nothing_is_an_error() -> None:
    found = cases(REPORTS["only skipped"])

    assert outcome(found["ftcheck.night-before.run nothing passed or failed"]) == "error"


def test_every_problem_of_the_run_is_an_error_of_its_own() -> None:
    found = cases(REPORTS["policy"])

    assert [name.removeprefix("ftcheck.night-before.run ") for name in found] == [
        "problem",
        "problem #2",
        "no checks ran",
    ]
    assert {outcome(case) for case in found.values()} == {"error"}


def test_names_are_unique_and_short_enough_for_azure() -> None:
    long = [fakes.result(f"mapper::{'x' * 600}{letter}") for letter in "abc"]

    names = [name.rpartition(" ")[2] for name in cases(fakes.report(*long))]

    lengths = [len(case.attrib["name"]) for case in cases(fakes.report(*long)).values()]
    assert len(set(names)) == 3
    assert max(lengths) == MAX_NAME


def test_what_xml_cannot_hold_is_shown() -> None:
    text = render(fakes.nasty())

    failure = ElementTree.fromstring(text.encode()).find(".//failure")

    assert failure is not None
    for shown in (r"\x07", r"\x1b[31mred", r"\x00", r"\ud800", "]]>", r"\x9b", r"\u202e", "<b>|pipe|</b>"):
        assert shown in failure.attrib["message"]
        assert shown in (failure.text or "")
    assert fakes.SECRET not in text


def test_two_thousand_findings_are_twenty_and_a_total() -> None:
    text = render(
        fakes.report(fakes.failed("mapper::x", *[fakes.finding(f"row {n} cut") for n in range(2000)]))
    )

    assert text.count("data/train.jsonl:412:1") == 20
    assert "20 of 2,000 findings shown" in text
    assert "(and 1,999 more)" in text


def test_the_suite_tells_what_was_checked_and_nothing_of_the_machine() -> None:
    suite = next(iter(junitparser.JUnitXml.fromstring(render(fakes.red_night()).encode())))

    properties = {one.name: one.value for one in suite.properties()}

    assert properties["policy"] == fakes.POLICY
    assert properties["input mapper.train"] == fakes.digest("1")
    assert properties["gate analyst"] == "incomplete, failed"
    assert suite.timestamp == "2026-11-22T22:10:00+00:00"
    assert suite.hostname is None


def test_the_reporter_is_called_junit() -> None:
    assert (REPORTER.name, REPORTER.suffix) == ("junit", ".xml")
