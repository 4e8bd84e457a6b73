"""The cases of /work/shared/cases about what the trainer reads, and small jobs like them (issue 13, A)."""

import json
from pathlib import Path
from typing import Any

import pytest

from ftcheck.records import Severity
from tests.faults.bench import BASES, Bench
from tests.places import CASES


def of_case(name: str, tmp_path: Path, project: Any) -> dict[str, list[dict[str, Any]]]:
    """The findings of a case that are errors or warnings, by rule; run on a copy."""
    import shutil

    folder = tmp_path / "cases" / name
    shutil.copytree(CASES / name, folder)
    policy = (CASES / name / "policy.yaml").read_text(encoding="utf-8")
    for inner in ("../../data", "../models"):
        policy = policy.replace(inner, str((CASES / name / inner).resolve()))
    folder.chmod(0o755)
    (folder / "policy.yaml").chmod(0o644)
    (folder / "policy.yaml").write_text(policy, encoding="utf-8")
    report = tmp_path / "r.json"
    project.call("run", str(folder / "policy.yaml"), "--offline", "-o", f"json={report}")
    found: dict[str, list[dict[str, Any]]] = {}
    for result in json.loads(report.read_text(encoding="utf-8"))["results"]:
        for one in result.get("findings", []):
            if one["severity"] != "info":
                found.setdefault(result["rule"], []).append(one)
    return found


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "rule", "said"),
    [
        ("completion-only-on-messages", "trained-tokens", "completion_only_loss: true has no effect"),
        ("weight-0", "trained-tokens", "60 of 60 rows have answers that a key"),
        ("eval-truncated", "truncation", "leaves 20 of 20 evaluation rows without a token in the loss"),
        ("columns-command", "data-readable", "load_dataset does not read these files as one data set"),
    ],
)
def test_a_case_gives_the_finding_that_its_line_asks_for(
    name: str, rule: str, said: str, tmp_path: Path, project: Any
) -> None:
    found = of_case(name, tmp_path, project).get(rule, [])

    assert [one["severity"] for one in found if said in one["message"]] == ["error"]


def above_info(bench: Bench, rule: str) -> list[str]:
    """What a rule says of a bench above info."""
    bench.write()
    result = bench.look().of(rule)
    assert result is not None
    return [one.message for one in result.findings if one.severity is not Severity.INFO]


def beheaded(tmp_path: Path) -> Bench:
    """A clean job in which truncation cuts the beginning of the longer rows."""
    bench = BASES["chat"](tmp_path)
    bench.set("training.packing", False)
    bench.set("training.max_length", 64)
    bench.set("training.truncation_mode", "keep_end")
    return bench


def test_rows_that_lose_their_beginning_are_told_by_special_tokens(tmp_path: Path) -> None:
    [message] = above_info(beheaded(tmp_path), "special-tokens")

    assert "fed without their beginning" in message
    assert "truncation_mode cuts it off" in message


def test_rows_that_lose_their_beginning_are_not_served_as_trained(tmp_path: Path) -> None:
    assert any("from its token" in one for one in above_info(beheaded(tmp_path), "evaluation-parity"))


def calling(bench: Bench, number: float) -> Bench:
    """A row with a tool call among rows without."""
    call = {"type": "function", "function": {"name": "f", "arguments": {"p": number}}}
    turns = [
        {"role": "user", "content": "p?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    bench.train.insert(0, {"messages": turns})
    return bench


def test_a_script_behind_the_gate_is_told_of_numbers_that_it_will_read(tmp_path: Path) -> None:
    """qlora feeds the number of the file: a remark."""
    bench = calling(BASES["tools"](tmp_path), 0.3)
    bench.write()
    result = bench.look().of("data-readable")

    assert result is not None
    [found] = [one for one in result.findings if "reads other numbers" in one.message]
    assert found.severity is Severity.INFO
    assert "0.3 becomes 0.30000000000000004" in found.message
    assert "trainer.use: command" in (found.fix or "")


def test_a_command_is_warned_of_numbers_and_its_rows_hold_them(tmp_path: Path) -> None:
    bench = calling(BASES["tools"](tmp_path), 1e-12)
    bench.set("trainer.use", "command")
    bench.set("trainer.argv", ["python", "train.py"])

    assert any("1e-12 becomes 0.0" in one for one in above_info(bench, "data-readable"))
