"""The folders that the pages' commands run in, by name: each is what a reader of the page would have."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.places import DATA, POLICIES, SAMPLES

ROWS = 200
"""Rows of the sample that `own` has."""


def empty(folder: Path) -> None:
    """Nothing: what somebody begins with."""


def sample(folder: Path) -> None:
    """What `ftcheck init` writes into an empty folder."""
    shutil.copytree(SAMPLES, folder / "policies" / "samples", ignore=shutil.ignore_patterns("checkpoints"))
    for policy in ("night_before.yaml", "morning_after.yaml"):
        shutil.copy(POLICIES / policy, folder / "policies")


def own(folder: Path) -> None:
    """A data file, one for evaluation, gold questions, and a model's folder."""
    for split in ("train", "eval"):
        lines = (SAMPLES / "mapper" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{split}.jsonl").write_text("".join(lines[:ROWS]), encoding="utf-8")
    shutil.copy(SAMPLES / "mapper" / "golden.json", folder)
    shutil.copytree(SAMPLES / "models" / "mapper-tiny", folder / "model")


def script(folder: Path) -> None:
    """A small job that trains in seconds: rows, and a tiny model with Llama 3's template."""
    pytest.importorskip("trl", reason="needs the [train] extra")
    from tests.trainers import small

    small.make_model(folder / "model")
    for split, count in (("train", 60), ("eval", 12)):
        lines = "".join(json.dumps(row) + "\n" for row in small.make_rows(count))
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


def phi(folder: Path) -> None:
    """Phi-3-mini's tokenizer twice, once without its config.json, and questions with answers."""
    if not DATA.is_dir():
        pytest.skip("../shared/data is not here")
    shutil.copytree(SAMPLES / "analyst", folder / "data")
    for name in ("models/phi-3-mini-instruct", "served"):
        shutil.copytree(DATA / "tokenizers" / "phi-3-mini-instruct", folder / name)
    (folder / "served" / "config.json").unlink()


KINDS: Mapping[str, Callable[[Path], None]] = {
    "empty": empty,
    "sample": sample,
    "own": own,
    "script": script,
    "phi": phi,
}
