"""The parent's side of a run: whose time counts, and how often the worker is looked at."""

from pathlib import Path

import pytest

from ftcheck.records import Outcome
from ftcheck.runner.execute import execute
from ftcheck.runner.load import load
from ftcheck.runner.options import Options
from ftcheck.runner.timeouts import CheckClock
from ftcheck.runner.worker_process import Worker
from ftcheck.runner.workplace import Workplace
from tests.cli.project import Project, rule_text

LOADER = """
import time
from ftcheck import hookimpl, loader

@loader("slow")
def slow():
    time.sleep(1.2)
    return 1

@hookimpl
def ftcheck_loaders():
    return [slow]
"""


LATE = """
import time
from ftcheck import hookimpl

time.sleep(1.5)

@hookimpl
def ftcheck_rules():
    return []
"""


def test_a_checks_time_is_that_of_its_rule(project: Project) -> None:
    project.write("rules/late.py", LATE)
    project.write("rules/loads.py", LOADER)
    project.rules(
        rule_text("waits", "yield Measurement('n', slow)", "slow: int"),
        rule_text("asks", "yield Measurement('n', inputs.get('slow'))", "inputs: Any"),
        rule_text("sleeps", "time.sleep(30)"),
    )
    project.policy("fine: {timeout: 1}\nwaits: {timeout: 1}\nasks: {timeout: 1}\nsleeps: {timeout: 1}")

    ran = project.run()

    assert [ran.outcome(name) for name in ("fine", "waits", "job::asks")] == ["passed"] * 3
    assert ran.outcome("sleeps") == "timeout"
    assert ran.result("sleeps")["reason"] == "not finished after 1 s"


def test_the_clock_stands_while_inputs_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ftcheck.runner.timeouts.time.monotonic", lambda: now[0])
    clock = CheckClock(timeout=1.0, stall=10.0)

    now[0] = 5.0
    assert (clock.seconds(), clock.left(), clock.late()) == (0.0, 5.0, None)
    clock.start()
    now[0] = 5.4
    clock.input("gold", False)
    clock.input("tokenizer", False)
    clock.alive()
    now[0] = 12.0
    assert clock.seconds() == pytest.approx(0.4)
    assert clock.left() == pytest.approx(3.4)
    clock.input("tokenizer", True)
    clock.input("gold", True)
    now[0] = 12.5
    assert clock.left() == pytest.approx(0.1)
    now[0] = 12.7
    assert clock.late() == "not finished after 1 s"


def test_a_start_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ftcheck.runner.timeouts.time.monotonic", lambda: now[0])
    clock = CheckClock(timeout=1.0, stall=10.0)
    now[0] = 10.5

    assert clock.late() == "no progress for 10 s"


def test_waiting_for_a_check_costs_few_looks(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.rules(rule_text("naps", "time.sleep(2)\nyield Measurement('n', 1)"))
    policy = project.policy("naps: {}")
    rules = Path(project.folder / "rules")
    looks: list[int] = []
    memory = Worker.memory

    def counted(worker: Worker, free: int = 0) -> int:
        looks.append(1)
        return memory(worker, free)

    monkeypatch.setattr(Worker, "memory", counted)
    options = Options(policy=str(policy), rules_dirs=(rules,))
    loaded = load(policy, rules_dirs=[rules])

    with Workplace() as place:
        [result] = execute(place, options, loaded, loaded.checks, ()).results

    assert result.outcome is Outcome.PASSED
    assert 1 <= len(looks) <= 60, "a look at all processes every 50 ms was 15 % of a core"
