"""What works with less installed: the full report without TRL, and `policy check` with next to nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hidden import TRAINING, without
from tests.places import DATA, SAMPLES

STOCK = """\
ftcheck: 1
extends: [recommended]
jobs:
  job:
    model: {{name: {model}}}
    data: {{train: {rows}}}
    training: {{max_length: 512, assistant_only_loss: true, output_dir: out}}
"""


def reported(folder: Path, environment: dict[str, str] | None) -> dict[str, Any]:
    """The report of `stock.yaml`."""
    words = [sys.executable, "-m", "ftcheck", "run", "stock.yaml", "--no-cache", "-q", "-o", "json=r.json"]
    subprocess.run(words, cwd=folder, env=environment, capture_output=True, check=False)
    report: dict[str, Any] = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    return report


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["llama-3-instruct", "Qwen2.5-Instruct"])
def test_the_base_install_gives_the_report_of_a_stock_template(tmp_path: Path, name: str) -> None:
    pytest.importorskip("trl")
    rows = "".join((SAMPLES / "mapper" / "train.jsonl").open(encoding="utf-8").readlines()[:200])
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    text = STOCK.format(model=DATA / "tokenizers" / name, rows=tmp_path / "rows.jsonl")
    (tmp_path / "stock.yaml").write_text(text, encoding="utf-8")

    whole = reported(tmp_path, None)
    base = reported(tmp_path, without(tmp_path / "hides", *TRAINING))

    assert base["inputs"] == whole["inputs"]
    assert base["inputs"]["job"]["ids"].startswith("sha256:")
    outcomes = {one["id"]: one["outcome"] for one in base["results"]}
    assert outcomes["job::trained-tokens"] == outcomes["job::chat-template"] == "passed"
    assert {"errored", "timeout", "not-run"}.isdisjoint(outcomes.values())
