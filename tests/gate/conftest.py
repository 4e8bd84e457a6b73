"""The tests of the gate change a project that was checked."""

import pytest

from tests.cli.project import Project


@pytest.fixture
def project(gated: Project) -> Project:
    """Under the name that all tests have for theirs."""
    return gated
