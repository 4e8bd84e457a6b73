"""A small project that was checked once, and changes to it."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ftcheck.gate.stored import check_stored
from ftcheck.gate.ticket import Ticket
from ftcheck.runner.load import load
from tests.cli.project import Project
from tests.places import SAMPLES

POLICY = """\
ftcheck: 1
name: gate
jobs:
  mapper: &none
    model: {name: model}
    data: {train: mapper.jsonl}
    training: {max_length: 512, packing: true, assistant_only_loss: true, output_dir: out/mapper}
  analyst:
    model: {name: model}
    data: {train: analyst.jsonl}
    training: {max_length: 512, packing: true, assistant_only_loss: true, output_dir: out/analyst}
checks:
  percentile-seq-len: {}
  data-readable: {}
  loss-spike: {}
gate: {require: ["*::data-readable"], max_age: 24h}
""".replace(" &none", "")

SAMPLED_OF = 160
"""Rows of the project whose policy draws a sample."""


def checked(folder: Path) -> Project:
    """A project in this folder that was checked once, with its report in r.json."""
    project = Project(folder)
    shutil.copytree(SAMPLES / "models" / "mapper-tiny", folder / "model")
    lines = (SAMPLES / "mapper" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    for job in ("mapper", "analyst"):
        project.write(f"{job}.jsonl", "".join(lines[:80]))
    project.write("policy.yaml", POLICY)
    ran = project.call("run", "policy.yaml", "-o", "json=r.json", "-o", "junit=r.xml")
    assert ran.code == 0, ran.out + ran.err
    return project


def codes(project: Project, job: str = "mapper", *, days: float = 0) -> list[str]:
    """The refusal codes; none if the gate opens."""
    loaded = load(project.folder / "policy.yaml")
    now = datetime.now(UTC) + timedelta(days=days)
    decision = check_stored(
        project.folder / "r.json", loaded.policy, loaded.checks, job, now, during=loaded.during
    )
    if isinstance(decision, Ticket):
        return []
    return list(dict.fromkeys(reason.code for reason in decision.reasons))


def edit_report(project: Project, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the stored report."""
    path = project.folder / "r.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    change(report)
    path.write_text(json.dumps(report), encoding="utf-8")


def edit(project: Project, name: str, old: str, new: str) -> None:
    """Put one text for another in a file of the project."""
    path = project.folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def sample_project(folder: Path, policy: str, *outputs: str) -> Project:
    """A project of 160 rows whose policy draws a sample: the report in r.json, what it printed in out.txt."""
    project = Project(folder)
    shutil.copytree(SAMPLES / "models" / "mapper-tiny", folder / "model")
    lines = (SAMPLES / "mapper" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    project.write("mapper.jsonl", "".join(lines[:SAMPLED_OF]))
    project.write("policy.yaml", policy)
    reports = [word for one in ("json=r.json", *outputs) for word in ("-o", one)]
    ran = project.call("run", "policy.yaml", *reports)
    assert ran.code == 0, ran.out + ran.err
    project.write("out.txt", ran.out)
    return project
