"""The imports of the four packages, read from their sources: who imports whom, and by which names."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.places import CHECKOUT

PACKAGES: Mapping[str, Path] = {
    "ftcheck": CHECKOUT / "ftcheck",
    "ftcheck_rules": CHECKOUT / "rules" / "ftcheck_rules",
    "ftcheck_plugins": CHECKOUT / "plugins" / "ftcheck_plugins",
    "ftcheck_trainers": CHECKOUT / "trainers" / "ftcheck_trainers",
}


@dataclass(frozen=True, slots=True)
class Arrow:
    """One module imports another, by these names; imports for annotations only count too."""

    source: str
    target: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.source} imports {', '.join(self.names)} from {self.target}"


Modules = Mapping[str, str]
"""Module name -> source text."""


def modules() -> dict[str, str]:
    """All modules of the four packages."""
    return {
        _dotted(package, path.relative_to(folder)): path.read_text(encoding="utf-8")
        for package, folder in PACKAGES.items()
        for path in sorted(folder.rglob("*.py"))
    }


def file_of(module: str) -> Path:
    """Where a module lies."""
    package, _, rest = module.partition(".")
    path = PACKAGES[package].joinpath(*rest.split(".")) if rest else PACKAGES[package]
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def arrows(sources: Modules) -> list[Arrow]:
    """Every import of one of these modules by another."""
    return [arrow for name, text in sources.items() for arrow in _of_module(name, text, sources)]


def circles(found: Iterable[Arrow]) -> list[list[Arrow]]:
    """The groups of modules that import each other, as the arrows inside each group."""
    found = list(found)
    reach = {name: reached(found, [name]) for arrow in found for name in (arrow.source, arrow.target)}
    groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in reach if a in reach[a]}
    return [[one for one in found if {one.source, one.target} <= group] for group in groups]


def reached(found: Iterable[Arrow], starts: Iterable[str]) -> set[str]:
    """All modules that these modules import, themselves only where an import leads back to them."""
    targets: dict[str, set[str]] = {}
    for arrow in found:
        targets.setdefault(arrow.source, set()).add(arrow.target)
    seen: set[str] = set()
    todo = [target for start in starts for target in targets.get(start, ())]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(targets.get(name, ()))
    return seen


def _dotted(package: str, path: Path) -> str:
    parts = [package, *path.with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _of_module(name: str, text: str, sources: Modules) -> Iterator[Arrow]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in sources:
                    yield Arrow(name, alias.name, (alias.name,))
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from _from(name, node.module, [alias.name for alias in node.names], sources)


def _from(name: str, module: str, names: list[str], sources: Modules) -> Iterator[Arrow]:
    inside = [one for one in names if f"{module}.{one}" in sources]
    for one in inside:
        yield Arrow(name, f"{module}.{one}", (one,))
    outside = tuple(one for one in names if one not in inside)
    if outside and module in sources:
        yield Arrow(name, module, outside)
