"""Training behind a report about a sample: all rows are trained, the sampled ones are compared with it."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import ftcheck
from ftcheck.gate.stored import check_resumed
from ftcheck.gate.ticket import Ticket
from ftcheck.runner.load import load
from tests.cli.project import Project
from tests.gate.kit import SAMPLED_OF, edit, edit_report, sample_project

pytest.importorskip("trl")
pytestmark = pytest.mark.train

POLICY = """\
ftcheck: 1
name: sampled
jobs:
  mapper:
    model: {name: model}
    data:
      train: mapper.jsonl
      sample: {rows: 100, seed: 3}
    training:
      max_length: 512
      packing: true
      assistant_only_loss: true
      max_steps: 2
      per_device_train_batch_size: 1
      save_steps: 1
      learning_rate: 0.01
      output_dir: out
      lora: {r: 4, target_modules: all-linear}
    # trainer
checks:
  trained-tokens: {}
gate: {accept_sample: [mapper]}
"""


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that accepts its sample, with the report in r.json."""
    return sample_project(tmp_path_factory.mktemp("sampled"), POLICY)


@pytest.fixture
def project(sampled: Project, tmp_path: Path) -> Project:
    shutil.copytree(sampled.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    return Project(tmp_path / "copy")


def run_of(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.folder / "out" / "run.json").read_text(encoding="utf-8"))
    return found


def test_all_rows_are_trained_and_nobody_says_that_they_were_checked(project: Project) -> None:
    ran = project.call("train", "policy.yaml", "--report", "r.json")

    assert ran.code == 0, ran.out + ran.err
    said = "gate: on a sample: 100 of 160 rows were checked (seed 3); the other 60 are trained unchecked"
    assert said in ran.out
    run = run_of(project)
    assert run["planned"]["rows"] == SAMPLED_OF
    assert run["ids"] == "unverified"
    assert run["ticket"]["ids"] is None
    assert run["ticket"]["sample"]["rows"] == 100

    loaded = load(project.folder / "policy.yaml")
    resumed = check_resumed(project.folder / "out", loaded.policy, loaded.checks, "mapper")
    assert isinstance(resumed, Ticket)
    assert resumed.sample is not None
    assert resumed.said()["sample"] == run["ticket"]["sample"]


def test_without_being_accepted_nothing_is_trained(project: Project) -> None:
    edit(project, "policy.yaml", "gate: {accept_sample: [mapper]}\n", "")
    ran = project.call("train", "policy.yaml")

    assert ran.code == 5
    assert "refused for mapper (sampled)" in ran.err
    assert not (project.folder / "out").exists()


def test_sampled_rows_with_other_ids_are_not_trained(project: Project) -> None:
    """The report's digest over the sample is another: as when a library makes other ids on this machine."""
    edit_report(project, lambda report: report["jobs"]["mapper"]["sample"].update(ids="sha256:" + "1" * 64))
    ran = project.call("train", "policy.yaml", "--report", "r.json")

    assert ran.code == 5
    assert "ids-changed" in ran.err
    assert "the sample was 100 of 160 rows with ids sha256:1111" in " ".join(ran.err.split())
    assert not (project.folder / "out").exists()


def test_a_row_that_was_not_drawn_and_cannot_be_used_stops_the_training(project: Project) -> None:
    """No check saw it; the trainer does not drop it without a word."""
    import numpy as np

    from ftcheck.sampling.draw import keys

    drawn = set(np.argsort(keys(3, 0, SAMPLED_OF))[:100].tolist())
    undrawn = next(n for n in range(SAMPLED_OF) if n not in drawn)
    lines = (project.folder / "mapper.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    lines[undrawn] = "{broken\n"
    (project.folder / "mapper.jsonl").write_text("".join(lines), encoding="utf-8")
    ran = project.call("train", "policy.yaml")

    assert ran.code == 5
    assert f"mapper.jsonl:{undrawn + 1}" in ran.err


def test_a_command_is_started_and_its_ids_stay_unverified(project: Project) -> None:
    command = f"trainer: {{use: command, argv: [{sys.executable}, -c, 'print(1)']}}"
    edit(project, "policy.yaml", "# trainer", command)
    ran = project.call("train", "policy.yaml")

    assert ran.code == 0, ran.out + ran.err
    assert "the other 60 are trained unchecked" in ran.out
    assert run_of(project)["ids"] == "unverified"


def test_a_script_cannot_verify_what_it_feeds_against_a_sample(project: Project) -> None:
    ticket = ftcheck.require(project.folder / "r.json", policy=project.folder / "policy.yaml", job="mapper")

    with pytest.raises(ftcheck.Refused, match=r"unverified.*only 100 of 160 rows were checked"):
        ticket.verify(object())


def test_a_framework_is_not_given_ids_that_nobody_checked(project: Project) -> None:
    project.write("axolotl.yml", "base_model: model\n")
    edit(project, "policy.yaml", "# trainer", "trainer: {use: axolotl, files: [axolotl.yml]}")
    ran = project.call("train", "policy.yaml")

    assert ran.code == 5
    said = "only 100 of 160 rows were checked, and axolotl trains ids that were all checked"
    assert said in " ".join(ran.err.split())
