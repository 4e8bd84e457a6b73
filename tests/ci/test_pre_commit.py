"""The hooks of pre-commit: which files they take, and the real program where it is installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.places import CHECKOUT

POLICY = "ftcheck: 1\nextends: [recommended]\njobs: {a: {model: {name: o/n}}}\n"
HOOKS: dict[str, Any] = {
    one["id"]: one
    for one in YAML(typ="safe").load((CHECKOUT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
}


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("ftcheck.yaml", True),
        ("jobs/ftcheck.yaml", True),
        ("night.ftcheck.yaml", True),
        ("jobs/a.b.ftcheck.yaml", True),
        ("policies/mine.yaml", True),
        ("policies/mine.yml", True),
        ("jobs/policies/mine.yaml", False),
        ("policies/samples/mine.yaml", False),
        ("myftcheck.yaml", False),
        ("ftcheck.yaml.txt", False),
        ("qlora.yaml", False),
        (".ftcheck/policy.schema.json", False),
    ],
)
def test_the_hook_takes_policies_by_their_names(path: str, taken: bool) -> None:
    assert bool(re.search(HOOKS["ftcheck-policy"]["files"], path)) is taken


@pytest.mark.parametrize(("text", "code"), [(POLICY, 0), ("ftcheck: 2\n", 1)])
def test_pre_commit_runs_the_hook_as_it_stands(text: str, code: int, tmp_path: Path) -> None:
    """The environment that pre-commit makes is this one: what the hook installs is tried in test_light.py."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    program = shutil.which("pre-commit", path=path)
    if program is None:
        pytest.skip("pre-commit is not installed")
    hook = {**HOOKS["ftcheck-policy"], "language": "system"}
    hook.pop("additional_dependencies")
    with (tmp_path / ".pre-commit-config.yaml").open("w", encoding="utf-8") as file:
        YAML().dump({"repos": [{"repo": "local", "hooks": [hook]}]}, file)
    (tmp_path / "night.ftcheck.yaml").write_text(text, encoding="utf-8")
    for words in (["git", "init", "-q"], ["git", "add", "."]):
        subprocess.run(words, cwd=tmp_path, check=True)
    done = subprocess.run(
        [program, "run", "-a"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stdout
