"""The folders of shared/cases that concern serving, data and advice: each gives what its README line asks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.places import CASES, DATA

pytestmark = pytest.mark.realdata


def findings(name: str, folder: Path, *checks: str, serving: bool = True) -> dict[str, dict[str, Any]]:
    """Run some checks of a case, on a copy of its rows; the results by the check's name."""
    shutil.copytree(CASES / name, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for one in (folder, *folder.rglob("*")):
        one.chmod(0o755 if one.is_dir() else 0o644)
    text = (CASES / name / "policy.yaml").read_text(encoding="utf-8")
    text = text.replace("../../data", str(DATA)).replace("../models", str(CASES / "models"))
    if not serving:
        head, _, rest = text.partition("    serving:\n")
        text = head + "\n".join(line for line in rest.splitlines() if not line.startswith("      ")) + "\n"
    (folder / "policy.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "ftcheck", "run", "policy.yaml", "--offline", "-o", "json=r.json"]
    command += [part for one in checks for part in ("--select", one)]
    subprocess.run(command, cwd=folder, env={**os.environ}, capture_output=True, timeout=300, check=False)
    report = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    return {one["rule"]: one for one in report["results"]}


def said(result: dict[str, Any], severity: str | None = None) -> list[str]:
    """The messages of a result's findings."""
    return [one["message"] for one in result["findings"] if severity in (None, one["severity"])]


def test_16_ollama_context(tmp_path: Path) -> None:
    found = findings("ollama-context", tmp_path, "context-window", "guardrail")

    [message] = said(found["context-window"], "error")
    assert "24 of 24 sequences exceed Ollama's default context" in message
    assert "4,096 tokens; the longest has 7,880" in message
    assert "num_ctx" in found["context-window"]["findings"][0]["fix"]
    assert "num_ctx" in found["guardrail"]["findings"][0]["fix"]


def test_16_generation_config_of_another_model(tmp_path: Path) -> None:
    found = findings("generation-eos-of-other-model", tmp_path, "evaluation-parity")["evaluation-parity"]

    ordinary, ending = sorted(said(found, "error"))
    assert ordinary.startswith("eos_token_id 2 in generation_config.json is the ordinary token '#'")
    assert "training ends turns with <|im_end|> (151645)" in ending


def test_16_an_adapter_of_a_multimodal_base_beside_vllm(tmp_path: Path) -> None:
    found = findings("vlm-base-vllm-adapter", tmp_path, "server-limits")["server-limits"]

    assert any(
        "Qwen3_5ForConditionalGeneration" in one and "ignores" in one for one in said(found, "warning")
    )


def test_20_a_job_without_serving_opens_the_gate(tmp_path: Path) -> None:
    found = findings(
        "ollama-context", tmp_path, "guardrail", "output-cap", "evaluation-parity", serving=False
    )

    for name in ("guardrail", "output-cap"):
        assert found[name]["outcome"] == "skipped"
        assert "no `serving` section" in found[name]["reason"]
    assert found["evaluation-parity"]["outcome"] == "passed"
    assert "unknown" in said(found["evaluation-parity"])[0]


def test_24_exploded_conversations_are_all_told(tmp_path: Path) -> None:
    found = findings("exploded-conversations", tmp_path, "leakage")["leakage"]

    measured = {one["name"]: one["value"] for one in found["measurements"]}
    assert measured["eval_leaked"] == measured["eval_compared"] == 30
    assert found["findings_total"] == 30
    assert {one["severity"] for one in found["findings"]} == {"error"}


def test_25_preference_rows_are_called_that_once(tmp_path: Path) -> None:
    found = findings("preference-rows", tmp_path, "data-schema")["data-schema"]

    [message] = said(found)
    assert message.startswith("the rows are preference data (chosen and rejected answers)")
    assert "60 rows; also lines 2, 3" in message


def test_25_contents_as_lists_of_parts_are_called_that(tmp_path: Path) -> None:
    found = findings("content-parts", tmp_path, "chat-template")["chat-template"]

    [message] = said(found)
    assert message.startswith(
        "the content of messages is a list of parts, and the chat template wants a text"
    )
    assert "60 rows" in message
    assert "TypeError" not in message


def test_25_unknown_roles_are_named_once_with_their_rows(tmp_path: Path) -> None:
    findings("preference-rows", tmp_path, "data-schema")
    roles = ["narrator", "user", "assistant"]
    row = {"messages": [{"role": one, "content": "Why is it so?"} for one in roles]}
    (tmp_path / "train.jsonl").write_text(3 * (json.dumps(row) + "\n"), encoding="utf-8")
    command = [sys.executable, "-m", "ftcheck", "run", "policy.yaml", "--offline", "-o", "json=r.json"]
    subprocess.run([*command, "--select", "data-schema"], cwd=tmp_path, capture_output=True, check=False)
    results = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["results"]

    [message] = said(next(one for one in results if one["rule"] == "data-schema"))
    assert message == "chat templates do not know the role 'narrator' (3 rows; also lines 2, 3)"


def test_clean_tools_says_nothing_but_what_its_text_admits(tmp_path: Path) -> None:
    """TRL's own training template, said by the two checks that compare it with the served one."""
    names = (
        "duplicates",
        "data-schema",
        "trained-tokens",
        "special-tokens-in-text",
        "chat-template",
        "guardrail",
    )
    found = findings("clean-tools", tmp_path, *names)

    assert {name: one["outcome"] for name, one in found.items()} == dict.fromkeys(names, "passed")
