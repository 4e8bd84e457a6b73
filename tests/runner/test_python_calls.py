"""The Python calls as a notebook makes them, and the names that are promised."""

import inspect
from pathlib import Path

import pytest

import ftcheck
from tests.places import CHECKOUT

NOTEBOOK = CHECKOUT / "docs" / "notebooks" / "first_check.ipynb"


@pytest.mark.filterwarnings("default")
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient is in the dev extra")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is in the dev extra")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "outputs are not committed"

    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()

    outputs = [cell["outputs"] for cell in notebook.cells if cell.get("outputs")]
    shown = next(one for cell in outputs for one in cell if "text/html" in one.get("data", {}))
    failures = next(one["text"] for cell in outputs for one in cell if one.get("name") == "stdout")
    assert "<div class=ftcheck>" in shown["data"]["text/html"]
    assert "fix:" in failures
    assert "empty" in failures


@pytest.mark.parametrize("name", [one for one in ftcheck.__all__ if not one.startswith("__")])
def test_each_promised_name_is_documented(name: str) -> None:
    """The site's page is generated from these docstrings."""
    said = inspect.getdoc(getattr(ftcheck, name))

    assert said
    assert not said.startswith(f"{name}("), "a dataclass without a docstring has its signature for one"
