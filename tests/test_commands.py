"""Commands that tests start: nothing of them is left when the test is over."""

import psutil
import pytest

from tests.cli.project import Project, rule_text
from tests.commands import end_all, wait_for_end

STARTS = """
import subprocess
child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
with open("mine", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename("mine", "going")
time.sleep(3600)
"""


@pytest.mark.parametrize("fresh", [True, False])
def test_what_a_test_leaves_running_is_killed_with_all_that_it_started(project: Project, fresh: bool) -> None:
    project.fresh = fresh
    project.rules(rule_text("slow", STARTS))
    project.policy("slow: {}")
    run = project.start("run", "policy.yaml", "--rules-dir", "rules")
    run.started.until((project.folder / "going").exists)
    started = [psutil.Process(int(pid)) for pid in (project.folder / "going").read_text().split()]

    end_all()

    assert run.started.poll() is not None
    for process in started:
        wait_for_end(process)


def test_a_command_that_ends_too_soon_fails_the_test_that_waits(project: Project) -> None:
    run = project.start("run", "nowhere.yaml")

    with pytest.raises(AssertionError, match="ended too soon: no policy"):
        run.started.until(lambda: False, lambda: "no policy")


@pytest.mark.parametrize("fresh", [True, False])
def test_streams_environment_and_exit_code_are_the_commands_own(project: Project, fresh: bool) -> None:
    project.fresh = fresh
    project.rules(
        rule_text("tells", "print('noise')\nyield Finding(os.environ.get('TOLD', '-') + ' ' + os.getcwd())")
    )
    project.policy("tells: {}")

    ran = project.run(TOLD="so")

    assert ran.code == 1
    assert ran.result("tells")["findings"][0]["message"].startswith("so ")
    assert "FAILED tells" in ran.out
    assert "noise" not in ran.out + ran.err
