"""The main job on the shipped samples: green, valid in every dialect, and true to its own tally."""

import json
import re
import shutil
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from junitparser import JUnitXml

from tests.cli.project import Project, Ran
from tests.places import POLICIES


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One run of night_before.yaml, in a copy of the shipped folder."""
    folder = tmp_path_factory.mktemp("night")
    shutil.copytree(POLICIES, folder / "policies", ignore=shutil.ignore_patterns("checkpoints"))
    files = ("-o", "json=r.json", "-o", "junit=r.xml", "-o", "markdown=r.md")
    return Project(folder).call("run", "policies/night_before.yaml", "--offline", *files)


ABSENT = {"arrow-nulls", "tool-calls", "reasoning", "stop-after-call"}
"""Checks of what the samples' rows do not have: tools, reasoning, Parquet."""


def test_what_is_not_there_is_skipped_and_every_other_check_passes(night: Ran) -> None:
    assert night.code == 0, night.out + night.err
    outcomes = {result["id"]: result["outcome"] for result in night.report["results"]}
    assert outcomes.pop("gpu") in ("skipped", "passed")
    skipped = {id for id, outcome in outcomes.items() if outcome == "skipped"}
    assert skipped == {f"{job}::{name}" for job in ("mapper", "analyst") for name in ABSENT}
    outcomes = {id: outcome for id, outcome in outcomes.items() if id not in skipped}
    assert set(outcomes.values()) == {"passed"}
    assert night.report["status"] == "complete"
    assert night.report["verdict"] == "passed"
    assert night.report["gate"] == {"analyst": "open", "mapper": "open"}


def test_the_json_report_holds_its_schema(night: Ran) -> None:
    schema = json.loads(resources.files("ftcheck.tables").joinpath("report.schema.json").read_text("utf-8"))

    jsonschema.Draft202012Validator(schema).validate(night.report)


def test_json_junit_and_tally_count_the_same(night: Ran) -> None:
    counts = night.report["counts"]
    suites = JUnitXml.fromfile(str(night.folder / "r.xml"))
    cases = [case for suite in suites for case in suite]

    assert len(cases) == counts["planned"]
    assert suites.failures == counts["failed"] == 0
    assert suites.errors == counts["errored"] == 0
    skipped = sum(1 for case in cases if case.is_skipped)
    assert skipped == counts["skipped"] + counts["waived"]
    tally = re.search(r"(\d+) passed, (\d+) skipped, (\d+) waived", night.out)
    assert tally is not None
    assert tuple(map(int, tally.groups())) == (counts["passed"], counts["skipped"], counts["waived"])
    assert {case.classname for case in cases} == {
        "ftcheck.night-before.host",
        "ftcheck.night-before.mapper",
        "ftcheck.night-before.analyst",
    }


@pytest.mark.realdata
def test_the_junit_report_holds_jenkins_schema(night: Ran, realdata: Path) -> None:
    from lxml import etree

    schema = etree.XMLSchema(etree.parse(str(realdata / "schemas" / "junit-10.xsd")))

    schema.assertValid(etree.parse(str(night.folder / "r.xml")))


ON_REQUEST = {"hosted-file"}
"""Rules for few: a policy names them itself."""


def test_every_rule_of_the_recommended_preset_ran(night: Ran) -> None:
    from ftcheck.extension.plugin_host import make_host
    from ftcheck.records import Stage

    rules = {one.id: one for one in make_host().rules.values() if one.stage is Stage.BEFORE}
    ran = {result["rule"] for result in night.report["results"]}
    for_some_jobs = {one.id for one in rules.values() if one.only is not None}

    assert ran | ON_REQUEST | for_some_jobs == set(rules)
    assert not ran & (ON_REQUEST | for_some_jobs)


def test_a_second_run_gives_the_same_bytes_outside_run(night: Ran) -> None:
    before = night.report
    again = (
        Project(night.folder)
        .call("run", "policies/night_before.yaml", "--offline", "-o", "json=r.json")
        .report
    )

    del before["run"], again["run"]
    assert again == before


