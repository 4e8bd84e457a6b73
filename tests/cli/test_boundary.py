"""A bug of ours, or of a plugin's hook, is exit code 3, one line, a log, and an incomplete report."""

import os
import re
from pathlib import Path

import pytest

from tests.cli.project import Project, Ran, rule_text

HOOK = """
from ftcheck import hookimpl

@hookimpl
def {hook}({argument}):
    raise ValueError("password=hunter2 in {hook}")
"""


def the_log(ran: Ran) -> str:
    """The log that the one line names."""
    [line] = ran.err.strip().splitlines()
    found = re.search(r"report it with this log: (\S+)", line)
    assert found is not None, line
    return Path(found[1]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("hook", "argument"),
    [
        ("ftcheck_run_started", "checks"),
        ("ftcheck_check_finished", "result"),
        ("ftcheck_run_finished", "report"),
    ],
)
def test_a_hook_that_raises_ends_in_an_incomplete_report(project: Project, hook: str, argument: str) -> None:
    project.write("rules/loud.py", HOOK.format(hook=hook, argument=argument))
    project.policy("fine: {}")

    ran = project.run()

    assert ran.code == 3
    assert (ran.report["status"], ran.report["verdict"]) == ("incomplete", None)
    assert ran.outcome("fine") == "passed", "the checks run all the same"
    [problem] = ran.report["problems"]
    assert f"plugin 'loud', {hook}" in problem["message"]
    assert "ValueError" in problem["message"]
    assert "hunter2" not in ran.err + str(ran.report) + the_log(ran)
    assert set(ran.report["gate"].values()) <= {"incomplete"}


def test_a_hook_is_told_nothing_more_after_it_raised(project: Project) -> None:
    counting = (
        "from pathlib import Path\nfrom ftcheck import hookimpl\n\n@hookimpl\n"
        "def ftcheck_check_finished(result):\n"
        "    with Path('calls').open('a') as file:\n        file.write('x')\n    raise KeyError('no')\n"
    )
    project.write("rules/loud.py", counting)
    project.rules(rule_text("other", "yield Measurement('n', 1)"))
    project.policy("fine: {}\nother: {}")

    ran = project.run()

    assert ran.code == 3
    assert (project.folder / "calls").read_text(encoding="utf-8") == "x"
    assert len(ran.report["problems"]) == 1


def planted(project: Project, target: str) -> str:
    """The environment in which a function of ours raises, as if it had a bug."""
    module, _, name = target.rpartition(".")
    project.fresh = True  # sitecustomize is read when an interpreter starts
    project.write(
        "bug/sitecustomize.py",
        f"import importlib\nmodule = importlib.import_module('{module}')\n"
        f"def broken(*given, **more):\n    raise RuntimeError('token=hf_{'a' * 34} is not handled')\n"
        f"setattr(module, '{name}', broken)\n",
    )
    return os.pathsep.join(filter(None, [str(project.folder / "bug"), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.parametrize(
    "target",
    [
        "ftcheck.runner.session.gather",
        "ftcheck.runner.session.assemble",
        "ftcheck.runner.session.decide",
        "ftcheck.policy.draft",
    ],
)
def test_a_bug_of_ours_replaces_the_sentinel_and_is_no_traceback(project: Project, target: str) -> None:
    project.policy("fine: {}")

    ran = project.run(PYTHONPATH=planted(project, target))

    assert ran.code == 3
    assert ran.report["status"] == "incomplete"
    assert "RuntimeError" in ran.report["problems"][0]["message"]
    log = the_log(ran)
    assert "Traceback" in log
    assert "transformers" in log
    assert "hf_aaaa" not in log + ran.err + str(ran.report)


def test_a_bug_in_another_command_is_exit_code_3_too(project: Project) -> None:
    project.policy("fine: {}")

    ran = project.call("policy", "check", "policy.yaml", PYTHONPATH=planted(project, "ftcheck.policy.bind"))

    assert ran.code == 3
    assert "internal error" in ran.err
    assert "Traceback" in the_log(ran)
