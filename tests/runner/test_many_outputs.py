"""Where the reports of several policies go."""

from pathlib import Path

import pytest

from ftcheck.errors import UsageError
from ftcheck.extension.plugin_host import make_host
from ftcheck.runner.many_outputs import Places, places

NAMES = ("a", "b")


def placed(*specs: str) -> Places:
    return places(specs, make_host().reporters, NAMES)


def test_a_folder_takes_a_file_of_each_policy(tmp_path: Path) -> None:
    found = placed(f"html={tmp_path}/new/", f"junit={tmp_path}", "github")

    assert found.of("a") == (f"html={tmp_path}/new/a.html", f"junit={tmp_path}/a.xml", "github")
    assert found.index == tmp_path / "new"
    assert (tmp_path / "new").is_dir()


def test_a_path_of_ones_own(tmp_path: Path) -> None:
    found = placed(f"json={tmp_path}/{{policy}}/report.json", f"html={tmp_path}/{{policy}}/page.html")

    assert found.of("b") == (f"json={tmp_path}/b/report.json", f"html={tmp_path}/b/page.html")
    assert found.index is None
    assert (tmp_path / "b").is_dir()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("json=night.json", r"json=night-\{policy\}.json"),
        ("json", "name a folder"),
        ("html=-", "name a folder"),
        ("jsn=out/", "did you mean 'json'"),
        ("json=", "name a folder"),
    ],
)
def test_what_all_would_write_to_is_refused(spec: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        placed(spec)


def test_a_policy_called_index_is_in_the_way_of_the_index(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rename it"):
        places([f"html={tmp_path}/"], make_host().reporters, ("index",))
