"""`ftcheck gate`: why it is shut, and what to do."""

import json
from pathlib import Path

import pytest

from tests.cli.project import Project, Ran
from tests.gate.kit import edit


def test_the_gate_command_says_why_and_what_to_do(gated: Project) -> None:
    edit(gated, "mapper.jsonl", "Map", "Mup")

    ran: Ran = gated.call("gate", "r.json", "--policy", "policy.yaml", "--job", "mapper")

    assert ran.code == 5
    assert "gate: refused for mapper (data-changed)" in ran.err
    assert "ftcheck run policy.yaml --job mapper" in ran.err
    assert gated.call("gate", "r.json", "--policy", "policy.yaml", "--job", "analyst").code == 0


@pytest.mark.parametrize(("key", "stated"), [("fsdp_config", "version"), ("deepspeed", "bf16")])
def test_a_file_of_sharding_settings_that_changes_shuts_the_gate(
    project: Project, samples: Path, key: str, stated: str
) -> None:
    project.write("data.jsonl", '{"text": "fine"}\n')
    project.write("nested/sharding.json", json.dumps({stated: 2}))
    job = {
        "model": {"name": str(samples / "models" / "mapper-tiny")},
        "data": {"train": "../data.jsonl"},
        "training": {key: "sharding.json"},
    }
    checks: dict[str, dict[str, str]] = {"data-readable": {}, "percentile-seq-len": {}}
    policy = {"ftcheck": 1, "jobs": {"job": job}, "checks": checks}
    project.write("nested/policy.yaml", json.dumps(policy))
    words = ("nested/policy.yaml",)
    assert project.call("run", *words, "--offline", "-o", "json=r.json").code == 0
    asked = ("gate", "r.json", "--policy", *words)
    assert project.call(*asked).code == 0

    project.write("nested/sharding.json", json.dumps({stated: 1}))
    ran = project.call(*asked)

    assert ran.code == 5
    assert "data-changed       nested/sharding.json was sha256:" in ran.err
