import json
import re
from dataclasses import replace
from datetime import date
from importlib import resources
from typing import Any

import pytest
from ftcheck_plugins.reporters.json_report import REPORTER, render

from ftcheck.records import Finding, Measurement
from ftcheck.report.record import Report, from_dict, to_dict
from tests.plugins.reporters import fakes

SCHEMA = json.loads(resources.files("ftcheck.tables").joinpath("report.schema.json").read_text("utf-8"))
REPORTS = {
    "started": fakes.started(),
    "empty": fakes.empty(),
    "green": fakes.green_night(),
    "red": fakes.red_night(),
    "every outcome": fakes.every_outcome(),
    "nasty": fakes.nasty(),
    "many findings": fakes.many_findings(),
    "partial": fakes.report(fakes.result(), status="partial", selection={"select": ["mapper::*"]}),
}


def errors(data: Any) -> list[str]:
    """What the schema says against a report."""
    from jsonschema import Draft202012Validator, FormatChecker

    Draft202012Validator.check_schema(SCHEMA)
    validator = Draft202012Validator(SCHEMA, format_checker=FormatChecker())
    return [error.message for error in validator.iter_errors(data)]


def broken(change: dict[str, Any], *path: str | int) -> dict[str, Any]:
    """The red night as JSON, with something wrong at `path`."""
    data = json.loads(render(fakes.red_night()))
    inner: Any = data
    for step in path:
        inner = inner[step]
    inner.update(change)
    return dict(data)


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_valid_by_the_schema(name: str) -> None:
    assert errors(json.loads(render(REPORTS[name]))) == []


@pytest.mark.parametrize("name", sorted(set(REPORTS) - {"nasty"}))
def test_a_report_is_read_back_as_it_was(name: str) -> None:
    report = REPORTS[name]
    in_order = replace(report, results=tuple(sorted(report.results, key=lambda one: one.check.id)))

    assert from_dict(json.loads(render(report))) == in_order


@pytest.mark.parametrize("name", sorted(set(REPORTS) - {"nasty"}))
def test_what_was_read_back_renders_to_the_same_bytes(name: str) -> None:
    text = render(REPORTS[name])

    assert render(from_dict(json.loads(text))) == text


@pytest.mark.parametrize(
    "data",
    [
        broken({"surprise": 1}),
        broken({"surprise": 1}, "results", 0),
        broken({"surprise": 1}, "run"),
        broken({"surprise": 1}, "counts"),
        broken({"status": "done"}),
        broken({"status": "complete"}),
        broken({"status": "started"}),
        broken({"outcome": "green"}, "results", 0),
        broken({"outcome": "skipped", "reason": None}, "results", 0),
        broken({"outcome": "passed", "blocking": True, "findings": []}, "results", 0),
        broken({"digest": "sha256:abc"}, "jobs", "mapper"),
        broken({"digest": "a" * 64}, "inputs", "mapper.train"),
        broken({"mapper": "ajar"}, "gate"),
        broken({"passed": -1}, "counts"),
        broken({"started_at": "yesterday"}, "run"),
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_not_a_report(data: dict[str, Any]) -> None:
    assert errors(data)


def test_the_schema_closes_every_object_but_those_of_free_content() -> None:
    def open_objects(node: Any, path: str) -> list[str]:
        if isinstance(node, list):
            return [
                found for number, one in enumerate(node) for found in open_objects(one, f"{path}/{number}")
            ]
        if not isinstance(node, dict):
            return []
        mine = [path] if "object" in str(node.get("type", "")) and "additionalProperties" not in node else []
        return mine + [found for key, one in node.items() for found in open_objects(one, f"{path}/{key}")]

    assert [path.rpartition("/")[2] for path in open_objects(SCHEMA, "")] == [
        "selection",
        "machine",
        "params",
    ]


def test_all_that_differs_between_two_runs_on_the_same_inputs_is_under_run() -> None:
    first = fakes.red_night()
    results = tuple(replace(one, seconds=one.seconds + 1) for one in first.results)
    second = replace(
        first, started_at="2026-11-23T22:10:00+00:00", machine={}, cached=(), results=results[::-1]
    )

    one, other = (json.loads(render(report)) for report in (first, second))

    assert one.pop("run") != other.pop("run")
    assert one == other
    assert list(one) == list(other)


def test_the_file_is_utf8_with_one_space_indents_and_a_last_new_line() -> None:
    text = render(fakes.report(fakes.result(summary="日本 ✓ é")))

    assert '\n "status": "complete",' in text
    assert "日本 ✓ é" in text
    assert text.endswith("}\n")


def test_lone_surrogates_and_control_characters_survive_as_escapes() -> None:
    text = render(fakes.report(fakes.result(summary=fakes.NASTY)))

    assert json.loads(text.encode("utf-8"))["results"][0]["summary"] == fakes.NASTY
    assert not re.search("[\x00-\x09\x0b-\x1f\ud800-\udfff]", text)


def test_no_secret_is_in_it() -> None:
    text = render(fakes.nasty())

    assert fakes.SECRET not in text
    assert "[redacted]" in text


def test_numbers_that_json_does_not_have_become_text() -> None:
    import numpy as np

    values: dict[str, Any] = {
        "nan": float("nan"),
        "inf": float("-inf"),
        "small": np.float32(0.5),
        "whole": np.int64(3),
    }
    measurements = tuple(Measurement(name, value) for name, value in values.items())

    data = json.loads(render(fakes.report(fakes.result(measurements=measurements))))

    assert errors(data) == []
    assert [one["value"] for one in data["results"][0]["measurements"]] == ["nan", "-inf", 0.5, 3]


def test_parameters_that_json_does_not_have_become_text() -> None:
    check = fakes.check(params={"day": date(2026, 11, 22), "names": {"b", "a"}, 5: ("x",)})

    data = json.loads(render(fakes.report(replace(fakes.result(), check=check))))

    assert data["results"][0]["params"] == {"day": "2026-11-22", "names": ["a", "b"], "5": ["x"]}


def test_findings_beyond_twenty_are_counted_and_not_listed() -> None:
    findings = tuple(fakes.finding(f"row {number}") for number in range(2000))

    [result] = json.loads(render(fakes.report(fakes.failed("mapper::truncation", *findings))))["results"]

    assert (len(result["findings"]), result["findings_total"]) == (20, 2000)


def test_the_reporter_is_called_json() -> None:
    assert (REPORTER.name, REPORTER.suffix) == ("json", ".json")
    assert to_dict(Report("started", "p", "p"))["schema"] == SCHEMA["properties"]["schema"]["const"]


def test_a_reason_of_a_finding_stands_in_the_report_and_leaves_its_fingerprint_alone() -> None:
    plain, told = Finding("too long"), Finding("too long", why="the answer is cut")
    one, other = (to_dict(fakes.report(fakes.failed("mapper::x", found))) for found in (plain, told))

    first, second = one["results"][0]["findings"][0], other["results"][0]["findings"][0]
    assert (first["why"], second["why"]) == (None, "the answer is cut")
    assert first["fingerprint"] == second["fingerprint"]
    assert from_dict(other).results[0].findings[0].why == "the answer is cut"


def test_a_report_of_an_earlier_version_is_read_without_reasons_and_requirements() -> None:
    data = to_dict(fakes.report(fakes.failed("mapper::x")))
    del data["results"][0]["required"], data["results"][0]["findings"][0]["why"]

    result = from_dict(data).results[0]

    assert result.findings[0].why is None
    assert not result.check.required
