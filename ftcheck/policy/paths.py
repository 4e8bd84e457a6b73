"""Makes the paths of a job absolute: each is relative to the file that states it."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ftcheck.attest.signers import is_identity
from ftcheck.field_metadata import LibraryKeys, Mark, PathKind, having, marked
from ftcheck.importers.records import FRAMEWORKS
from ftcheck.policy.extra_keys import sections
from ftcheck.policy.nodes import Node, with_items
from ftcheck.policy.overrides import PLACE
from ftcheck.settings import GateSettings, JobSettings

DATA_FILE = re.compile(r"\.(jsonl?|parquet|csv|tsv|txt|arrow|gz|zst|bz2|xz|zip)$", re.IGNORECASE)
HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$")

Folders = Mapping[str, Path]
"""The folder that a stating file's paths are relative to, by the file's path as messages name it."""


def _file(text: str, folder: Path) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(text)))


def _model(text: str, folder: Path) -> str:
    """A folder where there is one or where it is written as one; else the hub's name for it."""
    path = _file(text, folder)
    written = text.startswith((".", "/", "~")) or text.count("/") > 1
    return path if written or os.path.isdir(path) else text


def _data(text: str, folder: Path) -> str:
    """A path or a glob; the hub's name of a data set where no such path exists and it looks like one."""
    path = _file(text, folder)
    if "://" in text:
        return text
    named = HUB_ID.match(text) and not DATA_FILE.search(text) and not text.startswith((".", "~"))
    return text if named and not os.path.exists(path) else path


def _signer(text: str, folder: Path) -> str:
    """The file of a public key; an identity stays as it is."""
    return text if is_identity(text) else _file(text, folder)


MAKERS: Mapping[PathKind, Callable[[str, Path], str]] = {
    PathKind.FILE: _file,
    PathKind.MODEL: _model,
    PathKind.DATA: _data,
    PathKind.SIGNER: _signer,
}


@cache
def _kinds() -> Mapping[tuple[str, ...], PathKind]:
    """What the paths of a job name, by their keys."""
    found: dict[tuple[str, ...], PathKind] = {("from", name): PathKind.FILE for name in FRAMEWORKS}
    for keys, owner in sections(JobSettings).items():
        found |= {(*keys, name): kind for name, kind in having(owner, PathKind).items()}
        for library in having(owner, LibraryKeys).values():
            found |= {(*keys, name): PathKind.FILE for name in library.paths}
    return found


@cache
def _outputs() -> frozenset[tuple[str, ...]]:
    """The keys of the paths that a job writes to."""
    owners = sections(JobSettings).items()
    return frozenset((*keys, name) for keys, owner in owners for name in marked(owner, Mark.OUTPUT))


def folders(files: Mapping[str, Path]) -> Folders:
    """Where the paths of each file begin; those of `--set` begin in the current folder."""
    return {shown: file.parent for shown, file in files.items()} | {PLACE: Path.cwd()}


def resolved(job: Node, where: Folders) -> Node:
    """The job with absolute paths."""
    for keys, kind in _kinds().items():
        job = _changed(job, keys, MAKERS[kind], where)
    return job


def resolved_gate(gate: Node, where: Folders) -> Node:
    """The section `gate` with absolute paths."""
    for name, kind in having(GateSettings, PathKind).items():
        gate = _changed(gate, (name,), MAKERS[kind], where)
    return gate


def _changed(node: Node, keys: tuple[str, ...], make: Callable[[str, Path], str], where: Folders) -> Node:
    if keys:
        child = node.items.get(keys[0])
        if child is None:
            return node
        return with_items(node, {**node.items, keys[0]: _changed(child, keys[1:], make, where)})
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(_changed(item, (), make, where) for item in node.value))
    if not isinstance(node.value, str) or not node.value:
        return node
    return replace(node, value=make(node.value, where.get(node.at.path or PLACE, where[PLACE])))


def inputs(job: Node) -> Iterator[Node]:
    """Every value of a job that may be the path of something it reads."""
    for keys in (keys for keys in _kinds() if keys not in _outputs()):
        node: Node | None = job
        for key in keys:
            node = node.items.get(key) if node else None
        if node is not None:
            yield from node.value if isinstance(node.value, tuple) else (node,)


def relative(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A plain job with its absolute paths made relative to a folder, in POSIX style."""
    made: dict[str, Any] = dict(job)
    for keys in _kinds():
        made = _relative(made, keys, folder)
    return made


def _relative(value: Any, keys: tuple[str, ...], folder: Path) -> Any:
    if keys:
        if not isinstance(value, Mapping) or value.get(keys[0]) is None:
            return value
        return {**value, keys[0]: _relative(value[keys[0]], keys[1:], folder)}
    if isinstance(value, list):
        return [_relative(item, (), folder) for item in value]
    if isinstance(value, str) and os.path.isabs(value):
        return Path(os.path.relpath(value, folder)).as_posix()
    return value
