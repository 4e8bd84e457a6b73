import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import jsonschema
import pytest
from ftcheck_plugins.reporters.gitlab import render

from ftcheck.records import Location, Outcome, Severity
from ftcheck.report.record import Report
from tests.plugins.reporters import fakes
from tests.plugins.reporters.test_junit import REPORTS

FIELDS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "additionalProperties": False,
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "minLength": 1},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "minLength": 1},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}
"""The fields that GitLab's documentation of code quality reports names."""


def entries(report: Report) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads(render(report))
    return read


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_has_the_documented_fields(name: str) -> None:
    found = entries(REPORTS[name])

    jsonschema.validate(found, FIELDS)
    assert not any(PurePosixPath(one["location"]["path"]).is_absolute() for one in found)
    assert not any(one["location"]["path"].startswith(("./", "../")) for one in found)
    assert len({one["fingerprint"] for one in found}) == len(found)


def test_only_a_clean_and_complete_run_is_an_empty_list() -> None:
    empty = {name for name in REPORTS if not entries(REPORTS[name])}

    assert empty == {"green"}
    assert entries(fakes.report(fakes.result("a::b"), status="partial"))
    assert entries(fakes.report(fakes.result("a::b"), status="incomplete"))


def test_the_check_stands_before_what_it_found() -> None:
    first = next(one for one in entries(fakes.red_night()) if one["check_name"] == "truncation")

    assert first["description"].startswith("analyst::truncation: the answer is cut: 1,712 tokens")
    assert first["severity"] == "critical"
    assert first["location"] == {"path": "data/analyst/train.jsonl", "lines": {"begin": 412}}


def test_what_keeps_a_run_from_deciding_comes_first() -> None:
    found = entries(fakes.every_outcome())

    severities = [one["severity"] for one in found]
    assert severities == ["blocker"] * 3 + ["critical", "minor", "info"]
    assert "because of waived" in found[-1]["description"]


def test_a_fingerprint_does_not_know_the_line() -> None:
    names = []
    for line in (3, 400):
        at = Location("data/train.jsonl", line, row=line, record=fakes.digest("d"))
        names.append(
            [one["fingerprint"] for one in entries(fakes.report(fakes.failed("a::b", fakes.finding(at=at))))]
        )

    assert names[0] == names[1]


def test_findings_that_are_not_listed_are_counted_in_the_last() -> None:
    found = entries(fakes.many_findings())

    assert found[-1]["description"].endswith("\n  and 1,980 more")
    assert sum(one["description"].endswith("more") for one in found) == 1


def test_a_warning_that_the_gate_requires_is_minor() -> None:
    [one] = entries(fakes.report(fakes.required("a::b")))

    assert one["severity"] == "minor"
    bare = replace(fakes.result("a::b", Outcome.FAILED), blocking=False)
    assert entries(fakes.report(bare))[0]["description"] == "a::b: failed, without a finding"
    assert Severity.WARNING.rank == 1
