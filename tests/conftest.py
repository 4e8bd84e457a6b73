"""Fixtures for all tests: where the real data lies, and the shipped samples."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.project import Project
from tests.commands import end_all
from tests.places import CHECKOUT, DATA

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny, and the other core has tests to run
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # commands find their bytecode, as those of a package do


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DATA.is_dir():
        return
    for item in items:
        if item.get_closest_marker("realdata"):
            item.add_marker(pytest.mark.skip(reason="../shared/data is not here"))


@pytest.fixture(scope="session")
def realdata() -> Path:
    return DATA


@pytest.fixture(scope="session")
def samples() -> Path:
    return CHECKOUT / "policies" / "samples"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project with one rule of its own."""
    made = Project(tmp_path)
    made.rules()
    return made


@pytest.fixture
def fresh(project: Project) -> Project:
    """The same; its commands run in interpreters of their own, as a user's do."""
    project.fresh = True
    return project


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project with its report, for `gated`."""
    from tests.gate import kit

    return kit.checked(tmp_path_factory.mktemp("gate"))


@pytest.fixture
def gated(checked: Project, tmp_path: Path) -> Project:
    """A small project that was checked once: a copy, to be changed."""
    shutil.copytree(checked.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    return Project(tmp_path / "copy")


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """A test that fails or gives up leaves no command running."""
    yield
    end_all()
