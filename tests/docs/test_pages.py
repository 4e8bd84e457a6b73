"""Every command and its output on the site is what happens when somebody types it."""

import re
from pathlib import Path

import pytest

from ftcheck.cli import COMMANDS
from tests.docs.blocks import blocks, name_of, pages, steps
from tests.docs.running import COMMANDS as TYPED
from tests.docs.running import run_page
from tests.places import CHECKOUT

pytest.importorskip("trl", reason="needs the [train] extra")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pages' folders lie."""
    return tmp_path_factory.mktemp("pages")


@pytest.mark.parametrize("path", pages(), ids=name_of)
def test_a_page_shows_what_happens(path: Path, place: Path) -> None:
    assert [str(one) for one in run_page(path, place)] == []


def test_what_is_not_run_says_why_and_is_little() -> None:
    every = [block for path in pages() for block in blocks(path) if block.language in TYPED]
    left = [block for block in every if block.reason is not None]

    assert all(len(str(block.reason)) > 10 for block in left)
    assert len(left) == NOT_RUN, "\n".join(f"{block}: {block.reason}" for block in left)


NOT_RUN = 19
"""Blocks of commands that are not run: they need a GPU, a network, or a program that is not here."""


def test_what_another_test_holds_is_held_by_a_test_that_is_there() -> None:
    named = [(block, name) for path in pages() for block in blocks(path) for name in block.comments("shown")]

    assert [f"{block}: {name}" for block, name in named if not (CHECKOUT / name).exists()] == []


def test_every_command_that_is_named_exists() -> None:
    for path in pages():
        inline = re.findall(r"`ftcheck ([a-z]+)", path.read_text(encoding="utf-8"))
        shown = [step.command for block in blocks(path) if block.language in TYPED for step in steps(block)]
        named = {*inline, *(word for one in shown for word in re.findall(r"\bftcheck ([a-z]+)", one))}
        assert named <= set(COMMANDS), f"{name_of(path)}: {named - set(COMMANDS)}"
