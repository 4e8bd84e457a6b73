"""A job that trains on a folder of prepared rows: read, checked, named in the report, tied to the gate."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import prepared_folders as folders
from tests.cli.project import Project, Ran
from tests.plugins.preparation.trl_side import Fed

pytest.importorskip("trl")

COUNT = 60
POLICY = """\
ftcheck: 1
extends: [recommended]
jobs:
  one:
    model: {name: ./model}
    data: {prepared: ready}
    training: {max_length: 512, assistant_only_loss: true, per_device_train_batch_size: 2, output_dir: out}
    trainer: {use: command, argv: [accelerate, launch, train.py]}
"""
OWN = """\
ftcheck: 1
extends: [recommended]
jobs:
  one:
    model: {name: ./model}
    data: {train: train.jsonl}
    training: {max_length: 512, assistant_only_loss: true, per_device_train_batch_size: 2, output_dir: out}
"""


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> list[Fed]:
    """What TRL makes of the rows."""
    made = tmp_path_factory.mktemp("trl")
    return folders.trl(folders.rows(COUNT), made, max_length=512, assistant_only_loss=True)


@pytest.fixture
def place(tmp_path: Path) -> Project:
    """A model and rows; the policies `ready.yaml` (prepared) and `own.yaml` (prepared by ftcheck)."""
    shutil.copytree(folders.MODEL, tmp_path / "model")
    (tmp_path / "train.jsonl").write_text("\n".join(folders.lines(COUNT)) + "\n", encoding="utf-8")
    (tmp_path / "ready.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")
    return Project(tmp_path)


def run(place: Project, policy: str = "ready.yaml", *more: str) -> Ran:
    """`ftcheck run`, with its report in r.json."""
    return place.call("run", policy, "--offline", "-o", "json=r.json", *more)


def outcomes(ran: Ran) -> dict[str, list[str]]:
    """The checks by their outcome."""
    found: dict[str, list[str]] = {}
    for one in ran.report["results"]:
        found.setdefault(one["outcome"], []).append(one["id"])
    return found


def test_the_recommended_checks_on_a_folder_equal_to_trls_are_green(place: Project, fed: list[Fed]) -> None:
    folders.save(place.folder / "ready", folders.columns(fed))
    ran = run(place)
    found = outcomes(ran)
    assert ran.code == 0, ran.out
    assert "errored" not in found
    assert "failed" not in found
    for one in ran.report["results"]:
        assert one["outcome"] != "passed" or one["measurements"], one["id"]
    textless = {one["id"]: one["reason"] for one in ran.report["results"] if one["outcome"] == "skipped"}
    reason = "rows are read prepared from ready: their text is not known"
    for name in ("duplicates", "answers", "data-schema", "special-tokens-in-text", "tool-calls"):
        assert textless[f"one::{name}"] == reason
    for name in ("data-readable", "trained-tokens", "truncation", "percentile-seq-len", "special-tokens"):
        assert f"one::{name}" in found["passed"]

    digest = ran.report["jobs"]["one"]["ids"]
    source: dict[str, Any] = ran.report["jobs"]["one"]["ids_from"]
    assert source["source"] == "prepared"
    assert source["path"] == "ready"
    assert f"ids: read from ready, {digest[:15]}" in ran.out
    assert run(place, "own.yaml").report["jobs"]["one"]["ids"] == digest


def test_a_changed_byte_in_the_folder_shuts_the_gate(place: Project, fed: list[Fed]) -> None:
    folder = folders.save(place.folder / "ready", folders.columns(fed))
    assert run(place).code == 0
    assert place.call("gate", "r.json", "--policy", "ready.yaml").code == 0
    (folder / "cache-0123.arrow").write_bytes(b"what a map of datasets leaves")
    assert place.call("gate", "r.json", "--policy", "ready.yaml").code == 0

    changed = [(ids, [-100, *labels[1:]]) for ids, labels in fed]
    changed[3] = (fed[3][0], [-100] * len(fed[3][0]))
    shutil.rmtree(folder)
    folders.save(folder, folders.columns(changed))

    shut = place.call("gate", "r.json", "--policy", "ready.yaml")
    assert shut.code == 5
    assert "data-changed" in shut.out + shut.err
    assert "ready was sha256:" in shut.out + shut.err
