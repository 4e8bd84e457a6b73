"""A report as an in-toto statement: its form, its subjects, and its result."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from sigstore.dsse import Statement

from ftcheck.attest.statement import encoded, statement
from ftcheck.records import Outcome
from ftcheck.report.record import Report, from_dict
from tests.attest.kit import statement_of
from tests.cli.project import Project


def test_the_subjects_are_the_report_and_what_was_checked(gated: Project) -> None:
    said = statement_of(gated)
    content = (gated.folder / "r.json").read_bytes()
    report = json.loads(content)
    digests = {one["name"]: one["digest"]["sha256"] for one in said["subject"]}

    data = hashlib.sha256((gated.folder / "mapper.jsonl").read_bytes()).hexdigest()
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert digests["r.json"] == hashlib.sha256(content).hexdigest()
    assert digests["mapper.train"] == data
    assert {"mapper.tokenizer", "mapper.template", "mapper.ids", "analyst.train"} <= set(digests)
    assert "sha256-tree:" + digests["mapper.ids"] == report["jobs"]["mapper"]["ids"]
    assert len(digests) == len(said["subject"]), "names must be unique"


def test_the_predicate_names_policy_plan_and_checks(gated: Project) -> None:
    said = statement_of(gated)["predicate"]
    report = json.loads((gated.folder / "r.json").read_bytes())
    configured = {one["name"]: "sha256:" + one["digest"]["sha256"] for one in said["configuration"]}

    assert said["result"] == "PASSED"
    assert configured["mapper.policy"] == report["jobs"]["mapper"]["digest"]
    assert configured["mapper.plan"] == report["jobs"]["mapper"]["plan"]
    assert said["passedTests"] == sorted(r["id"] for r in report["results"] if r["outcome"] == "passed")
    assert (said["warnedTests"], said["failedTests"]) == ([], [])


def test_sigstore_takes_it_for_a_statement(gated: Project) -> None:
    Statement(encoded(statement_of(gated)))


def _report(gated: Project) -> Report:
    return from_dict(json.loads((gated.folder / "r.json").read_bytes()))


def _with(report: Report, number: int = 0, **changes: Any) -> Report:
    results = list(report.results)
    required = changes.pop("required", results[number].check.required)
    results[number] = replace(results[number], check=replace(results[number].check, required=required))
    results[number] = replace(results[number], **changes)
    return replace(report, results=tuple(results))


@pytest.mark.parametrize(
    ("changes", "about", "result", "where"),
    [
        ({"outcome": Outcome.FAILED, "blocking": True}, {"verdict": "failed"}, "FAILED", "failedTests"),
        ({"outcome": Outcome.FAILED, "required": False}, {}, "WARNED", "warnedTests"),
        ({"outcome": Outcome.WAIVED, "required": False}, {}, "WARNED", "warnedTests"),
        ({"outcome": Outcome.WAIVED, "required": True}, {}, "FAILED", "failedTests"),
        ({"outcome": Outcome.ERRORED}, {"status": "incomplete", "verdict": None}, "FAILED", "failedTests"),
        ({"outcome": Outcome.SKIPPED, "required": False}, {}, "PASSED", None),
        ({"outcome": Outcome.NOT_RUN}, {"status": "partial"}, "WARNED", None),
        ({"outcome": Outcome.SKIPPED, "required": False}, {"verdict": None}, "FAILED", None),
    ],
)
def test_the_result(
    gated: Project, changes: dict[str, Any], about: dict[str, Any], result: str, where: str | None
) -> None:
    report = replace(_with(_report(gated), **changes), **about)
    name = report.results[0].check.id

    said = statement("r.json", b"", report)["predicate"]

    assert said["result"] == result
    lists = [key for key in ("passedTests", "warnedTests", "failedTests") if name in said[key]]
    assert lists == ([where] if where else [])


def test_a_digest_that_is_none_is_no_subject(gated: Project) -> None:
    report = _report(gated)
    inputs = {**report.inputs, "mapper.gold": replace(report.inputs["mapper.train"], digest=None)}

    said = statement("r.json", b"", replace(report, inputs=inputs))

    assert "mapper.gold" not in [one["name"] for one in said["subject"]]
