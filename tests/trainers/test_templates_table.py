"""TRL's training templates, as a table: the same bytes with TRL and without it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ftcheck_trainers import templates_table

from ftcheck import digest, tables, templates
from tests.hidden import without

FOLDER = templates.trl_templates()
INSTALLED = list(templates.pairs_of(FOLDER)) if FOLDER is not None else []
pytestmark = pytest.mark.skipif(not INSTALLED, reason="TRL is not installed")

TELLS = """
import json, sys
from ftcheck import digest, templates
assert templates.trl_templates() is None
stock = json.loads(sys.stdin.read())
print(json.dumps([digest.of_text(templates.training_template(one) or "") for one in stock]))
print(templates.training_template("none of them"), templates.trl_version())
"""


@pytest.mark.parametrize(("name", "stock", "training"), INSTALLED, ids=[one[0] for one in INSTALLED])
def test_each_entry_makes_the_installed_trls_training_template(name: str, stock: str, training: str) -> None:
    entry = tables.load("training_templates")["templates"][name]

    assert entry["sha256"] == digest.of_text(stock)
    assert entry["training_sha256"] == digest.of_text(training)
    assert templates._known_template(stock) == training


def test_the_table_is_what_the_installed_trl_has() -> None:
    table, made = tables.load("training_templates"), templates_table.make_table()

    assert {**made, "as_of": table["as_of"]} == table
    assert len(table["templates"]) > 20


def test_one_character_more_is_another_template() -> None:
    assert templates._known_template(INSTALLED[0][1] + " ") is None


def test_without_trl_the_templates_are_the_same(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", TELLS],
        input=json.dumps([stock for _, stock, _ in INSTALLED]),
        env=without(tmp_path / "hides", "trl"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    assert json.loads(said[0]) == [digest.of_text(training) for _, _, training in INSTALLED]
    assert said[1] == f"None {tables.load('training_templates')['versions']['trl']}"


def test_edits_that_lie_close_together_are_one() -> None:
    assert templates_table.edits("abc" * 10, "x" + "abc" * 10 + "y") == [[0, 0, "x"], [30, 0, "y"]]
    assert templates_table.edits("abcdef", "xabcdefy") == [[0, 6, "xabcdefy"]]
