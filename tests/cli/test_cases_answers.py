"""The cases of /work/shared/cases about answers, and public data: what the whole command says first."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cases_read import of_case
from tests.faults.bench import BASES, Bench
from tests.places import CASES, DATA

FIRST = (
    ("one-answer", "warning", "one sentence is the answer of 114 of 120 rows (95.0%)", 2),
    ("mojibake", "warning", "60 of 120 rows (50.0%) have characters of a wrong encoding", 2),
    ("answer-in-prompt", "error", "the answers of 120 of 120 rows (100.0%) stand at the end", 1),
    ("json-in-fences", "error", "120 of 120 rows (100.0%) have their JSON answer in a code fence", 1),
)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "severity", "said", "line"), FIRST)
def test_a_case_gives_its_finding_first_with_row_and_remedy(
    name: str, severity: str, said: str, line: int, tmp_path: Path, project: Any
) -> None:
    assert CASES.is_dir()

    found = of_case(name, tmp_path, project)

    first = next(iter(found))
    assert (first, len(found[first])) == ("answers", 1)
    [finding] = found[first]
    assert finding["severity"] == severity
    assert finding["message"].startswith(said)
    assert (Path(finding["path"]).name, finding["line"]) == ("train.jsonl", line)
    assert finding["fix"]


def _alpaca(name: str) -> Iterator[dict[str, Any]]:
    for row in json.loads((DATA / "datasets/llama_factory" / name).read_text(encoding="utf-8")):
        yield {"instruction": row["instruction"], "input": row.get("input", ""), "output": row["output"]}


def _glaive(name: str) -> Iterator[dict[str, Any]]:
    for row in json.loads((DATA / "datasets/llama_factory" / name).read_text(encoding="utf-8")):
        talks = [turn for turn in row["conversations"] if turn["from"] in ("human", "gpt")]
        yield {"conversations": talks}


def _looked(rows: list[dict[str, Any]], tmp_path: Path) -> dict[str, str]:
    """What the rule says of rows: messages with their severity."""
    bench: Bench = BASES["text"](tmp_path)
    bench.train, bench.evaluation = rows, []
    bench.drop("data.eval")
    bench.drop("data.gold")
    bench.set("training.packing", False)
    bench.set("training.max_length", 4096)
    bench.write()
    result = bench.look().of("answers")
    assert result is not None
    return {one.message: one.severity.value for one in result.findings}


@pytest.mark.realdata
def test_a_persona_that_nobody_filled_in_is_an_error(tmp_path: Path) -> None:
    found = _looked(list(_alpaca("identity.json")), tmp_path)

    assert [one for one, severity in found.items() if severity != "info"] == [
        "85 of 91 rows (93.4%) have unfilled placeholders such as {{name}}; this row is the first"
    ]
    assert set(found.values()) == {"error", "info"}


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("alpaca_en_demo.json", _alpaca),
        ("alpaca_zh_demo.json", _alpaca),
        ("glaive_toolcall_en_demo.json", _glaive),
        ("glaive_toolcall_zh_demo.json", _glaive),
    ],
)
def test_what_is_rare_in_public_data_is_a_remark(name: str, read: Any, tmp_path: Path) -> None:
    found = _looked(list(read(name)), tmp_path)

    assert any("by declining" in one for one in found)
    assert set(found.values()) == {"info"}
