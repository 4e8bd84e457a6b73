"""The public Python API: every name of `ftcheck.__all__`, with its docstring."""

import inspect
from typing import Any

import ftcheck
from docs.generator import markdown as md
from docs.generator.classes import members_of
from docs.generator.signatures import signature

WITHOUT_DOCSTRING = {
    "__version__": "The version of ftcheck, as text.",
    "hookimpl": "Marks a function of a plugin's module as the implementation of a [hook](hooks.md).",
    "Jobs": "All jobs of a policy: a tuple of `Job`. A rule asks for it as `jobs`.",
}
"""Names whose object has no docstring of its own."""


def page() -> str:
    """The page of the Python API."""
    functions = [name for name in ftcheck.__all__ if inspect.isfunction(getattr(ftcheck, name))]
    others = [name for name in ftcheck.__all__ if name not in functions]
    return md.page(
        "Python API",
        "What scripts, notebooks and plugins import from `ftcheck`. These names are stable; everything "
        "else is the inside of the house. Each is imported on first use, so that `import ftcheck` is "
        "quick.",
        *(_function(name) for name in functions),
        *(_other(name) for name in others),
    )


def _function(name: str) -> str:
    function = getattr(ftcheck, name)
    shown = signature(name, function)
    return "\n\n".join([_heading(name), f"```python\n{shown}\n```", md.paragraphs(function.__doc__ or "")])


def _other(name: str) -> str:
    if name in WITHOUT_DOCSTRING:
        return f"{_heading(name)}\n\n{WITHOUT_DOCSTRING[name]}"
    owner: type[Any] = getattr(ftcheck, name)
    parts = [
        _heading(name),
        md.paragraphs(owner.__doc__ or ""),
        md.table(("Member", "What it is"), members_of(owner)),
    ]
    return "\n\n".join(part for part in parts if part)


def _heading(name: str) -> str:
    return f"## {md.anchored(f'ftcheck.{name}', md.code(name))}"
