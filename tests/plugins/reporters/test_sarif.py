import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ftcheck_plugins.reporters import sarif
from ftcheck_plugins.reporters.sarif import render

from ftcheck.errors import Problem
from ftcheck.exit_codes import ExitCode
from ftcheck.ledger import exit_code
from ftcheck.records import Location, Outcome, Severity
from ftcheck.report.record import Report, RuleParam, RuleText
from tests.plugins.reporters import fakes
from tests.plugins.reporters.test_junit import REPORTS

SCHEMA = Path(__file__).parent / "schemas" / "sarif-schema-2.1.0.json"
RULE = RuleText("No row is cut.", "The end is never trained.", "Counts.", (RuleParam("x", "int", 0, "h"),))


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft4Validator:
    read = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return jsonschema.Draft4Validator(read, format_checker=jsonschema.FormatChecker())


def runs(report: Report) -> dict[str, dict[str, Any]]:
    """The runs of the file by their category."""
    return {one["automationDetails"]["id"]: one for one in json.loads(render(report))["runs"]}


def results(report: Report) -> list[dict[str, Any]]:
    return [result for run in runs(report).values() for result in run["results"]]


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_valid_by_the_schema_of_oasis(name: str, schema: jsonschema.Draft4Validator) -> None:
    schema.validate(json.loads(render(REPORTS[name])))


@pytest.mark.parametrize("name", REPORTS)
def test_no_file_is_clean_where_the_exit_code_is_not_0(name: str) -> None:
    report = REPORTS[name]
    stopped = report.status != "complete" or exit_code(report.results, report.problems) is not ExitCode.OK

    assert any(one["level"] == "error" for one in results(report)) == stopped


@pytest.mark.parametrize(
    ("name", "ended"),
    [
        ("started", False),
        ("empty", False),
        ("green", True),
        ("red", False),
        ("every outcome", False),
        ("many findings", True),
        ("only skipped", False),
        ("policy", False),
    ],
)
def test_execution_was_successful_only_where_it_came_to_an_end(name: str, ended: bool) -> None:
    invocations = [one["invocations"][0] for one in runs(REPORTS[name]).values()]

    assert all(one["executionSuccessful"] for one in invocations) == ended
    for one in invocations:
        said = [told for told in one["toolExecutionNotifications"] if told["level"] == "error"]
        assert bool(said) != one["executionSuccessful"]


def test_each_job_has_its_category_and_what_is_of_none_another() -> None:
    found = runs(fakes.red_night())

    assert list(found) == [
        "ftcheck/night-before/",
        "ftcheck/night-before/analyst/",
        "ftcheck/night-before/mapper/",
    ]
    outcomes = [one["properties"]["outcomes"]["errored"] for one in found.values()]
    assert outcomes == [0, 3, 0]


def test_a_finding_has_place_rule_level_and_fingerprint() -> None:
    report = replace(fakes.red_night(), rules={"truncation": RULE})
    run = runs(report)["ftcheck/night-before/analyst/"]
    found = next(one for one in run["results"] if one["ruleId"] == "truncation")
    rule = run["tool"]["driver"]["rules"][found["ruleIndex"]]

    physical = found["locations"][0]["physicalLocation"]
    assert found["level"] == "error"
    assert found["message"]["text"].startswith("the answer is cut: 1,712 tokens")
    assert "change: jobs.analyst.training.max_length: 1024 -> 1536" in found["message"]["text"]
    assert physical["artifactLocation"] == {"uri": "data/analyst/train.jsonl", "uriBaseId": "%SRCROOT%"}
    assert physical["region"] == {"startLine": 412, "startColumn": 1}
    [stored] = [one for one in report.results if one.check.id == "analyst::truncation"]
    assert found["partialFingerprints"]["primaryLocationLineHash"] == stored.findings[0].fingerprint
    assert rule["id"] == "truncation"
    assert rule["shortDescription"]["text"] == "No row is cut."
    assert rule["fullDescription"]["text"] == "The end is never trained."
    assert "| x | int | 0 | h |" in rule["help"]["markdown"]


def test_a_warning_is_a_warning_and_an_info_a_note() -> None:
    levels = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
    findings = [fakes.finding(one.value, severity=one) for one in Severity]

    told = {
        one["message"]["text"]: one["level"] for one in results(fakes.report(fakes.failed("a::b", *findings)))
    }

    assert told == {severity.value: level for severity, level in levels.items()}


def test_a_waived_finding_is_suppressed_with_its_reason_and_no_error() -> None:
    waived = [one for one in results(fakes.red_night()) if one["ruleId"] == "duplicates"]

    assert len(waived) == 4
    for one in waived:
        assert one["level"] == "note"
        [suppression] = one["suppressions"]
        assert suppression["kind"] == "external"
        assert "synthetic paraphrases, reviewed" in suppression["justification"]


