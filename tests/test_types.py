"""Training without a ticket does not type-check."""

import subprocess
import sys
from pathlib import Path

from tests.places import CHECKOUT

SCRIPT = """
from ftcheck.gate.ticket import Refusal, Ticket
from ftcheck.inputs.container import Inputs
from ftcheck.extension.trainers import Trainer
from ftcheck.settings import Job


def start(trainer: Trainer, decision: Ticket | Refusal, job: Job, inputs: Inputs) -> None:
    {line}
"""


def complaints(tmp_path: Path, line: str) -> str:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(line=line), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(CHECKOUT / "pyproject.toml"), str(script)]
    return subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False).stdout


def test_a_decision_that_may_be_a_refusal_does_not_type_check(tmp_path: Path) -> None:
    said = complaints(tmp_path, "trainer.train(decision, job, inputs, resume=False)")

    assert 'incompatible type "Ticket | Refusal"; expected "Ticket"' in said


def test_a_ticket_type_checks(tmp_path: Path) -> None:
    line = "isinstance(decision, Ticket) and trainer.train(decision, job, inputs, resume=False)"

    assert "Success" in complaints(tmp_path, line)
