"""One run with planted failures in every format at once: all agree, and convert gives the same bytes."""

import json
import re
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from tests.cli.project import HEAD, Project, Ran, rule_text
from tests.places import POLICIES
from tests.plugins.reporters.test_gitlab import FIELDS
from tests.plugins.reporters.test_sarif import SCHEMA

FILES = {
    "json": "r.json",
    "junit": "r.xml",
    "github": "r.txt",
    "markdown": "r.md",
    "sarif": "r.sarif",
    "gitlab": "g.json",
    "html": "r.html",
}
PLANTED = """
ftcheck: 1
name: planted
extends: [./night_before.yaml]
checks: {{broken: {{}}, many: {{}}}}
waivers:
  - check: mapper::percentile-seq-len
    reason: shorter on purpose
    owner: data-team
    expires: {day}
    all: true
"""
BROKEN = rule_text("broken", 'raise ValueError("planted")')
MANY = rule_text(
    "many",
    """
    for n in range(1, 31):
        yield Finding("planted", severity=Severity.WARNING, at=Location("policies/night_before.yaml", n))
    """,
)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The sample policy with rows that are cut, a waiver, a check that breaks and one with 30 warnings."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(POLICIES, folder / "policies", ignore=shutil.ignore_patterns("checkpoints"))
    project = Project(folder)
    project.write("rules/mine.py", HEAD + BROKEN + MANY)
    day = datetime.now(UTC).date() + timedelta(days=10)
    project.write("policies/planted.yaml", PLANTED.format(day=day))
    ran = project.call(
        *("run", "policies/planted.yaml", "--offline", "--rules-dir", "rules"),
        *("--set", "jobs.mapper.training.max_length=64"),
        *(word for name, file in FILES.items() for word in ("-o", f"{name}={file}")),
    )
    assert ran.code == 3, ran.out + ran.err
    return ran


def text(night: Ran, name: str) -> str:
    return (night.folder / FILES[name]).read_text(encoding="utf-8")


def sarif(night: Ran) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(text(night, "sarif"))["runs"]
    return runs


def results(night: Ran) -> list[dict[str, Any]]:
    return [result for run in sarif(night) for result in run["results"]]


def gitlab(night: Ran) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text(night, "gitlab"))
    return found


def test_the_planted_outcomes_are_all_there(night: Ran) -> None:
    counts = night.report["counts"]

    assert {name for name, count in counts.items() if count} == {
        *("planned", "passed", "failed", "waived", "skipped", "errored")
    }


def test_the_tally_is_the_same_everywhere(night: Ran) -> None:
    counts = night.report["counts"]
    cases = [case for suite in JUnitXml.fromstring(text(night, "junit").encode()) for case in suite]
    kinds = Counter(type(one) for case in cases for one in case.result)
    warnings = sum(one["outcome"] == "failed" and not one["blocking"] for one in night.report["results"])
    tally = f"{counts['errored']} errored, {counts['passed']} passed"

    assert len(cases) == counts["planned"]
    assert kinds[Failure] == counts["failed"] - warnings
    assert kinds[Skipped] == counts["skipped"] + counts["waived"]
    assert kinds[Error] == counts["errored"]
    outcomes = sum((Counter(run["properties"]["outcomes"]) for run in sarif(night)), Counter())
    assert outcomes == +Counter({name: count for name, count in counts.items() if name != "planned"})
    for name in ("github", "markdown"):
        assert tally in text(night, name), name
    assert tally in night.out


def test_findings_have_the_same_fingerprints_everywhere(night: Ran) -> None:
    listed = [one for one in night.report["results"] if one["outcome"] in ("failed", "waived")]
    stored = {finding["fingerprint"] for one in listed for finding in one["findings"]}
    broken = {one["id"] for one in night.report["results"] if one["outcome"] == "errored"}
    in_sarif = {one["partialFingerprints"]["ftcheck/v2"] for one in results(night)}
    in_gitlab = {one["fingerprint"] for one in gitlab(night)}

    assert len(stored) == sum(len(one["findings"]) for one in listed)
    in_html = set(re.findall(r'data-fingerprint="([^"]+)"', text(night, "html")))

    assert in_sarif == in_gitlab
    assert stored <= in_html
    assert stored < in_sarif
    remarks = [remark for one in night.report["waivers"] for remark in one["remarks"]]
    assert len(broken) == len(remarks) == 1
    assert len(in_sarif - stored) == len(broken) + len(remarks)
    assert len(results(night)) == len(gitlab(night)) == len(in_sarif)


def test_as_many_findings_are_told_of_each_check(night: Ran) -> None:
    stored = {
        one["id"]: (len(one["findings"]), one["findings_total"])
        for one in night.report["results"]
        if one["outcome"] == "failed"
    }
    told = Counter(one["properties"]["check"] for one in results(night) if "suppressions" not in one)
    described = Counter(re.split(r": ", one["description"])[0] for one in gitlab(night))

    assert stored["many"] == (20, 30)
    for check, (shown, total) in stored.items():
        assert told[check] == described[check] == shown
        assert f"<b>{check}</b>" in text(night, "markdown").replace("\\", "")
        assert f"{total:,} finding" in text(night, "markdown")
    assert "many: 10 more findings that no report lists." in text(night, "sarif")
    assert "and 10 more" in text(night, "gitlab")


