"""Copies a shipped policy, and the files that it names, into a folder of one's own."""

import filecmp
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from ftcheck.errors import PolicyError, UsageError
from ftcheck.inputs.work_folders import work_folder
from ftcheck.plurals import counted
from ftcheck.policy import paths, presets
from ftcheck.policy.layers import Layer, shown_path
from ftcheck.policy.messages import did_you_mean
from ftcheck.policy.reading import Draft, draft

DEFAULT = "night_before"
FOLDER = "policies"
SKIPPED = {"__pycache__"}

Copies = Mapping[Path, Path]


def init(preset: str | None, folder: Path, *, within: Path | None = None) -> list[Path]:
    """Copy a shipped policy into `folder/policies/`; returns the files written, the policy first.

    What it names under the presets' own folder (sample data, models) comes along; presets that it
    extends by name need no copy. What an earlier `init` wrote is kept; nothing is overwritten, and on
    failure nothing is left behind.
    Raises `UsageError`.
    """
    shipped = Path(os.path.abspath(within or presets.folder()))
    source = _source(preset or DEFAULT, shipped)
    found = draft(source, presets=shipped)
    if not found.layers:
        raise PolicyError(f"{source}: the shipped policy cannot be read", found.problems)
    files = _files(found, source, shipped)
    copies = {file: folder / FOLDER / file.relative_to(shipped) for file in files}
    if not copies[source].exists():
        copies = {file: to for file, to in copies.items() if not _is_same(file, to)}
    taken = [target for target in copies.values() if target.exists() or target.is_symlink()]
    if taken:
        more = f" (and {counted(len(taken) - 1, 'more file')})" if len(taken) > 1 else ""
        raise UsageError(f"{shown_path(taken[0])} already exists{more}: nothing was written")
    _copy(copies, folder)
    return list(copies.values())


def _is_same(file: Path, target: Path) -> bool:
    """Whether a copy of the file is there already, byte for byte."""
    return target.is_file() and not target.is_symlink() and filecmp.cmp(file, target, shallow=False)


def _source(preset: str, shipped: Path) -> Path:
    source = presets.find(preset, shipped)
    if source is None:
        known = presets.names(shipped)
        meant = did_you_mean(preset, known)
        raise UsageError(f"unknown preset '{preset}'{meant} (available: {', '.join(known) or 'none'})")
    return source


def _files(found: Draft, source: Path, shipped: Path) -> list[Path]:
    """The policy, the files it extends by path, and what they name below the presets' folder."""
    copied = [layer for layer in found.layers if layer.preset is None]
    files = [source, *(layer.file for layer in copied), *_named(found, copied)]
    inside = [file for file in files if file.is_relative_to(shipped)]
    return list(dict.fromkeys(inside))


def _named(found: Draft, copied: list[Layer]) -> Iterator[Path]:
    shown = {layer.shown for layer in copied}
    jobs = found.tree.items.get("jobs") if found.tree else None
    for name, job in jobs.items.items() if jobs else ():
        for node in paths.inputs(paths.resolved(job, found.folders_of(name))):
            if node.at.path in shown and isinstance(node.value, str) and os.path.isabs(node.value):
                yield from _expanded(Path(node.value))


def _expanded(path: Path) -> Iterator[Path]:
    if path.is_dir():
        inside = (file for file in sorted(path.rglob("*")) if not SKIPPED & set(file.parts))
        yield from (file for file in inside if file.is_file())
    elif path.is_file():
        yield path
    elif any(sign in path.name for sign in "*?["):
        yield from (file for file in sorted(path.parent.glob(path.name)) if file.is_file())


def _copy(copies: Copies, folder: Path) -> None:
    """Copy everything aside first, then move it into place; undo what was moved if that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    moved: list[Path] = []
    try:
        with work_folder(".ftcheck-init-", folder) as aside:
            _moved(copies, aside, moved)
    except OSError as error:
        for target in moved:
            target.unlink(missing_ok=True)
        raise UsageError(f"{shown_path(folder)}: nothing was written: {error.strerror}") from error


def _moved(copies: Copies, aside: Path, moved: list[Path]) -> None:
    """Copy all, then move each into place; `moved` tells how far it came."""
    for number, file in enumerate(copies):
        shutil.copyfile(file, aside / str(number))
    for number, target in enumerate(copies.values()):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(aside / str(number), target)
        moved.append(target)
