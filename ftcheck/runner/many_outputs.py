"""Where the reports of several policies go: `-o FORMAT=FOLDER/`, or a path with `{policy}` in it."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftcheck.errors import UsageError
from ftcheck.extension.reporters import Reporter
from ftcheck.runner.outputs import OutputError, parse_outputs

POLICY = "{policy}"
PRINTED = ("github",)
"""Formats of which several reports may be printed one behind the other."""
INDEX = "index.html"


@dataclass(frozen=True, slots=True)
class Places:
    """Paths with `{policy}` in them, by format as `-o` takes them, and the folder of the index page."""

    specs: tuple[str, ...] = ()
    index: Path | None = None

    def of(self, name: str) -> tuple[str, ...]:
        """What `-o` says for one policy, by its name."""
        return tuple(spec.replace(POLICY, name) for spec in self.specs)


def places(specs: Sequence[str], reporters: Mapping[str, Reporter], names: Collection[str]) -> Places:
    """Read `-o` for several policies, and make the folders.

    Raises `UsageError` for a path that all of them would write to, and for what is wrong with one policy's.
    """
    read = tuple(_spec(one, reporters) for one in specs)
    parse_outputs(tuple(one.replace(POLICY, "policy") for one in read), reporters)
    found = Places(read, next((folder for one in read if (folder := _index(one)) is not None), None))
    taken = names if found.index is not None else ()
    if Path(INDEX).stem in taken:
        raise UsageError(f"-o html: a policy is called '{Path(INDEX).stem}', as the index page is: rename it")
    for name in names:
        for spec in found.of(name):
            _make_folder(spec)
    return found


def _spec(spec: str, reporters: Mapping[str, Reporter]) -> str:
    name, _, path = spec.partition("=")
    if not path or path == "-":
        if name in reporters and name not in PRINTED:
            raise UsageError(f"-o {spec}: with several policies name a folder: -o {name}=reports/")
        return spec
    if POLICY in path or name not in reporters:
        return spec
    if path.endswith(("/", os.sep)) or Path(path).is_dir():
        return f"{name}={Path(path) / (POLICY + reporters[name].suffix)}"
    stem, suffix = os.path.splitext(path)
    raise UsageError(
        f"-o {spec}: several policies would write to it: name a folder ({name}={Path(path).parent}/), or a"
        f" file for each: {name}={stem}-{POLICY}{suffix}"
    )


def _index(spec: str) -> Path | None:
    """The folder in which all pages lie, if this is about pages and there is one."""
    name, _, path = spec.partition("=")
    folder = Path(path).parent
    return folder if name == "html" and POLICY in Path(path).name and POLICY not in str(folder) else None


def _make_folder(spec: str) -> None:
    path = spec.partition("=")[2]
    if not path or path == "-":
        return
    folder = Path(os.path.expanduser(path)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"-o {spec}: {folder}: {error.strerror or error}") from error