@pytest.mark.parametrize(
    ("path", "folder", "shown"),
    [
        ("data/a b.jsonl", "", "data/a%20b.jsonl"),
        ("data/a.jsonl", "jobs/night", "jobs/night/data/a.jsonl"),
        ("../data/a.jsonl", "jobs/night", "jobs/data/a.jsonl"),
        ("../data/a.jsonl", "", "policies/p.yaml"),
        ("../../../a.jsonl", "jobs/night", "jobs/night/policies/p.yaml"),
        ("/srv/data/a.jsonl", "", "policies/p.yaml"),
        ("--set", "", "policies/p.yaml"),
        (None, "", "policies/p.yaml"),
    ],
)
def test_places_are_named_from_the_top_of_the_repository(path: str | None, folder: str, shown: str) -> None:
    failed = fakes.failed("mapper::x", fakes.finding(at=Location(path, 7, yaml_path="jobs.mapper")))
    placed = replace(failed, check=replace(failed.check, at=Location("policies/p.yaml", 12, 3)))

    [result] = results(fakes.report(placed, folder=folder))

    physical = result["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == shown
    own = "a" in shown.rpartition("/")[2] and "p.yaml" not in shown
    assert physical["region"] == {"startLine": 7 if own else 12}
    assert "/srv" not in render(fakes.report(placed, folder=folder))


def test_a_check_without_any_place_is_shown_at_the_policy() -> None:
    [result] = results(fakes.report(fakes.failed("mapper::x", fakes.finding(at=None))))

    physical = result["locations"][0]["physicalLocation"]
    assert physical == {"artifactLocation": {"uri": fakes.POLICY, "uriBaseId": "%SRCROOT%"}}


def test_a_problem_has_its_own_line() -> None:
    problem = Problem("unknown key", "policies/night_before.yaml", 4, 12, "plugins")

    [result] = results(fakes.report(status="incomplete", verdict=None, problems=(problem,)))[:1]

    assert result["ruleId"] == "ftcheck-run"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 4, "startColumn": 12}


def test_githubs_limits_are_kept_and_told(
    monkeypatch: pytest.MonkeyPatch, schema: jsonschema.Draft4Validator
) -> None:
    monkeypatch.setattr(sarif, "MAX_RESULTS", 30)
    mild = [
        fakes.failed(f"mapper::a{n}", fakes.finding(severity=Severity.WARNING), blocking=False)
        for n in range(25)
    ]
    bad = [fakes.failed(f"mapper::b{n}") for n in range(20)]

    run = runs(fakes.report(*mild, *bad))["ftcheck/night-before/mapper/"]

    assert [one["level"] for one in run["results"]] == ["error"] * 20 + ["warning"] * 10
    told = [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]]
    assert told == ["30 of 45 results are listed, the most severe first."]


def test_25000_results_and_more_stay_below_10_megabytes() -> None:
    findings = [fakes.finding(f"row is cut {'abcdefghij'[n % 10]}") for n in range(20)]
    report = fakes.report(*(fakes.failed(f"mapper::x{n}", *findings) for n in range(1255)))

    text = render(report)

    run = json.loads(text)["runs"][1]
    assert len(run["results"]) == 25_000
    assert len(gzip.compress(text.encode())) < 10_000_000
    [told] = run["invocations"][0]["toolExecutionNotifications"]
    assert told["message"]["text"].startswith("25,000 of 25,100 results are listed")


def test_more_jobs_than_runs_share_the_last_one() -> None:
    report = fakes.report(*(fakes.failed(f"job{n:02}::x") for n in range(30)))

    found = runs(report)

    assert len(found) == 20
    last = found["ftcheck/night-before/+more/"]
    assert len(last["results"]) == 12
    assert len(results(report)) == 30
    [told] = last["invocations"][0]["toolExecutionNotifications"]
    assert told["message"]["text"] == "A file has no more than 20 runs: this one is about 12 jobs."


def test_findings_that_no_report_lists_are_counted() -> None:
    run = runs(fakes.many_findings())["ftcheck/night-before/mapper/"]

    [told] = run["invocations"][0]["toolExecutionNotifications"]
    assert told["message"]["text"] == "mapper::truncation: 1,980 more findings that no report lists."


def test_a_rule_has_no_more_than_20_tags() -> None:
    one = fakes.failed("mapper::x")
    tagged = replace(one, check=replace(one.check, tags=tuple(f"t{n}" for n in range(40))))

    [rule] = runs(fakes.report(tagged))["ftcheck/night-before/mapper/"]["tool"]["driver"]["rules"]

    assert len(rule["properties"]["tags"]) == 20


def test_a_required_check_that_was_skipped_is_said() -> None:
    one = fakes.result("mapper::x", Outcome.SKIPPED, reason="no data")
    needed = replace(one, check=replace(one.check, required=True))

    [result] = results(fakes.report(needed, fakes.result("mapper::y")))

    assert result["level"] == "warning"
    assert result["message"]["text"] == "skipped; required by the gate: no data"


def test_a_partial_run_is_not_a_clean_file() -> None:
    [result] = results(fakes.report(fakes.result("mapper::y"), status="partial"))

    assert (result["ruleId"], result["level"]) == ("ftcheck-run", "note")


def test_untrusted_text_makes_no_link_and_no_secret() -> None:
    text = render(fakes.report(fakes.failed("a::b", fakes.finding(f"see [here](http://x) {fakes.SECRET}"))))

    assert "](http" not in text
    assert fakes.SECRET not in text + render(fakes.nasty())


def test_fingerprints_are_unique_within_a_category() -> None:
    for report in REPORTS.values():
        for run in runs(report).values():
            names = [one["partialFingerprints"]["ftcheck/v2"] for one in run["results"]]
            assert len(set(names)) == len(names)


def test_equal_reports_give_equal_bytes_in_any_order() -> None:
    night = fakes.red_night()

    assert render(night) == render(replace(night, results=night.results[::-1]))
