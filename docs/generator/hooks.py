"""The hooks that a plugin may implement, from `ftcheck/extension/hookspecs.py`."""

import inspect

from docs.generator import markdown as md
from docs.generator.signatures import signature
from ftcheck.extension import hookspecs


def page() -> str:
    """The page of the hooks."""
    names = sorted(
        (name for name in dir(hookspecs) if name.startswith("ftcheck_")),
        key=lambda name: inspect.getsourcelines(getattr(hookspecs, name))[1],
    )
    return md.page(
        "Hooks",
        "A plugin is a module that an entry point of the group `ftcheck` names. It implements any of "
        "these hooks, each marked with `@ftcheck.hookimpl`. Offers return an iterable and are called "
        "once; events return nothing. Deciding at the gate, skipping checks and changing findings are no "
        "hooks. [Write a rule](../extend/rule.md) shows a whole plugin.",
        *map(_hook, names),
    )


def _hook(name: str) -> str:
    function = getattr(hookspecs, name)
    shown = f"```python\n{signature(name, function)}\n```"
    return f"## `{name}` {{ #{name} }}\n\n{shown}\n\n{md.paragraphs(function.__doc__)}"