def test_what_is_waived_or_broken_is_so_everywhere(night: Ran) -> None:
    [waived] = [one for one in night.report["results"] if one["outcome"] == "waived"]
    suppressed = [one for one in results(night) if "suppressions" in one]
    [broken] = [one for one in gitlab(night) if one["severity"] == "blocker"]

    assert {one["properties"]["check"] for one in suppressed} == {waived["id"]}
    assert len(suppressed) == len(waived["findings"])
    assert "shorter on purpose" in suppressed[0]["suppressions"][0]["justification"]
    assert broken["description"].startswith("broken: errored")
    assert {
        run["automationDetails"]["id"]: run["invocations"][0]["executionSuccessful"] for run in sarif(night)
    } == {
        "ftcheck/planted/": False,
        "ftcheck/planted/analyst/": False,
        "ftcheck/planted/mapper/": False,
    }


def test_each_is_valid_by_its_schema(night: Ran) -> None:
    tables = Path(__file__).parents[2] / "ftcheck" / "tables"
    jsonschema.validate(night.report, json.loads((tables / "report.schema.json").read_text(encoding="utf-8")))
    schema = jsonschema.Draft4Validator(
        json.loads(SCHEMA.read_text(encoding="utf-8")), format_checker=jsonschema.FormatChecker()
    )
    schema.validate(json.loads(text(night, "sarif")))
    jsonschema.validate(gitlab(night), FIELDS)


@pytest.mark.realdata
def test_junit_is_valid_by_jenkins_schema(night: Ran, realdata: Path) -> None:
    from lxml import etree

    schema = etree.XMLSchema(etree.parse(str(realdata / "schemas" / "junit-10.xsd")))

    schema.assertValid(etree.fromstring(text(night, "junit").encode()))


def test_no_file_names_a_folder_of_this_machine(night: Ran) -> None:
    for name in ("sarif", "gitlab"):
        assert str(night.folder) not in text(night, name)


def test_convert_writes_what_the_run_wrote(night: Ran) -> None:
    (night.folder / "again").mkdir()
    Project(night.folder).call(
        *("report", "convert", "r.json"),
        *(word for name, file in FILES.items() for word in ("-o", f"{name}=again/{file}")),
    )

    for file in FILES.values():
        assert (night.folder / "again" / file).read_bytes() == (night.folder / file).read_bytes(), file


def test_the_help_of_convert_lists_every_format(night: Ran) -> None:
    said = Project(night.folder).call("report", "convert", "--help").out

    assert set(FILES) <= set(re.findall(r"\w+", said.partition("Formats:")[2]))


def test_diff_of_a_report_with_itself_says_that_nothing_differs(night: Ran) -> None:
    ran = Project(night.folder).call("report", "diff", "r.json", "r.json", "--exit-code")

    assert ran.code == 0
    assert "nothing differs" in ran.out


def test_diff_tells_what_was_fixed_and_exits_1_only_when_asked(night: Ran) -> None:
    project = Project(night.folder)
    project.call(
        *("run", "policies/planted.yaml", "--offline", "--rules-dir", "rules", "--ignore", "broken"),
        *("-o", "json=fixed.json"),
    )
    ran = project.call("report", "diff", "r.json", "fixed.json", "-o", "json=d.json", "-o", "markdown=d.md")
    told = json.loads((night.folder / "d.json").read_text(encoding="utf-8"))

    assert ran.code == 0, ran.err
    assert told["schema"] == "ftcheck.diff/1"
    assert told["differs"]
    assert told["totals"]["new"] == 0
    assert told["totals"]["fixed"] > 0
    assert "mapper::truncation  failed → passed" in ran.out
    assert "mapper::truncation" in (night.folder / "d.md").read_text(encoding="utf-8")
    assert project.call("report", "diff", "r.json", "fixed.json", "--exit-code").code == 1


def test_diff_of_what_is_no_report_is_one_line(night: Ran) -> None:
    ran = Project(night.folder).call("report", "diff", "r.json", "absent.json")

    assert ran.code == 2
    assert ran.err.strip() == "absent.json: No such file or directory"
    wrong = Project(night.folder).call("report", "diff", "r.json", "r.json", "-o", "junit=x")
    assert wrong.code == 2
    assert "-o junit: no such report format" in wrong.err


def test_the_page_of_a_difference_is_one_file(night: Ran) -> None:
    pytest.importorskip("ftcheck.report.html.diff_page")

    ran = Project(night.folder).call("report", "diff", "r.json", "r.json", "-o", "html=d.html")

    assert ran.code == 0, ran.err
    assert "Nothing differs." in (night.folder / "d.html").read_text(encoding="utf-8")
