"""A Python in which some packages are not installed: for what must work without them."""

import os
from pathlib import Path

TRAINING = (
    "trl",
    "torch",
    "datasets",
    "peft",
    "bitsandbytes",
    "accelerate",
    "orjson",
    "gigatoken",
    "highspy",
)
"""What `pip install ftcheck` does not bring."""

HIDES = """
import importlib.machinery, sys
_find = importlib.machinery.PathFinder.find_spec
_hidden = frozenset({names!r})


class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.partition(".")[0] in _hidden else _find(fullname, path, target)


sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
"""


def without(folder: Path, *names: str) -> dict[str, str]:
    """The environment of a process, and of those that it starts, that finds none of these packages."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(HIDES.format(names=names), encoding="utf-8")
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [before])])}
