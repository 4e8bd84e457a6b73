"""The schema beside a policy, for editors."""

import json
from pathlib import Path

import pytest

from ftcheck.cli import run_command
from ftcheck.errors import UsageError
from ftcheck.policy.editor import FILE, LINE, write_schema


def test_init_writes_the_line_and_the_file_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run_command(["init", "sample"]) == 0

    policy = tmp_path / "policies" / "night_before.yaml"
    first = policy.read_text(encoding="utf-8").splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert json.loads((policy.parent / named).read_text(encoding="utf-8"))["title"] == "ftcheck policy"
    assert run_command(["policy", "check", str(policy)]) == 0


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".ftcheck").mkdir()
    (tmp_path / FILE).write_text("{}", encoding="utf-8")

    written = write_schema(tmp_path)

    assert written == tmp_path / FILE
    assert "ftcheck policy" in written.read_text(encoding="utf-8")
    assert LINE == "# yaml-language-server: $schema=.ftcheck/policy.schema.json\n"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / ".ftcheck").write_text("a file", encoding="utf-8")

    with pytest.raises(UsageError, match="cannot be written"):
        write_schema(tmp_path)
