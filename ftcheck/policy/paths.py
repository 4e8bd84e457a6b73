"""Makes the paths of a job absolute: each is relative to the file that states it."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftcheck.policy.nodes import Node, with_items
from ftcheck.policy.overrides import PLACE

DATA_FILE = re.compile(r"\.(jsonl?|parquet|csv|tsv|txt|arrow|gz|zst|bz2|xz|zip)$", re.IGNORECASE)
HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$")

OUTPUTS = {("training", "output_dir"), ("serving", "log_path"), ("run",)}

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


PATHS: Mapping[tuple[str, ...], Callable[[str, Path], str]] = {
    ("model", "name"): _model,
    ("model", "tokenizer"): _model,
    ("model", "chat_template"): _file,
    ("data", "train"): _data,
    ("data", "eval"): _data,
    ("data", "gold", "path"): _file,
    ("data", "benchmarks"): _data,
    ("data", "exclude"): _file,
    ("training", "deepspeed"): _file,
    ("training", "output_dir"): _file,
    ("serving", "tokenizer"): _model,
    ("serving", "chat_template"): _file,
    ("serving", "output_schema"): _file,
    ("serving", "rules"): _file,
    ("serving", "log_path"): _file,
    ("serving", "load_report"): _file,
    ("evaluation", "tokenizer"): _model,
    ("evaluation", "chat_template"): _file,
    ("trainer", "files"): _file,
    ("run",): _file,
    ("baseline",): _file,
}


def folders(files: Mapping[str, Path]) -> Folders:
    """Where the paths of each file begin; those of `--set` begin in the current folder."""
    return {shown: file.parent for shown, file in files.items()} | {PLACE: Path.cwd()}


def resolved(job: Node, where: Folders) -> Node:
    """The job with absolute paths."""
    for keys, make in PATHS.items():
        job = _changed(job, keys, make, where)
    return job


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
    return replace(node, value=make(node.value, where[node.at.path or PLACE]))


def inputs(job: Node) -> Iterator[Node]:
    """Every value of a job that may be the path of something it reads."""
    for keys in (keys for keys in PATHS if keys not in OUTPUTS):
        node: Node | None = job
        for key in keys:
            node = node.items.get(key) if node else None
        if node is not None:
            yield from node.value if isinstance(node.value, tuple) else (node,)


def relative(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A plain job with its absolute paths made relative to a folder, in POSIX style."""
    made: dict[str, Any] = dict(job)
    for keys in PATHS:
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
