"""The cases of /work/shared/cases about tool calls (issue 14, item 1): the first finding above info."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.places import CASES, CHECKOUT


def above_info(
    name: str, tmp_path: Path, project: Any, changes: tuple[tuple[str, str], ...] = ()
) -> list[tuple[str, Any]]:
    """The errors and warnings of a case, with their rules, in the order of the checks; run on a copy."""
    folder = tmp_path / "cases" / name
    folder.mkdir(parents=True)
    shutil.copyfile(CASES / name / "train.jsonl", folder / "train.jsonl")
    policy = (CASES / name / "policy.yaml").read_text(encoding="utf-8")
    for inner in ("../../data", "../models"):
        policy = policy.replace(inner, str((CASES / name / inner).resolve()))
    for old, new in changes:
        assert old in policy
        policy = policy.replace(old, new)
    (folder / "policy.yaml").write_text(policy, encoding="utf-8")
    report = tmp_path / "report.json"
    project.call("run", str(folder / "policy.yaml"), "--offline", "-o", f"json={report}")
    order = list(YAML(typ="safe").load(CHECKOUT / "policies" / "recommended.yaml")["checks"])
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    results.sort(key=lambda one: order.index(one["rule"]))
    return [
        (result["rule"], finding)
        for result in results
        for finding in result.get("findings", [])
        if finding["severity"] != "info"
    ]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "rule", "severity", "line", "said", "remedy"),
    [
        (
            "tools-other-key",
            "tool-calls",
            "error",
            1,
            "in the column functions",
            "rename the column to tools",
        ),
        ("tools-null-half", "tool-calls", "warning", 2, "30 of 60 rows", "copy the definitions"),
        ("parallel-calls-llama31", "chat-template", "error", 4, "single tool-calls", "one call per message"),
        ("call-ids-mistral", "chat-template", "error", 1, "length 9", "nine alphanumeric characters"),
    ],
)
def test_the_first_finding_is_the_one_that_is_planted(
    name: str, rule: str, severity: str, line: int, said: str, remedy: str, tmp_path: Path, project: Any
) -> None:
    found, first = above_info(name, tmp_path, project)[0]

    assert (found, first["severity"], first["line"]) == (rule, severity, line)
    assert said in first["message"]
    assert remedy in first["fix"]


@pytest.mark.realdata
def test_healthy_tool_rows_are_quiet(tmp_path: Path, project: Any) -> None:
    found = {rule for rule, _ in above_info("clean-tools", tmp_path, project)}

    assert found == {"template-parity", "evaluation-parity"}  # of TRL's own training template, and true


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["llama-3-instruct", "phi-3-mini-instruct", "TinyLlama-1.1B-Chat-v1.0"])
def test_calls_that_vanish_altogether_are_an_error_with_all_rows(
    name: str, tmp_path: Path, project: Any
) -> None:
    changes = (
        ("tokenizers/Qwen3", f"tokenizers/{name}"),
        ("assistant_only_loss: true", "assistant_only_loss: false"),
    )
    found = above_info("clean-tools", tmp_path, project, changes)

    rule, first = found[0]
    assert (rule, first["severity"], first["line"]) == ("tool-calls", "error", 1)
    assert first["message"].startswith("the template drops the tool calls of 60 rows")
    assert "use a template that renders tool calls" in first["fix"]
