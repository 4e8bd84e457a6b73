"""Reads Python scripts, notebooks and shell commands: with `ast` and `shlex` only, nothing is run."""

from pathlib import Path

from ftcheck.importers.documents import Read
from ftcheck.policy.nodes import problem
from ftcheck.records import Location


def read(file: Path, shown: str) -> Read:
    """The tree of a script."""
    return None, (problem("scripts are not read yet", Location(shown)),)
