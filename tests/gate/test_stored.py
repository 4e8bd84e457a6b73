"""A stored report: what is none, and what the gate reads of one."""

import pytest

from tests.cli.project import Project
from tests.gate.kit import codes, edit_report


def test_the_gate_opens_for_what_was_checked_even_when_the_project_has_moved(project: Project) -> None:
    assert codes(project, "mapper") == []
    assert codes(project, "analyst") == []


def test_no_report(project: Project) -> None:
    (project.folder / "r.json").unlink()

    assert codes(project) == ["no-report"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "other/1"}', "\x00"])
def test_a_file_that_is_no_report(project: Project, text: str) -> None:
    (project.folder / "r.json").write_text(text, encoding="utf-8")

    assert codes(project) == ["no-report"]


def test_a_started_report(project: Project) -> None:
    edit_report(project, lambda report: report.update(status="started", verdict=None))

    assert codes(project) == ["started"]
