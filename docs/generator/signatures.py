"""Signatures of functions and classes as a reader of Python reads them."""

import inspect
import re
from collections.abc import Callable
from typing import Any

STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
LONGEST = 100
"""Characters of a signature that stands on one line."""


def signature(name: str, function: Callable[..., Any]) -> str:
    """`check(*data: str | Path, ...) -> Report`, on several lines where it is long."""
    found = inspect.signature(function)
    parts = [_tidy(str(one)) for one in _parameters(found)]
    returned = found.return_annotation
    end = "" if returned is inspect.Signature.empty else f" -> {_tidy(annotation(returned))}"
    short = f"{name}({', '.join(parts)}){end}"
    if len(short) <= LONGEST:
        return short
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){end}"


def _parameters(found: inspect.Signature) -> list[str]:
    """The parameters but `self`, with `*` before those by keyword only."""
    shown: list[str] = []
    starred = False
    for name, one in found.parameters.items():
        if name in ("self", "cls"):
            continue
        starred = starred or one.kind is inspect.Parameter.VAR_POSITIONAL
        if one.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            shown.append("*")
            starred = True
        shown.append(_parameter(one))
    return shown


def _parameter(one: inspect.Parameter) -> str:
    star = STARS.get(one.kind, "")
    kind = "" if one.annotation is inspect.Parameter.empty else f": {annotation(one.annotation)}"
    default = "" if one.default is inspect.Parameter.empty else f" = {_default(one.default)}"
    return f"{star}{one.name}{kind}{default}"


def annotation(kind: Any) -> str:
    """A type as it is written, without the modules' names."""
    text = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    return _tidy(text)


def _default(value: Any) -> str:
    """A default; an object whose text is an address of memory is only said to be there."""
    text = repr(value)
    return "..." if " at 0x" in text or text.startswith("<") else text


def _tidy(text: str) -> str:
    """Without modules' names, and without the marks of names that are read later."""
    bare = re.sub(r"ForwardRef\('([^']*)'[^)]*\)", r"\1", text)
    return re.sub(
        r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])", "", bare.replace("'", '"') if "ForwardRef" in text else bare
    )
