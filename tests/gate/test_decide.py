"""The gate on real runs of a small policy: what opens it, and each way in which it stays shut."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import ftcheck
from tests.cli.project import Project, Ran
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


def doubled(report: dict[str, Any]) -> None:
    """A copy of a result, with the counts to match."""
    report["results"].append(dict(report["results"][0]))
    report["counts"].update(planned=len(report["results"]), passed=len(report["results"]))


def with_rule(report: dict[str, Any]) -> None:
    report["results"][-1]["rule"] = "fine"


def with_plugin(report: dict[str, Any]) -> None:
    report["results"][-1]["plugin"] = "other 1.0"


def with_params(report: dict[str, Any]) -> None:
    report["results"][-1]["params"] = {"percentile": 1.0}


def at_another_stage(report: dict[str, Any]) -> None:
    report["results"][-1]["stage"] = "after"


def unmeasured(report: dict[str, Any]) -> None:
    report["results"][-1]["measurements"] = []


def with_findings(outcome: str) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        result = report["results"][-1]
        finding = {
            "message": "bad", "severity": "error", "path": None, "line": None, "column": None,
            "yaml_path": None, "row": None, "record": None, "fix": None, "change": None,
            "fingerprint": "0" * 32,
        }  # fmt: skip
        result.update(outcome=outcome, findings=[finding], findings_total=1, reason="none")
        report["counts"]["passed"] -= 1
        report["counts"][outcome] += 1

    return change


def with_other_total(report: dict[str, Any]) -> None:
    report["results"][-1]["findings_total"] = 3


@pytest.mark.parametrize(
    "change",
    [
        doubled,
        with_rule,
        with_plugin,
        with_params,
        at_another_stage,
        unmeasured,
        with_findings("passed"),
        with_findings("skipped"),
        with_other_total,
    ],
    ids=["doubled", "rule", "plugin", "params", "stage", "unmeasured", "passed", "skipped", "total"],
)
def test_a_result_is_held_against_itself_and_against_the_plan(
    project: Project, change: Callable[[dict[str, Any]], None]
) -> None:
    assert codes(project) == []
    edit_report(project, change)

    assert "inconsistent" in codes(project) + codes(project, "analyst")


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report["policy"].update(stage="after"),
        lambda report: report["policy"].update(overrides=["jobs.mapper.training.max_length=9"]),
        lambda report: report["policy"].update(removed=["data-schema"]),
    ],
    ids=["stage", "overrides", "removed"],
)
def test_a_report_is_held_against_the_policy(
    project: Project, change: Callable[[dict[str, Any]], None]
) -> None:
    edit_report(project, change)

    assert codes(project) == ["policy-changed"]


def test_other_jobs_overrides_do_not_matter(project: Project) -> None:
    edit_report(
        project, lambda report: report["policy"].update(overrides=["jobs.analyst.training.max_length=9"])
    )

    assert codes(project, "mapper") == []
    assert codes(project, "analyst") == ["policy-changed"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("model/adapter_config.json", "model-changed"),
        ("model/modeling_mine.py", "model-changed"),
        ("model/model.safetensors.index.json", "model-changed"),
        ("model/additional_chat_templates/tools.jinja", "tokenizer-changed"),
        ("policy.yaml.lock", "data-changed"),
    ],
)
def test_files_that_loading_may_read_are_digested(project: Project, name: str, code: str) -> None:
    lock = '{"schema": "ftcheck.lock/1", "versions": {}, "defaults": {"training": {}}, "jobs": {}}'
    project.write(name, lock if name.endswith(".lock") else "{}")

    assert codes(project) == [code]


def test_another_jobs_part_of_the_lock_does_not_matter(project: Project) -> None:
    def lock(about: str) -> None:
        text = '{"schema": "ftcheck.lock/1", "versions": {}, "defaults": {"training": {}}, "jobs": {%s}}'
        project.write("policy.yaml.lock", text % about)

    lock("")
    project.call("run", "policy.yaml", "-o", "json=r.json")
    assert codes(project) == []
    part = (
        '"tokenizer": null, "class": "x", "template": null, "special": {}, "probes": {}, "conversations": {}'
    )
    lock(f'"analyst": {{{part}}}')

    assert codes(project, "mapper") == []
    assert codes(project, "analyst") == ["data-changed"]


def test_the_answers_of_over_limit_rules_are_digested(project: Project) -> None:
    project.write("answers.json", '[{"answer": "ask somebody"}]')
    edit(
        project,
        "policy.yaml",
        "    model: {name: model}\n    data: {train: mapper.jsonl}",
        "    model: {name: model}\n    data: {train: mapper.jsonl}\n"
        "    serving: {over_limit: rules, rules: answers.json, max_input_tokens: 64}",
    )
    project.call("run", "policy.yaml", "-o", "json=r.json")
    assert codes(project) == []
    project.write("answers.json", '[{"answer": "anything"}]')

    assert codes(project) == ["data-changed"]


def test_what_accelerates_variables_decide_is_part_of_the_job(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")
    assert codes(project) == [], "what `accelerate launch` sets by itself"

    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "64")

    assert codes(project) == ["data-changed"]


def test_a_rule_edited_in_place_is_another_rule(project: Project) -> None:
    project.rules()
    project.write("rules/_helper.py", "LIMIT = 1\n")
    edit(project, "policy.yaml", "  loss-spike: {}", "  loss-spike: {}\n  fine: {}")
    rules = ("--rules-dir", "rules")
    project.call("run", "policy.yaml", *rules, "-o", "json=r.json")
    assert project.call("gate", "r.json", "--policy", "policy.yaml", *rules).code == 0
    project.write("rules/_helper.py", "LIMIT = 1000\n")

    ran = project.call("gate", "r.json", "--policy", "policy.yaml", *rules)

    assert ran.code == 5
    assert "plugins-changed" in ran.err


EVALUATING = (
    "training: {max_length: 512, packing: true, assistant_only_loss: true, output_dir: out/mapper}",
    "training: {max_length: 512, packing: true, assistant_only_loss: true, output_dir: out/mapper,"
    " eval_strategy: epoch}",
)


def evaluating(project: Project) -> Ran:
    """The mapper evaluates on rows of its own."""
    rows = (project.folder / "analyst.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    project.write("eval.jsonl", "".join(rows[:5]))
    edit(project, "policy.yaml", *EVALUATING)
    edit(
        project, "policy.yaml", "data: {train: mapper.jsonl}", "data: {train: mapper.jsonl, eval: eval.jsonl}"
    )
    return project.call("run", "policy.yaml", "-o", "json=r.json")


def test_the_ids_of_evaluation_rows_are_in_report_and_ticket(project: Project) -> None:
    ran = evaluating(project)

    assert ran.code == 0, ran.out
    digest = ran.report["jobs"]["mapper"]["eval_ids"]
    assert digest.startswith("sha256-tree:")
    assert ran.report["jobs"]["analyst"]["eval_ids"] is None
    ticket = ftcheck.require(project.folder / "r.json", policy=project.folder / "policy.yaml", job="mapper")
    assert ticket.eval_ids == digest

    edit_report(project, lambda report: report["jobs"]["mapper"].update(eval_ids=None))
    assert codes(project) == ["incomplete"]


def test_a_required_check_that_warns_makes_the_run_red(project: Project) -> None:
    edit(project, "policy.yaml", "data-readable: {}", "data-readable: {severity: warning}")
    rows = (project.folder / "mapper.jsonl").read_text(encoding="utf-8")
    project.write("mapper.jsonl", rows + "{broken\n")

    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    assert ran.result("mapper::data-readable")["blocking"] is False
    assert "required" in codes(project)
    assert ran.code in (1, 3)


def test_exit_1_and_an_incomplete_gate_are_not_said_at_once(project: Project) -> None:
    rows = (project.folder / "mapper.jsonl").read_text(encoding="utf-8")
    project.write("mapper.jsonl", rows + "{broken\n")

    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    assert ran.code == 1
    assert "incomplete" not in ran.report["gate"]["mapper"]
    assert "failed" in ran.report["gate"]["mapper"]


TOKENS = "mapper::special-tokens-in-text"


@pytest.fixture
def partly(project: Project) -> Project:
    """A project with a control token in each of two rows: two warnings, which block nothing."""
    lines = (project.folder / "mapper.jsonl").read_text().splitlines(keepends=True)
    tokens = ("<|begin_of_text|>", "<|eot_id|>")
    begins = '"user", "content": "'
    spoilt = [one.replace(begins, f"{begins}{token} ") for one, token in zip(lines, tokens, strict=False)]
    project.write("mapper.jsonl", "".join([*spoilt, *lines[2:]]))
    check = "special-tokens-in-text: {severity: warning}"
    edit(project, "policy.yaml", "  loss-spike: {}", f"  loss-spike: {{}}\n  {check}")
    project.call("run", "policy.yaml", "-o", "json=r.json")
    return project


def waive(project: Project, names: list[str], days: int = 1) -> None:
    """Put a waiver that names these findings into the policy."""
    last = (datetime.now(UTC) + timedelta(days=days)).date()
    head = (project.folder / "policy.yaml").read_text().partition("waivers:")[0]
    head = head.replace("max_age: 24h", "max_age: 30d")
    one = f"check: '{TOKENS}', reason: r, owner: o, expires: {last}, fingerprints: {json.dumps(names)}"
    project.write("policy.yaml", f"{head}waivers: [{{{one}}}]\n")


def tokens_result(project: Project) -> dict[str, Any]:
    report = json.loads((project.folder / "r.json").read_text())
    return next(one for one in report["results"] if one["id"] == TOKENS)


def test_a_waiver_of_some_findings_leaves_the_others(partly: Project) -> None:
    one, other = tokens_result(partly)["fingerprints"]
    waive(partly, [one])
    partly.call("run", "policy.yaml", "-o", "json=r.json")

    found = tokens_result(partly)
    assert (found["outcome"], found["failing_total"], found["waived_total"]) == ("failed", 2, 1)
    assert [f["fingerprint"] for f in found["findings"]] == [other]
    assert codes(partly) == []
    assert codes(partly, days=5) == ["waiver-expired"]

    waive(partly, [other])
    assert codes(partly) == ["waiver-expired"]


def test_a_waiver_of_all_findings_waives_the_check(partly: Project) -> None:
    names = tokens_result(partly)["fingerprints"]
    waive(partly, names)
    partly.call("run", "policy.yaml", "-o", "json=r.json")

    assert tokens_result(partly)["outcome"] == "waived"
    assert codes(partly) == []

    waive(partly, names[:1])
    assert codes(partly) == ["waiver-expired"]


def pretending_waived(one: dict[str, Any]) -> None:
    one.update(waived_total=1)


def pretending_other_names(one: dict[str, Any]) -> None:
    one["fingerprints"][0] = "0" * 32 + ":1"


def pretending_fewer(one: dict[str, Any]) -> None:
    one.update(failing_total=1)


def pretending_nothing_failed(one: dict[str, Any]) -> None:
    one.update(failing_total=0, waived_total=0, fingerprints=[])


def pretending_to_be_the_waived_one(one: dict[str, Any]) -> None:
    one["findings"][1]["fingerprint"] = one["findings"][0]["fingerprint"]


@pytest.mark.parametrize(
    "change",
    [
        pretending_waived,
        pretending_other_names,
        pretending_fewer,
        pretending_nothing_failed,
        pretending_to_be_the_waived_one,
    ],
)
def test_an_edited_report_cannot_pretend(partly: Project, change: Callable[[dict[str, Any]], None]) -> None:
    assert codes(partly) == []
    edit_report(partly, lambda r: change(next(one for one in r["results"] if one["id"] == TOKENS)))

    assert "inconsistent" in codes(partly)
