"""A training script of one's own, as the guide shows it, and what it says where something differs."""

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.places import CHECKOUT
from tests.trainers import small
from tests.trainers.test_verify import KIND

pytest.importorskip("trl")
pytestmark = [pytest.mark.train]

[SCRIPT] = [
    block
    for block in re.findall(
        r"```python[^\n]*\n(.*?)```",
        (CHECKOUT / "docs" / "guides" / "own-script.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    if "ticket.verify(trainer)" in block
]
POLICY = """
ftcheck: 1
name: small
jobs:
  small:
    model: {name: ./model}
    data: {train: train.jsonl}
    training: {max_length: 96, assistant_only_loss: true, learning_rate: 2.0e-3, output_dir: run,
               lora: {r: 4, target_modules: all-linear}}
checks:
  trained-tokens: {}
  finite-loss: {}
  fed-batches: {}
"""
AFTER = """
ftcheck: 1
name: after
stage: after
extends: [./policy.yaml]
checks:
  loss-convergence: {}
  adapter-loads: {}
"""
FAILING = """
from transformers import TrainerCallback

class Failing(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

trainer.add_callback(Failing())
trainer.train()
"""


@pytest.fixture
def project(model_folder: Path, tmp_path: Path) -> Path:
    """The small job with a stored report, and the script beside it."""
    small.make_project(tmp_path, model_folder)
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "after.yaml").write_text(AFTER, encoding="utf-8")
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    edit(tmp_path, "logging_steps=1", "logging_steps=1, use_cpu=True")  # transformers asks for it without GPU
    assert ftcheck(tmp_path, "run", "policy.yaml", "-o", "json=night.json")[0] == 0
    return tmp_path


def ftcheck(project: Path, *words: str) -> tuple[int, str]:
    log = project / "log.txt"
    code = small.forked(small.ftcheck(*words), project, log).wait()
    return code, log.read_text(encoding="utf-8")


def run(project: Path) -> tuple[int, str]:
    said = project / "said.txt"
    code = small.started([sys.executable, "train.py"], project, said, HF_HOME=str(project)).wait()
    return code, said.read_text(encoding="utf-8")


def edit(project: Path, old: str, new: str) -> None:
    script = project / "train.py"
    text = script.read_text(encoding="utf-8")
    assert old in text
    script.write_text(text.replace(old, new), encoding="utf-8")


def run_json(project: Path) -> dict[str, Any]:
    return small.run_json(project / "run")


def test_the_guides_script_trains_and_its_run_is_read_as_one_of_ftchecks(project: Path) -> None:
    code, said = run(project)

    assert code == 0, said
    ran = run_json(project)
    assert (ran["status"], ran["steps"], ran["planned"]["rows"]) == ("finished", 24, 60)
    assert ran["adapter"] == str(project / "run")
    assert {one["id"]: one["outcome"] for one in ran["during"]} == {
        "small::finite-loss": "passed",
        "small::fed-batches": "passed",
    }
    code, page = ftcheck(project, "monitor", "run", "--once")
    assert code == 0
    assert "small · finished · step 24/24" in page
    code, page = ftcheck(project, "run", "after.yaml", "-o", "json=after.json")
    assert code == 0, page
    report = json.loads((project / "after.json").read_text(encoding="utf-8"))
    assert {one["id"]: one["outcome"] for one in report["results"]} == {
        "small::loss-convergence": "passed",
        "small::adapter-loads": "passed",
    }


def test_changed_data_stop_the_script_before_it_imports_anything_heavy(project: Path) -> None:
    rows = project / "train.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"late", b"Late", 1))

    code, said = run(project)

    assert code == 1
    assert "ftcheck.gate.ticket.Refused: " in said
    assert "data-changed" in said
    assert "datasets" not in said
    assert not (project / "run").exists()


def test_another_template_stops_the_script_before_its_first_step(project: Path) -> None:
    (project / "kind.jinja").write_text(KIND, encoding="utf-8")
    edit(project, 'SFTConfig("run", ', 'SFTConfig("run", chat_template_path="kind.jinja", ')

    code, said = run(project)

    assert code == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith(
        "ftcheck.gate.ticket.Refused: gate: refused (ids-changed): training row 1 (train.jsonl:1)"
    )
    assert "token 3 differs: checked '<|begin_of_text|><|start_header_id|>user<|end_header_id|>" in last
    assert not (project / "run" / "run.json").exists()


def test_an_error_in_a_script_without_verify_leaves_a_run_folder_that_says_so(project: Path) -> None:
    edit(project, "trainer.train()\n", FAILING)
    edit(project, "ticket.verify(trainer)", "")

    code, said = run(project)

    assert code == 1, said
    ran = run_json(project)
    assert ran["status"] == "failed"
    assert "out of memory while training" in ran["reason"]


def test_a_signal_leaves_a_run_folder_that_says_so(project: Path) -> None:
    edit(project, "logging_steps=1", "logging_steps=1, num_train_epochs=1000")
    said = project / "said.txt"
    process = small.started([sys.executable, "train.py"], project, said, HF_HOME=str(project))
    lines = project / "run" / "metrics.jsonl"
    process.until(lambda: lines.exists() and lines.stat().st_size, lambda: said.read_text(encoding="utf-8"))
    process.send_signal(signal.SIGTERM)

    assert process.wait() != 0
    ran = run_json(project)
    assert (ran["status"], ran["reason"]) == ("interrupted", "SIGTERM")
    assert "--resume" not in ran["remedy"]
