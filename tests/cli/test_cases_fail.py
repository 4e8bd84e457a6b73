"""The cases of `/work/shared/cases` that are green and would fail: run as a user runs them, on a copy."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftcheck.cli import run_command
from tests.places import CASES, DATA

pytestmark = pytest.mark.realdata


@dataclass(frozen=True)
class Seen:
    """What a run of a case reported: findings of each rule, and the gate."""

    report: dict[str, Any]

    def of(self, rule: str) -> list[dict[str, Any]]:
        """The findings of a rule's check."""
        [one] = [one for one in self.report["results"] if one["rule"] == rule]
        found: list[dict[str, Any]] = one["findings"]
        return found

    @property
    def loud(self) -> dict[str, str]:
        """Rules with a finding above `info`, and the highest severity of each."""
        found: dict[str, str] = {}
        for one in self.report["results"]:
            severities = [finding["severity"] for finding in one["findings"]]
            worst = next((name for name in ("error", "warning") if name in severities), None)
            if worst is not None:
                found[one["rule"]] = worst
        return found


def run_case(name: str, folder: Path) -> Seen:
    """Run a copy of a case: shapes and tokenizers stay where they are."""
    copy = folder / name
    shutil.copytree(CASES / name, copy, copy_function=shutil.copyfile)
    copy.chmod(0o755)
    policy = copy / "policy.yaml"
    text = policy.read_text(encoding="utf-8")
    text = text.replace("../../data", str(DATA)).replace("../models", str(CASES / "models"))
    policy.write_text(text, encoding="utf-8")
    report = folder / "report.json"
    run_command(["run", str(policy), "--offline", "-q", "-o", f"json={report}"])
    return Seen(json.loads(report.read_text(encoding="utf-8")))


def test_hybrid_packing(tmp_path: Path) -> None:
    seen = run_case("hybrid-packing", tmp_path)

    [finding] = seen.of("packing-isolation")
    assert finding["severity"] == "error"
    assert "causal_conv1d" in finding["message"]
    assert "packing-isolation" in seen.loud


def test_mxfp4_base_bnb(tmp_path: Path) -> None:
    seen = run_case("mxfp4-base-bnb", tmp_path)
    assert [one["severity"] for one in seen.of("base-model")] == ["error", "error"]


def test_cosine_with_min_lr(tmp_path: Path) -> None:
    seen = run_case("cosine-with-min-lr", tmp_path)
    [finding] = [one for one in seen.of("schedule") if one["severity"] == "error"]
    assert "min_lr" in finding["message"]


def test_bf16_on_t4(tmp_path: Path) -> None:
    seen = run_case("bf16-on-t4", tmp_path)
    assert [one["severity"] for one in seen.of("precision")] == ["error", "error"]


def test_moe_experts_not_quantised(tmp_path: Path) -> None:
    seen = run_case("moe-experts-not-quantised", tmp_path)
    [finding] = seen.of("memory-fit")
    assert finding["severity"] == "error"
    assert "54.0 GiB of them are fused experts" in finding["message"]


def test_resume_at_end(tmp_path: Path) -> None:
    seen = run_case("resume-at-end", tmp_path)
    [finding] = [one for one in seen.of("resume") if one["severity"] == "error"]
    assert "at step 30 of 30" in finding["message"]
