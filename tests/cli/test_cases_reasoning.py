"""The cases of `/work/shared/cases` about reasoning: run as a user runs them, on a copy."""

from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cases_fail import Seen, run_case

pytestmark = pytest.mark.realdata


def first_loud(seen: Seen) -> tuple[str, dict[str, Any]]:
    """The first finding above `info` that is not about the copy's own folder, in the order of the checks."""
    order = list(_recommended())
    results = sorted(
        (one for one in seen.report["results"] if one["rule"] in order),
        key=lambda one: order.index(one["rule"]),
    )
    return next(
        (one["rule"], finding)
        for one in results
        for finding in one["findings"]
        if finding["severity"] != "info"
    )


def _recommended() -> dict[str, Any]:
    from ruamel.yaml import YAML

    from tests.places import CHECKOUT

    text = (CHECKOUT / "policies" / "recommended.yaml").read_text(encoding="utf-8")
    checks: dict[str, Any] = YAML(typ="safe").load(text)["checks"]
    return checks


def test_reasoning_content_qwen25(tmp_path: Path) -> None:
    seen = run_case("reasoning-content-qwen25", tmp_path)

    rule, finding = first_loud(seen)
    assert (rule, finding["severity"]) == ("reasoning", "error")
    assert "60 of 60 rows" in finding["message"]
    assert "reasoning_content" in finding["message"]
    assert finding["line"] == 1
    assert finding["fix"].startswith("write the reasoning into the content, before the answer: <think>")
    assert seen.loud == {"reasoning": "error"}


def test_think_never_closed(tmp_path: Path) -> None:
    seen = run_case("think-never-closed", tmp_path)

    rule, finding = first_loud(seen)
    assert (rule, finding["severity"]) == ("reasoning", "error")
    assert "30 of 120 rows" in finding["message"]
    assert "(also lines 5, 9, 13" in finding["message"]
    assert "</think>" in finding["fix"]


def test_clean_tools_has_no_finding_of_calls_or_reasoning(tmp_path: Path) -> None:
    seen = run_case("clean-tools", tmp_path)
    assert "reasoning" not in seen.loud
    assert "stop-after-call" not in seen.loud
    [one] = [one for one in seen.report["results"] if one["rule"] == "stop-after-call"]
    assert one["outcome"] == "passed"
