"""Which policies arguments stand for, and what their reports are called."""

from pathlib import Path

import pytest

from ftcheck.errors import UsageError
from ftcheck.runner.policy_files import is_several, names_of, policy_files


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("p/b.yaml", "p/a.yml", "p/.hidden.yaml", "p/notes.txt", "p/deep/c.yaml", "q[1].yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("ftcheck: 1\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        (["p"], ["p/a.yml", "p/b.yaml"]),
        (["p/"], ["p/a.yml", "p/b.yaml"]),
        (["p/*.yaml"], ["p/b.yaml"]),
        (["p/**/*.yaml"], ["p/b.yaml", "p/deep/c.yaml"]),
        (["p/b.yaml", "p"], ["p/b.yaml", "p/a.yml"]),
        (["q[1].yaml", "gone.yaml"], ["q[1].yaml", "gone.yaml"]),
    ],
)
def test_files_folders_and_globs(here: Path, stated: list[str], found: list[str]) -> None:
    assert policy_files(stated) == tuple(found)


@pytest.mark.parametrize("stated", ["p/*.json", "p/deep/deeper*"])
def test_nothing_is_an_error(here: Path, stated: str) -> None:
    with pytest.raises(UsageError, match="matches no file"):
        policy_files([stated])
    (here / "empty").mkdir()
    with pytest.raises(UsageError, match="contains no policy"):
        policy_files(["empty"])


@pytest.mark.parametrize("stated", ["p", "p/*.y*ml"])
def test_a_link_that_leads_nowhere_is_not_left_out(here: Path, stated: str) -> None:
    (here / "p" / "c.yaml").symlink_to("nowhere")

    assert policy_files([stated]) == ("p/a.yml", "p/b.yaml", "p/c.yaml")
    assert names_of(["p/c.yaml"]) == {"p/c.yaml": "c"}


def test_one_file_is_one_policy(here: Path) -> None:
    assert not is_several(["p/b.yaml"])
    assert not is_several(["q[1].yaml"])
    assert is_several(["p"])
    assert is_several(["p/*.yaml"])
    assert is_several(["p/b.yaml", "p/a.yml"])


def test_names_tell_policies_apart(here: Path) -> None:
    assert names_of(["p/b.yaml", "p/deep/c.yaml"]) == {"p/b.yaml": "b", "p/deep/c.yaml": "c"}
    assert names_of(["x/a.yaml", "y/a.yaml", "y/b.yaml"]) == {
        "x/a.yaml": "x-a",
        "y/a.yaml": "y-a",
        "y/b.yaml": "b",
    }
    assert names_of(["p/a.yaml", "p/a.yml", "p/b.yaml"]) == {
        "p/a.yaml": "a.yaml",
        "p/a.yml": "a.yml",
        "p/b.yaml": "b",
    }
