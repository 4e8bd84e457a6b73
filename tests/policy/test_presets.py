"""The policy of a folder, where none is named."""

from pathlib import Path

import pytest

from ftcheck.cli import run_command
from ftcheck.errors import UsageError
from ftcheck.policy.presets import of_folder

POLICY = "ftcheck: 1\nextends: [recommended]\njobs: {one: {model: {name: org/name}}}\n"


def planted(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(POLICY, encoding="utf-8")


def test_the_one_called_ftcheck_yaml_is_taken_first(tmp_path: Path) -> None:
    planted(tmp_path, "ftcheck.yaml", "a.ftcheck.yaml", "b.ftcheck.yaml", "other.yaml")

    assert of_folder(tmp_path) == str(tmp_path / "ftcheck.yaml")


def test_else_the_only_one_that_ends_so(tmp_path: Path) -> None:
    planted(tmp_path, "night.ftcheck.yaml", "other.yaml", "ftcheck.yml", "myftcheck.yaml")

    assert of_folder(tmp_path) == str(tmp_path / "night.ftcheck.yaml")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no policy: name one, or call it ftcheck.yaml (ftcheck init writes a first one)"),
        (["other.yaml"], "no policy: name one, or call it ftcheck.yaml"),
        (["a.ftcheck.yaml", "b.ftcheck.yaml"], "there are several policies here: name one of "),
    ],
)
def test_none_or_several_are_a_mistake_in_one_line(names: list[str], said: str, tmp_path: Path) -> None:
    planted(tmp_path, *names)

    with pytest.raises(UsageError) as error:
        of_folder(tmp_path)
    assert str(error.value).startswith(said)


def test_commands_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(tmp_path, "night.ftcheck.yaml")
    monkeypatch.chdir(tmp_path)

    assert run_command(["policy", "show"]) == 0
    assert "org/name" in capsys.readouterr().out
    (tmp_path / "night.ftcheck.yaml").unlink()
    assert run_command(["run"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
