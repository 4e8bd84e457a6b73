"""What is shipped: only names that start with ftcheck, each typed, with the policies inside."""

import subprocess
import sys
import tomllib
import zipfile

import pytest
from ftcheck_rules.host.machine import release

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


def test_the_style_and_the_script_of_pages_are_inside(wheel: zipfile.ZipFile) -> None:
    for part in ("page.css", "page.js"):
        assert f"ftcheck/report/html/{part}" in wheel.namelist()


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