def test_every_input_has_its_digest(night: Ran) -> None:
    inputs = night.report["inputs"]

    assert inputs["mapper.train"]["rows"] == len(
        (POLICIES / "samples" / "mapper" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    )
    assert all(one["digest"].startswith("sha256:") for one in inputs.values())
    for job in ("mapper", "analyst"):
        digests = dict(night.report["jobs"][job])
        assert digests.pop("eval_ids") is None, "the shipped night does not evaluate while it trains"
        assert digests.pop("sample") is None, "all rows were checked"
        assert all(digests.values())
        assert {f"{job}.train", f"{job}.eval", f"{job}.gold", f"{job}.tokenizer"} <= set(inputs)


@pytest.mark.realdata
def test_the_real_mapper_job_gives_the_numbers_that_are_known(project: Project, realdata: Path) -> None:
    project.write(
        "policy.yaml",
        "ftcheck: 1\nname: real\njobs:\n  mapper:\n"
        f"    model: {{name: {realdata}/tokenizers/llama-3-instruct}}\n"
        f"    data: {{train: {realdata}/jobs/mapper/train.jsonl}}\n"
        "    training: {max_length: 768, packing: true}\n"
        "checks:\n  percentile-seq-len: {}\n  packing-efficiency: {}\n  tokens-per-step: {}\n",
    )

    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    measured = {
        one["name"]: one["value"] for result in ran.report["results"] for one in result["measurements"]
    }
    known = {
        "rows": 13_784,
        "tokens": 1_023_155,
        "p95": 93,
        "p99": 107,
        "max": 155,
        "blocks_trl": 1_373,
        "blocks_best_fit": 1_362,
        "blocks_lower_bound": 1_333,
        "blocks_planned": 1_333,
    }
    assert {name: measured[name] for name in known} == known
    assert measured["engine"].split()[0] in ("gigatoken", "tokenizers")


@pytest.mark.realdata
def test_a_job_that_serves_another_tokenizer_fails_tokenizer_parity(project: Project, realdata: Path) -> None:
    lines = (realdata / "jobs" / "analyst" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:300]
    project.write("train.jsonl", "\n".join(lines) + "\n")
    policy = (
        "ftcheck: 1\nname: phi\njobs:\n  analyst:\n"
        f"    model: {{name: {realdata}/tokenizers/phi-3-mini-instruct}}\n"
        "    data: {train: train.jsonl}\n"
        f"    serving: {{tokenizer: {realdata}/tokenizers/phi-3-mini-without-config}}\n"
        "checks: {tokenizer-parity: {}}\n"
    )
    project.write("policy.yaml", policy)
    assert project.call("run", "policy.yaml").code == 1

    serving_line = policy.splitlines()[6]
    project.write("policy.yaml", policy.replace(serving_line + "\n", ""))
    assert project.call("run", "policy.yaml").code == 0


def test_the_guides_own_accumulation_misses_its_token_range_and_sixteen_is_named(
    project: Project, samples: Path
) -> None:
    project.write(
        "policy.yaml",
        "ftcheck: 1\nname: guide\njobs:\n  mapper:\n"
        f"    model: {{name: {samples}/models/mapper-tiny}}\n"
        f"    data: {{train: {samples}/mapper/train.jsonl}}\n"
        "    training: {max_length: 768, packing: true, per_device_train_batch_size: 4,"
        " gradient_accumulation_steps: 8}\n"
        "    targets: {tokens_per_step: [32768, 65536]}\n"
        "checks: {tokens-per-step: {}}\n",
    )

    ran = project.call("run", "policy.yaml", "-o", "json=r.json")

    result = ran.result("mapper::tokens-per-step")
    assert ran.code == 1
    assert result["measurements"][0] == {
        "name": "tokens_per_step",
        "value": 24_576,
        "unit": "tokens",
        "limit": "32768 to 65536",
    }
    [finding] = result["findings"]
    assert finding["change"] == {
        "path": "jobs.mapper.training.gradient_accumulation_steps",
        "old": 8,
        "new": 16,
        "safe": False,
    }
    assert "49,152" in finding["message"] + finding["fix"]
