"""Lays what `from` imports under a job, and says where the policy states something else."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftcheck.errors import Problem
from ftcheck.importers.records import FRAMEWORKS, Difference, Imported
from ftcheck.paths import near
from ftcheck.policy.layers import Layer
from ftcheck.policy.messages import did_you_mean, mismatch
from ftcheck.policy.nodes import Node, merge, plain, problem, with_items
from ftcheck.policy.overrides import PLACE
from ftcheck.records import Location

COMPARED = ("model", "data", "training")
"""Sections that a framework's configuration states."""

Laid = tuple[Node, Mapping[str, Imported], Sequence[Problem]]


def laid_under(tree: Node, stated: Node, layers: Sequence[Layer]) -> Laid:
    """The tree with what each job imports under what the policy states, the records by job, and problems.

    `stated` is the tree without `defaults` under its jobs: an import lies between the two.
    """
    jobs = tree.items["jobs"].items if "jobs" in tree.items else {}
    if not any("from" in job.items for job in jobs.values()):
        return tree, {}, ()
    laid, records, problems = dict(jobs), dict[str, Imported](), list[Problem]()
    own = stated.items["jobs"].items
    for name, job in jobs.items():
        named = _named(job, problems)
        if named is None:
            continue
        framework, file = named
        folder = _folder(file, layers)
        found = _read(framework, file, folder)
        problems.extend(found.problems)
        if found.tree is None or found.imported is None:
            continue
        beside = own.get(name, Node({}, job.at))
        laid[name] = replace(merge(merge(job, found.tree), beside), at=job.at, key=job.key)
        differences = tuple(_differences(found.imported, found.tree, laid[name]))
        records[name] = replace(found.imported, differences=differences)
    return with_items(tree, {**tree.items, "jobs": with_items(tree.items["jobs"], laid)}), records, problems


def _named(job: Node, problems: list[Problem]) -> tuple[str, Node] | None:
    """The framework and the file that `from` names; None where it names none, or not as it should."""
    stated = job.items.get("from")
    if stated is None or stated.value is None:
        return None
    example = "write it as in {axolotl: qlora.yml}"
    if len(stated.items) != 1:
        problems.append(problem(f"must name one framework and its file: {example}", stated.place))
        return None
    [(framework, file)] = stated.items.items()
    if framework not in FRAMEWORKS:
        known = ", ".join(FRAMEWORKS)
        meant = did_you_mean(framework, FRAMEWORKS)
        problems.append(
            problem(f"unknown framework '{framework}'{meant} (known: {known})", file.key or file.at)
        )
        return None
    if not isinstance(file.value, str) or not file.value:
        problems.append(problem(mismatch(str, plain(file)), file.at))
        return None
    return framework, file


def _folder(file: Node, layers: Sequence[Layer]) -> Path:
    if file.at.path == PLACE:
        return Path.cwd()
    return next((layer.file.parent for layer in layers if layer.shown == file.at.path), Path.cwd())


def _read(framework: str, file: Node, folder: Path) -> Any:
    from ftcheck.importers import importing

    path = Path(os.path.abspath(folder / os.path.expanduser(str(file.value))))
    if not path.is_file():
        at = problem(f"no such file: {near(str(path))}", file.at)
        return importing.Result(problems=(at,))
    return importing.read(framework, path, folder=folder)


def _differences(record: Imported, layer: Node, job: Node) -> Iterator[Difference]:
    """Settings of the job that are not those of the file, or that the file could state and does not."""
    theirs = {to: node for to, node in _leaves(layer) if not isinstance(node.value, Mapping)}
    ours = {to: node for to, node in _leaves(job) if to.partition(".")[0] in COMPARED}
    for to, node in ours.items():
        if _is_from(node, record) or to in record.unknown:
            continue
        found = theirs.get(to)
        if found is not None and not _same(plain(found), plain(node)):
            yield Difference(to, plain(node), plain(found), _key(record, to), _place(found), node.place)
        elif found is None and _could(record, to) and plain(node) is not None:
            at = Location(record.path)
            yield Difference(to, plain(node), None, _key(record, to), at, node.place, stated=False)
    for to in theirs.keys() - ours.keys():
        yield from _dropped(record, theirs[to], job, to)


def _dropped(record: Imported, found: Node, job: Node, to: str) -> Iterator[Difference]:
    """A value of the file that a section of the policy replaces: `quantization: null` over four keys."""
    node: Node | None = job
    for step in to.split("."):
        inside = node.items.get(step) if node is not None else None
        if inside is None:
            break
        node = inside
    if node is not None and not _is_from(node, record):
        yield Difference(to, None, plain(found), _key(record, to), _place(found), node.place)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one == other or os.path.normpath(one) == os.path.normpath(other)
    return bool(one == other)


def _leaves(node: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    if not node.items:
        if prefix:
            yield prefix, node
        return
    for key, child in node.items.items():
        yield from _leaves(child, f"{prefix}.{key}" if prefix else key)


def _is_from(node: Node, record: Imported) -> bool:
    return node.at.path in record.files


def _place(node: Node) -> Location:
    place = node.key or node.at
    return replace(place, yaml_path=None) if place.line else place


def _could(record: Imported, to: str) -> bool:
    """Whether the framework has a key for a setting, by itself or by the section that it is in."""
    return any(to == one or to.startswith(f"{one}.") for one in record.could_state)


def _key(record: Imported, to: str) -> str | None:
    """The file's key that states a setting, or the key that its default is of."""
    for mapped in record.mapped:
        if to in mapped.to:
            return mapped.key
    return next((one.key for one in record.defaults if one.to == to), None)
