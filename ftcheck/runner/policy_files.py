"""Which policies a command is about: files, folders and globs on its command line."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ftcheck.errors import UsageError
from ftcheck.inputs.bounded import expanded

SUFFIXES = (".yaml", ".yml")


def is_several(stated: Sequence[str]) -> bool:
    """Whether arguments may stand for several policies: more than one, a folder, or a glob."""
    return len(stated) > 1 or any(_is_folder(one) or _is_glob(one) for one in stated)


def policy_files(stated: Sequence[str]) -> tuple[str, ...]:
    """The policies that arguments stand for, each once, in the order of the arguments.

    Of a folder those that lie in it, not below it. Raises `UsageError` for a folder and for a glob without
    any: a check of nothing is never a pass.
    """
    found: dict[str, str] = {}
    for file in (file for one in stated for file in _files(one)):
        found.setdefault(os.path.realpath(expanded(file)), file)
    return tuple(found.values())


def _files(stated: str) -> list[str]:
    if _is_folder(stated):
        folder = Path(expanded(stated))
        files = [str(one) for one in sorted(folder.iterdir()) if _is_policy(one)]
        if not files:
            raise UsageError(f"{stated}: this folder contains no policy (*.yaml, *.yml)")
        return files
    if not _is_glob(stated):
        return [stated]
    files = [one for one in sorted(glob.glob(expanded(stated), recursive=True)) if not os.path.isdir(one)]
    if not files:
        raise UsageError(f"{stated}: matches no file")
    return files


def _is_policy(file: Path) -> bool:
    """Whether a name in a folder is a policy's; a link that leads nowhere is one that cannot be read."""
    return file.suffix in SUFFIXES and not file.name.startswith(".") and not file.is_dir()


def _is_folder(stated: str) -> bool:
    return os.path.isdir(expanded(stated))


def _is_glob(stated: str) -> bool:
    """Whether a name is a pattern: not one of a file that is there, whatever characters it has."""
    return glob.has_magic(stated) and not os.path.exists(expanded(stated))


def names_of(files: Sequence[str]) -> dict[str, str]:
    """A name for each policy that no other has: its file's, with folders where files are called alike.

    `a.yaml` and `a.yml` of one folder keep their suffixes.
    """
    real = {file: Path(os.path.abspath(expanded(file))) for file in files}
    stems = Counter(path.with_suffix("") for path in real.values())
    shortened = {
        file: path if stems[path.with_suffix("")] > 1 else path.with_suffix("") for file, path in real.items()
    }
    paths = {file: path.parts for file, path in shortened.items()}
    names: dict[str, str] = {}
    for depth in range(1, max(map(len, paths.values()), default=0) + 1):
        for file, parts in paths.items():
            if file not in names:
                names[file] = "-".join(part.strip("/\\") for part in parts[-depth:])
        taken = [*names.values()]
        names = {file: name for file, name in names.items() if taken.count(name) == 1}
        if len(names) == len(paths):
            break
    return {file: names.get(file, f"policy-{number}") for number, file in enumerate(files, start=1)}
