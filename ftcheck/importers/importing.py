"""Reads a configuration: finds its framework, lets that importer take its keys, and says what is wrong."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ftcheck.errors import Problem
from ftcheck.importers import detect as detection
from ftcheck.importers import documents, scripts
from ftcheck.importers.records import FRAMEWORKS, NAMES, Imported
from ftcheck.importers.sheet import Sheet, Source, facts
from ftcheck.paths import near
from ftcheck.policy.nodes import Node, problem
from ftcheck.records import Location

WEAK = frozenset({"trl"})
"""What a file is taken for that only names a model: it may be of another framework."""
CLOSE = {"trl": frozenset({"alignment-handbook", "unsloth"}), "alignment-handbook": frozenset({"trl"})}
"""Frameworks whose files may look like another's: they share TRL's arguments."""
SCRIPTS = (".py", ".ipynb", ".sh")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an import: the layer and the record, or the problems."""

    tree: Node | None = None
    imported: Imported | None = None
    problems: tuple[Problem, ...] = ()


def read(framework: str | None, file: Path, *, folder: Path) -> Result:
    """Import a file; `framework` None: as its content says.

    `folder` is where the framework is started: paths inside the file are relative to it.
    """
    shown = near(os.path.abspath(file))
    tree, problems = tree_of(file, shown)
    if tree is None or problems:
        return Result(problems=problems)
    found = detection.detect(tree)
    wrong = _mistaken(framework, found, shown)
    if wrong is not None:
        return Result(problems=(wrong,))
    chosen = framework or found
    assert chosen is not None
    return imported(chosen, Source(file, shown, tree, folder))


def tree_of(file: Path, shown: str) -> documents.Read:
    """The tree of a configuration or script, and what is wrong with it."""
    return scripts.read(file, shown) if file.suffix in SCRIPTS else documents.read(file, shown)


def framework_of(file: Path) -> str | None:
    """The framework whose training a file configures; None for another file, or one that is not readable."""
    tree, _ = tree_of(file, str(file))
    found = detection.detect(tree) if tree is not None else None
    return found if found in FRAMEWORKS else None


def _mistaken(framework: str | None, found: str | None, shown: str) -> Problem | None:
    at = Location(shown, 1, 1)
    if found is None and framework is None:
        return problem(
            f"is not a configuration of a framework that ftcheck reads ({', '.join(NAMES.values())})", at
        )
    if framework is None or found in (None, framework) or found in CLOSE.get(framework, WEAK):
        return None
    assert found is not None
    return problem(f"looks like a configuration of {NAMES[found]}, not of {NAMES[framework]}", at)


def imported(framework: str, source: Source) -> Result:
    """The layer and the record of a configuration that was read."""
    name = framework.replace("-", "_")
    sheet = Sheet(framework, source, facts(name))
    semantics: Callable[[Sheet], None] = import_module(f"ftcheck.importers.{name}").semantics
    if framework != "torchtune":  # which follows references first
        sheet.unresolved()
    semantics(sheet)
    sheet.rest()
    return Result(sheet.tree(), sheet.imported())
