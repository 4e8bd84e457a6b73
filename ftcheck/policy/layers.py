"""Finds the files a policy is made of: itself and what it extends, in the order they are laid."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ftcheck.errors import Problem
from ftcheck.paths import near
from ftcheck.policy import document, extra_keys, presets
from ftcheck.policy.made import Made
from ftcheck.policy.messages import did_you_mean, mismatch, shown
from ftcheck.policy.nodes import (
    Node,
    merge,
    ordered,
    plain,
    problem,
    with_items,
)
from ftcheck.settings import PolicySettings

MAX_FILES = 100
MADE = "ftcheck check"
"""Where a policy that no file holds would lie: its paths are relative to the current folder."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One policy file that was read. `preset` is the name it was asked for by, None for a path."""

    file: Path
    shown: str
    tree: Node
    preset: str | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """The files of a policy, the lowest first, itself last. Not `complete` if one could not be read."""

    layers: tuple[Layer, ...]
    problems: tuple[Problem, ...]
    complete: bool


@dataclass
class _Reading:
    """What has been read so far; `chain` holds the files that are being read now."""

    presets: Path
    layers: list[Layer] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    chain: list[Path] = field(default_factory=list)
    complete: bool = True
    read: dict[Path, tuple[Node | None, tuple[Problem, ...]]] = field(default_factory=dict)


def shown_path(file: Path) -> str:
    """A path as messages name it: relative below the current folder, else absolute."""
    return near(os.path.abspath(file))


def load(source: Path | Made, presets_folder: Path | None = None) -> Stack:
    """Read a policy file, or take one that was made, and all it extends."""
    reading = _Reading(presets_folder or presets.folder())
    if isinstance(source, Made):
        beside = Path.cwd() / MADE
        reading.read[beside] = source.tree, ()
        _load(reading, beside, None, source.arguments)
    else:
        _load(reading, Path(os.path.abspath(source)), None)
    return Stack(tuple(reading.layers), ordered(reading.problems), reading.complete)


def _load(reading: _Reading, file: Path, preset: str | None, shown: str | None = None) -> None:
    name = shown or shown_path(file)
    if file not in reading.read:
        reading.read[file] = document.read(file, name)
        reading.problems.extend(reading.read[file][1])
    tree = reading.read[file][0]
    if tree is None:
        reading.complete = False
        return
    tree = extra_keys.settled(PolicySettings, tree)
    reading.chain.append(file)
    for entry in _entries(reading, tree):
        _extend(reading, file, entry)
    reading.chain.pop()
    reading.layers.append(Layer(file, name, tree, preset))


def _entries(reading: _Reading, tree: Node) -> list[Node]:
    extends = tree.items.get("extends")
    if extends is None:
        return []
    if not isinstance(extends.value, tuple):
        hint = f"; write [{extends.value}]" if isinstance(extends.value, str) else ""
        message = f"must be a list of presets and paths, not {shown(plain(extends))}{hint}"
        _refuse(reading, message, extends)
        return []
    for entry in extends.value:
        if not isinstance(entry.value, str):
            _refuse(reading, mismatch(str, plain(entry)), entry)
    return [entry for entry in extends.value if isinstance(entry.value, str)]


def _extend(reading: _Reading, base: Path, entry: Node) -> None:
    found = _resolved(reading, base.parent, str(entry.value))
    trouble = found if isinstance(found, str) else _endless(reading, found[0])
    if trouble or isinstance(found, str):
        _refuse(reading, trouble or "", entry)
    else:
        _load(reading, *found)


def _endless(reading: _Reading, file: Path) -> str | None:
    """Why a file is not read (again)."""
    if file in reading.chain:
        chain = [*reading.chain[reading.chain.index(file) :], file]
        return f"circular 'extends': {' -> '.join(map(shown_path, chain))}"
    many = len(reading.layers) + len(reading.chain) >= MAX_FILES
    return f"'extends' reads more than {MAX_FILES} files" if many else None


def _refuse(reading: _Reading, message: str, entry: Node) -> None:
    reading.complete = False
    reading.problems.append(problem(message, entry.at))


def _resolved(reading: _Reading, base: Path, entry: str) -> tuple[Path, str | None] | str:
    """The file an entry of `extends` means, with its preset's name; or what is wrong with it."""
    beside = Path(os.path.abspath(base / os.path.expanduser(entry)))
    if re.search(r"[/\\]|^[.~]", entry) or (entry.endswith((".yaml", ".yml")) and beside.is_file()):
        return (beside, None) if beside.is_file() else f"no such file: {shown_path(beside)}"
    found = presets.find(entry, reading.presets)
    if found is not None:
        return Path(os.path.abspath(found)), entry.removesuffix(presets.SUFFIX)
    local = next(
        (f"{entry}{end}" for end in ("", ".yaml", ".yml") if (base / f"{entry}{end}").is_file()), None
    )
    if local:
        return f"unknown preset '{entry}'; write './{local}' for the file next to this one"
    known = presets.names(reading.presets)
    listed = ", ".join(known) if known else "none"
    return f"unknown preset '{entry}'{did_you_mean(entry, known)} (available: {listed})"


def merged(layers: Sequence[Layer]) -> Node:
    """All layers laid on each other. A policy inherits neither the name nor `extends` of what it extends."""
    *under, top = layers
    below: Node | None = None
    for layer in under:
        kept = {k: v for k, v in layer.tree.items.items() if k not in ("name", "extends")}
        own = with_items(layer.tree, kept)
        below = merge(below, own) if below else own
    own = with_items(top.tree, {k: v for k, v in top.tree.items.items() if k != "extends"})
    return replace(merge(below, own), at=own.at) if below else own


def plugins_of(tree: Node) -> tuple[str, ...]:
    """The plugins that are named, as far as that can be read."""
    named = plain(tree.items["plugins"]) if "plugins" in tree.items else ()
    return tuple(name for name in named if isinstance(name, str)) if isinstance(named, list) else ()
