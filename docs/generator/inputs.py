"""What rules may ask for by argument name, with the type of each input and what it offers."""

import inspect
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin, get_type_hints

from docs.generator import markdown as md
from docs.generator.classes import members_of
from docs.generator.signatures import annotation
from ftcheck.extension.plugin_host import make_host
from ftcheck.inputs.container import Inputs, Run
from ftcheck.inputs.metric_history import MetricHistory
from ftcheck.settings import Job

GIVEN = {
    "job": (Job, "The job under test, with its settings and their places in the policy."),
    "jobs": (Job, "All jobs of the policy, as a tuple."),
    "run": (Run, "What the run lends to loaders: a work folder, and switches."),
    "inputs": (Inputs, "The container itself, to open an input only where it is needed."),
    "metrics": (MetricHistory, "The latest logs of a training; for rules of stage `during`."),
}
"""Inputs that need no loader."""


def page() -> str:
    """The page of the inputs."""
    loaders = make_host().loaders
    asked = {name for one in make_host().rules.values() for name in one.inputs if name in loaders}
    wanted = sorted({*asked, *GIVEN})
    kinds: dict[str, type[Any]] = {}
    rows = []
    for name in wanted:
        kind, optional, words = _of(name)
        if kind is not None:
            kinds[kind.__name__] = kind
        rows.append(
            (md.anchored(f"input-{name}", md.code(name)), _shown(kind, optional, name), md.line(words))
        )
    return md.page(
        "Inputs of rules",
        "A rule asks for an input by naming an argument after it. Inputs are opened once, when the first "
        "rule asks; one that cannot be opened makes the check errored, and closes the gate. `None` means "
        "that the job has no such thing. Rules never tokenise and open no file themselves.",
        md.table(("Argument", "Type", "What it is"), rows),
        "## What they offer",
        *(part for name in sorted(kinds) for part in _type(kinds[name])),
    )


def _of(name: str) -> tuple[Any, bool, str]:
    """An input's type, whether it may be None, and what it is in a line."""
    if name in GIVEN:
        given, words = GIVEN[name]
        return given, False, words
    opener = make_host().loaders[name].open
    kind = get_type_hints(opener).get("return")
    parts = [one for one in _members(kind) if one is not types.NoneType]
    doc = (inspect.getdoc(opener) or "").split("\n\n")[0]
    found = parts[0] if len(parts) == 1 and inspect.isclass(parts[0]) else None
    return found, len(parts) < len(_members(kind)), doc


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _shown(kind: type[Any] | None, optional: bool, name: str) -> str:
    if kind is None:
        return ""
    if kind.__module__ == "builtins":
        return md.code(annotation(kind)) + (" or `None`" if optional else "")
    link = f"[`{kind.__name__}`](#type-{kind.__name__.lower()})"
    return ("a tuple of " if name == "jobs" else "") + link + (" or `None`" if optional else "")


def _type(kind: type[Any]) -> Iterator[str]:
    if kind.__module__ == "builtins":
        return
    yield f"### {kind.__name__} {{ #type-{kind.__name__.lower()} }}\n\n{md.paragraphs(kind.__doc__ or '')}"
    yield md.table(("Member", "What it is"), members_of(kind))
