"""The Dockerfile, without a daemon: read, and the build steps of `check` run in a clean environment."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fresh_environments import packages
from tests.places import CHECKOUT, POLICIES

LINES = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
USER = "65534"
"""nobody"""


def stage(name: str) -> list[tuple[str, str]]:
    """The instructions of a target."""
    text = re.split(r"^FROM ", LINES, flags=re.MULTILINE)
    [found] = [part for part in text if part.partition("\n")[0].endswith(f" AS {name}")]
    rows = [line for line in found.splitlines()[1:] if line.strip() and not line.startswith("#")]
    return [(row.partition(" ")[0], row.partition(" ")[2].strip()) for row in rows]


@pytest.mark.parametrize("name", ["check", "train"])
def test_each_target_runs_ftcheck_in_io_and_not_as_root(name: str) -> None:
    instructions = stage(name)

    assert ("ENTRYPOINT", '["ftcheck"]') in instructions
    assert ("WORKDIR", "/io") in instructions
    assert ("USER", "1000") in instructions
    assert ("HEALTHCHECK", "NONE") in instructions
    assert any(name == "LABEL" and "org.opencontainers.image.licenses" in rest for name, rest in instructions)


def test_check_has_no_torch_and_train_has() -> None:
    installed = {
        name: " ".join(rest for word, rest in stage(name) if word == "RUN") for name in ("check", "train")
    }

    assert "'/src[fast]'" in installed["check"]
    assert "'/src[train,fast]'" in installed["train"]
    assert any(
        rest.startswith("NVIDIA_VISIBLE_DEVICES=all") for word, rest in stage("train") if word == "ENV"
    )


def test_the_build_context_has_what_the_package_is_built_from_and_no_more() -> None:
    lines = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").split()
    taken = {line[1:] for line in lines if line.startswith("!")}

    assert "*" in lines
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "ftcheck", "light"} <= taken
    assert all((CHECKOUT / name).exists() for name in taken)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="becoming another user needs root")
def test_what_check_installs_checks_the_sample_as_another_user(tmp_path: Path) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed")
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    build(tmp_path)
    io = tmp_path / "io"
    shutil.copytree(POLICIES / "samples", io / "samples")
    (tmp_path / "home").mkdir()
    for folder in (io, tmp_path / "home"):
        shutil.chown(folder, int(USER), int(USER))
    words = [
        setpriv,
        f"--reuid={USER}",
        f"--regid={USER}",
        "--clear-groups",
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),  # python may lie in /root
        str(tmp_path / "opt/ftcheck/bin/ftcheck"),
    ]
    rows, model = "samples/mapper/train.jsonl", "samples/models/mapper-tiny"
    arguments = ["check", rows, "--model", model, "--offline", "-o", "json=report.json"]
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [*words, *arguments], cwd=io, env=clean, capture_output=True, text=True, check=False
    )

    report = io / "report.json"
    assert report.is_file(), done.stdout + done.stderr
    assert report.stat().st_uid == int(USER)
    assert json.loads(report.read_text(encoding="utf-8"))["status"] == "complete"


def build(folder: Path) -> None:
    """The RUN line of `check` that installs: another prefix, an empty home, this machine's packages."""
    linked = packages(folder / "packages")
    (folder / "empty").mkdir()
    source = folder / "src"
    ignored = shutil.ignore_patterns(
        "__pycache__", ".git", "tests", "docs", "checkpoints", "shared", ".*cache"
    )
    shutil.copytree(CHECKOUT, source, ignore=ignored)
    [step] = [rest for word, rest in stage("check") if word == "RUN" and "pip install" in rest]
    script = re.sub(r"--mount=\S+\s+", "", step).replace("/opt/ftcheck", str(folder / "opt/ftcheck"))
    script = script.replace("/src", str(source))
    clean = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder / "empty")}
    offline = {
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": str(linked),
    }
    subprocess.run(["sh", "-ec", script], env=clean | offline, check=True, capture_output=True)
    [site] = (folder / "opt/ftcheck").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{linked}\n", encoding="utf-8")
