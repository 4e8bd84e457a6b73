"""The gate on real runs of a small policy: what opens it, and each way in which it stays shut."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.project import Project
from tests.gate.kit import codes, edit, edit_report


@pytest.mark.parametrize(
    ("name", "old", "new", "code"),
    [
        ("mapper.jsonl", "Map", "Mup", "data-changed"),
        ("policy.yaml", "max_length: 512", "max_length: 500", "policy-changed"),
        ("policy.yaml", "loss-spike: {}", "loss-spike: {params: {patience: 9}}", "policy-changed"),
        ("policy.yaml", "loss-spike: {}", "loss-spike: false", "policy-changed"),
        (
            "policy.yaml",
            "  percentile-seq-len: {}",
            "  percentile-seq-len: {params: {percentile: 90}}",
            "policy-changed",
        ),
        (
            "policy.yaml",
            "  percentile-seq-len: {}",
            "  percentile-seq-len: {}\n  truncation: {}",
            "policy-changed",
        ),
        ("model/config.json", '"model_type"', '"x": 1, "model_type"', "model-changed"),
        ("model/tokenizer.json", '"version"', '"versiom": 1, "version"', "tokenizer-changed"),
        ("model/chat_template.jinja", "{%", "{# #}{%", "template-changed"),
    ],
    ids=["data", "job", "during", "no-during", "parameter", "check", "model", "tokenizer", "template"],
)
def test_a_change_after_the_checks_shuts_the_gate(
    project: Project, name: str, old: str, new: str, code: str
) -> None:
    edit(project, name, old, new)

    assert code in codes(project, "mapper")


def test_checks_of_stage_during_are_planned_but_not_run_before(project: Project) -> None:
    report = json.loads((project.folder / "r.json").read_text(encoding="utf-8"))

    ran = project.call("run", "policy.yaml", "--stage", "during")

    assert "mapper::loss-spike" not in [one["id"] for one in report["results"]]
    assert report["jobs"]["mapper"]["during"].startswith("sha256:")
    assert ran.code == 2
    assert "ftcheck train runs them while it trains" in ran.err


def test_a_change_to_the_other_job_does_not_matter(project: Project) -> None:
    edit(project, "analyst.jsonl", "Map", "Mup")
    edit(project, "policy.yaml", "output_dir: out/analyst", "output_dir: out/other")

    assert codes(project, "mapper") == []
    assert set(codes(project, "analyst")) == {"policy-changed", "data-changed"}


def test_a_changed_weight_header_shuts_the_gate(project: Project) -> None:
    weights = project.folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")

    assert codes(project, "mapper") == ["model-changed"]


def test_a_report_grows_too_old(project: Project) -> None:
    assert codes(project, days=0.9) == []
    assert codes(project, days=1.1) == ["too-old"]


def test_a_report_from_the_future_is_inconsistent(project: Project) -> None:
    assert codes(project, days=-2) == ["inconsistent"]


def test_a_report_of_a_selection_is_partial(project: Project) -> None:
    ran = project.call("run", "policy.yaml", "--select", "percentile-seq-len", "-o", "json=r.json")

    assert ran.code == 0
    assert ran.report["status"] == "partial"
    assert "partial" in codes(project)


def test_a_report_that_stopped_at_the_first_failure_is_partial_or_failed(project: Project) -> None:
    edit(project, "policy.yaml", "max_length: 512", "max_length: 20")
    ran = project.call("run", "policy.yaml", "-x", "-o", "json=r.json")

    assert ran.code == 1
    assert ran.report["counts"]["not-run"] > 0
    assert {"partial", "failed"} <= set(codes(project))


def test_a_report_of_one_whole_job_opens_the_gate_for_it_alone(project: Project) -> None:
    ran = project.call("run", "policy.yaml", "--job", "mapper", "-o", "json=r.json")

    assert ran.code == 0
    assert codes(project, "mapper") == []
    assert codes(project, "analyst") == ["partial"]


def test_a_report_of_another_policy(project: Project) -> None:
    edit(project, "policy.yaml", "  mapper:", "  other:")
    edit(project, "policy.yaml", "out/mapper", "out/other")

    assert codes(project, "other") == ["partial"]


def test_a_failed_report_opens_nothing(project: Project) -> None:
    edit(project, "policy.yaml", "max_length: 512", "max_length: 20")
    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    assert ran.code == 1
    assert "failed" in codes(project, "mapper")
    assert codes(project, "analyst") == []


def test_a_verdict_that_was_edited_is_inconsistent(project: Project) -> None:
    edit(project, "policy.yaml", "max_length: 512", "max_length: 20")
    project.call("run", "policy.yaml", "-o", "json=r.json")

    def whitewash(report: dict[str, Any]) -> None:
        report["verdict"] = "passed"
        for result in report["results"]:
            result["blocking"] = False

    edit_report(project, whitewash)

    assert "inconsistent" in codes(project)


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report["counts"].update(passed=99),
        lambda report: report.update(status="complete", verdict="failed"),
        lambda report: report["results"][0].update(findings_total=-1),
        lambda report: report["results"][0].update(outcome="errored"),
    ],
    ids=["counts", "verdict", "totals", "outcome"],
)
def test_a_report_whose_parts_disagree(project: Project, change: Callable[[dict[str, Any]], None]) -> None:
    edit_report(project, change)

    assert "inconsistent" in codes(project) or "incomplete" in codes(project)


def test_a_removed_result_shuts_the_gate(project: Project) -> None:
    def forget(report: dict[str, Any]) -> None:
        report["results"] = [r for r in report["results"] if r["id"] != "mapper::data-readable"]
        report["counts"].update(planned=len(report["results"]), passed=len(report["results"]))

    edit_report(project, forget)

    assert {"partial", "required"} <= set(codes(project))


def test_an_incomplete_report_opens_nothing_not_even_for_the_job_that_is_whole(project: Project) -> None:
    (project.folder / "analyst.jsonl").unlink()
    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    assert ran.code == 3
    assert codes(project, "mapper") == ["incomplete"]


def test_required_checks_must_have_passed_and_not_been_waived(project: Project) -> None:
    project.write("mapper.jsonl", (project.folder / "mapper.jsonl").read_text() + "{}\n")
    more = '\nwaivers: [{check: "mapper::data-schema", reason: r, owner: o, expires: 2099-01-01}]\n'
    edit(project, "policy.yaml", "  data-readable: {}", "  data-readable: {}\n  data-schema: {}")
    text = (project.folder / "policy.yaml").read_text().replace("*::data-readable", "*::data-schema")
    project.write("policy.yaml", text + more)

    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    assert ran.outcome("mapper::data-schema") == "waived"
    assert "required" in codes(project)


def test_another_fail_on_shuts_the_gate(project: Project) -> None:
    edit(project, "policy.yaml", "gate: {", "gate: {fail_on: warning, ")

    assert codes(project) == ["policy-changed"]


def test_a_waiver_must_hold_when_the_gate_is_asked(project: Project) -> None:
    edit(project, "policy.yaml", "max_length: 512", "max_length: 20")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    waiver = f'{{check: "mapper::percentile-seq-len", reason: r, owner: o, expires: {tomorrow}}}'
    text = (project.folder / "policy.yaml").read_text().replace("max_age: 24h", "max_age: 30d")
    project.write("policy.yaml", text + f"waivers: [{waiver}]\n")

    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    assert ran.code == 0
    assert ran.outcome("mapper::percentile-seq-len") == "waived"
    assert codes(project) == []
    assert codes(project, days=5) == ["waiver-expired"]
