"""The gate on real runs of a small policy: what opens it, and each way in which it stays shut."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import ftcheck
from ftcheck.gate.stored import check_stored
from ftcheck.gate.ticket import Refusal, Ticket
from ftcheck.runner.load import load
from tests.cli.project import Project, Ran
from tests.places import SAMPLES

POLICY = """\
ftcheck: 1
name: gate
jobs:
  mapper: &none
    model: {name: model}
    data: {train: mapper.jsonl}
    training: {max_length: 512, packing: true, assistant_only_loss: true, output_dir: out/mapper}
  analyst:
    model: {name: model}
    data: {train: analyst.jsonl}
    training: {max_length: 512, packing: true, assistant_only_loss: true, output_dir: out/analyst}
checks:
  percentile-seq-len: {}
  data-readable: {}
  loss-spike: {}
gate: {require: ["*::data-readable"], max_age: 24h}
""".replace(" &none", "")


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was checked once, with its report in r.json."""
    samples = SAMPLES
    project = Project(tmp_path_factory.mktemp("gate"))
    project.rules()
    shutil.copytree(samples / "models" / "mapper-tiny", project.folder / "model")
    for job in ("mapper", "analyst"):
        lines = (samples / "mapper" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        project.write(f"{job}.jsonl", "".join(lines[:80]))
    project.write("policy.yaml", POLICY)
    ran = project.call("run", "policy.yaml", "-o", "json=r.json", "-o", "junit=r.xml")
    assert ran.code == 0, ran.out + ran.err
    return project


@pytest.fixture
def project(checked: Project, tmp_path: Path) -> Project:
    """A copy of it, to be changed."""
    shutil.copytree(checked.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    return Project(tmp_path / "copy")


def codes(project: Project, job: str = "mapper", *, days: float = 0) -> list[str]:
    """The refusal codes; none if the gate opens."""
    loaded = load(project.folder / "policy.yaml")
    now = datetime.now(UTC) + timedelta(days=days)
    decision = check_stored(
        project.folder / "r.json", loaded.policy, loaded.checks, job, now, during=loaded.during
    )
    if isinstance(decision, Ticket):
        return []
    return list(dict.fromkeys(reason.code for reason in decision.reasons))


def edit_report(project: Project, change: Callable[[dict[str, Any]], None]) -> None:
    path = project.folder / "r.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    change(report)
    path.write_text(json.dumps(report), encoding="utf-8")


def edit(project: Project, name: str, old: str, new: str) -> None:
    path = project.folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_gate_opens_for_what_was_checked_even_when_the_project_has_moved(project: Project) -> None:
    assert codes(project, "mapper") == []
    assert codes(project, "analyst") == []


def test_the_ticket_holds_the_digests_of_the_report(project: Project) -> None:
    ticket = ftcheck.require(project.folder / "r.json", policy=project.folder / "policy.yaml", job="mapper")

    report = json.loads((project.folder / "r.json").read_text(encoding="utf-8"))
    assert ticket.ids == report["jobs"]["mapper"]["ids"]
    assert ticket.inputs["mapper.train"] == report["inputs"]["mapper.train"]["digest"]


def test_require_raises_with_every_reason(project: Project) -> None:
    edit(project, "mapper.jsonl", "Map", "map")

    with pytest.raises(ftcheck.Refused, match="data-changed"):
        ftcheck.require(project.folder / "r.json", policy=project.folder / "policy.yaml", job="mapper")


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
    assert "ftcheck train runs them and records their results" in ran.err


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


def test_no_report(project: Project) -> None:
    (project.folder / "r.json").unlink()

    assert codes(project) == ["no-report"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "other/1"}', "\x00"])
def test_a_file_that_is_no_report(project: Project, text: str) -> None:
    (project.folder / "r.json").write_text(text, encoding="utf-8")

    assert codes(project) == ["no-report"]


def test_a_started_report(project: Project) -> None:
    edit_report(project, lambda report: report.update(status="started", verdict=None))

    assert codes(project) == ["started"]


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


def test_the_gate_command_says_why_and_what_to_do(project: Project) -> None:
    edit(project, "mapper.jsonl", "Map", "Mup")

    ran: Ran = project.call("gate", "r.json", "--policy", "policy.yaml", "--job", "mapper")

    assert ran.code == 5
    assert "gate: refused for mapper (data-changed)" in ran.err
    assert "ftcheck run policy.yaml --job mapper" in ran.err
    assert project.call("gate", "r.json", "--policy", "policy.yaml", "--job", "analyst").code == 0


def test_a_ticket_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError, match="handed out by the gate"):
        Ticket(job="j", policy="p", report="", job_digest="", plan="", model=None, template=None, ids=None)


def test_a_refusal_is_no_ticket() -> None:
    assert not isinstance(Refusal("job", ()), Ticket)
