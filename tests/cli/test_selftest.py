"""`ftcheck selftest`: each rule fails on its must-fail cases in this installation, and passes the others."""

import pytest

from ftcheck.cli import run_command
from ftcheck.extension.plugin_host import make_host


def test_every_rule_does_what_its_cases_say(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(["selftest", "-v"])

    said = capsys.readouterr()
    assert code == 0, said.err
    for rule in make_host().rules:
        assert f"ok     {rule}: " in said.out
