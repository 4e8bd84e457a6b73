"""What is shipped: only names that start with ftcheck, each typed, with the policies inside."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from ftcheck_rules.host.machine import release

from tests.fresh_environments import build, fresh_environment, install, packages
from tests.places import CHECKOUT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
    ]
    subprocess.run([*command, str(CHECKOUT)], check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_every_top_level_name_starts_with_ftcheck_and_is_typed(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    packages = {top for top in tops if not top.endswith(".dist-info")}

    assert packages == {"ftcheck", "ftcheck_rules", "ftcheck_plugins", "ftcheck_trainers"}
    for package in packages:
        assert f"{package}/py.typed" in wheel.namelist()


def test_the_policies_and_their_samples_are_inside(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())

    for policy in (CHECKOUT / "policies").glob("*.yaml"):
        assert f"ftcheck/_policies/{policy.name}" in names
    assert "ftcheck/_policies/samples/models/mapper-tiny/model.safetensors" in names
    assert not any("/checkpoints/" in name or "__pycache__" in name for name in names)


def test_the_tables_are_inside(wheel: zipfile.ZipFile) -> None:
    for table in ("trainer_arguments.json", "version_windows.json", "report.schema.json"):
        assert f"ftcheck/tables/{table}" in wheel.namelist()


def test_the_lowest_versions_that_are_tested_are_the_floors_that_are_promised() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    floors = {name: floor.split(",")[0] for name, _, floor in (one.partition(">=") for one in stated)}
    lines = (CHECKOUT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    higher = {"pyarrow": "21.0.0", "torch": "2.13.0"}  # trl wants it; no lower CPU build can be had

    assert tested.keys() == floors.keys()
    for name, floor in floors.items():
        assert release(tested[name]) == release(higher.get(name, floor)), name


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages(tmp_path_factory.mktemp("dependencies") / "packages")


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_what_is_released_installs_and_runs_the_main_job(kind: str, linked: Path, tmp_path: Path) -> None:
    """Half a minute each on two busy cores: the packages that ftcheck needs are this environment's."""
    python = fresh_environment(tmp_path / "environment", linked)
    install(python, str(build(kind, CHECKOUT, tmp_path)))
    folder = tmp_path / "empty"
    folder.mkdir()
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [str(python.with_name("ftcheck"))]

    for words in (["init", "sample"], ["run", "policies/night_before.yaml", "--offline", "-q"]):
        done = subprocess.run(
            [*command, *words], cwd=folder, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "gate open for mapper, analyst" in done.stdout
    code = "import ftcheck; print(ftcheck.__file__)"
    where = subprocess.run(
        [str(python), "-c", code], cwd=folder, env=clean, capture_output=True, text=True, check=True
    )
    assert where.stdout.startswith(str(tmp_path))


def test_the_licence_is_in_both(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    assert [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    with tarfile.open(build("sdist", CHECKOUT, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "README.md", "light/ftcheck_build.py", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", ".github/"))]
