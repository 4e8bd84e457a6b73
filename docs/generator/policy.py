"""Every key of a policy with its type, default and help, from the settings' dataclasses."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any

from docs.generator import markdown as md
from ftcheck.field_metadata import AlsoCalled, Limit, PathKind, having, key_of
from ftcheck.policy import table
from ftcheck.policy.extra_keys import fields as kinds_of
from ftcheck.policy.extra_keys import members, nullable, section_of
from ftcheck.policy.messages import expected
from ftcheck.policy.params import field_docs
from ftcheck.settings import CheckSettings, GateSettings, JobSettings, PolicySettings, Waiver

SECTIONS: Mapping[str, type[Any]] = {
    "": PolicySettings,
    "jobs.NAME.": JobSettings,
    "checks.NAME.": CheckSettings,
    "waivers.": Waiver,
    "gate.": GateSettings,
}
"""Where the top sections stand; those inside them follow from their types."""
TITLES = {
    "": "The file",
    "jobs.NAME.": "A job",
    "checks.NAME.": "A check",
    "waivers.": "A waiver",
    "gate.": "The gate",
}


def page() -> str:
    """The page of the policy's keys."""
    sections = [part for above, owner in SECTIONS.items() for part in _sections(above, owner)]
    return md.page(
        "Policy keys",
        "A policy is one YAML 1.2 file. Unknown keys, wrong types and values out of range are errors, "
        "and `ftcheck policy check FILE` prints all of them at once. `ftcheck schema` prints the same "
        "keys as a JSON Schema for editors. Paths are relative to the file that states them. What each "
        "check takes under `params` is on the page of its [rule](rules/index.md).",
        *sections,
    )


def _sections(above: str, owner: type[Any]) -> Iterator[str]:
    """A section's table, the library's further keys, and the sections inside it."""
    title = TITLES.get(above, f"`{above.removesuffix('.')}`")
    anchor = "section-" + (above.removesuffix(".") or "file").lower().replace(".", "-")
    yield f"## {title} {{ #{anchor} }}\n\n{md.paragraphs(owner.__doc__ or '')}"
    docs, limits = field_docs(owner), having(owner, Limit)
    names = {key_of(one.name): one for one in fields(owner) if one.init}
    rows = [
        _row(above, name, kind, names[name], docs.get(names[name].name, ""), limits.get(name), owner)
        for name, kind in kinds_of(owner).items()
    ]
    yield md.table(("Key", "Takes", "Default", "Meaning"), rows)
    yield from _library(above, owner)
    for name, kind in kinds_of(owner).items():
        inner = section_of(kind)
        if inner is not None and inner is not JobSettings and f"{above}{name}." not in SECTIONS:
            yield from _sections(f"{above}{name}.", inner)


def _row(
    above: str, name: str, kind: Any, one: Field[Any], text: str, limit: Limit | None, owner: type[Any]
) -> tuple[str, str, str, str]:
    also = having(owner, AlsoCalled).get(name)
    called = f" Elsewhere called {', '.join(map(md.code, also.names))}." if also else ""
    said = " ".join(part for part in (expected(kind), str(limit) if limit else "") if part)
    path = " (a path)" if having(owner, PathKind).get(name) else ""
    null = ", or null" if nullable(kind) and kind is not Any and members(kind) else ""
    return (
        md.anchored(f"key-{above}{name}", md.code(f"{above}{name}")),
        md.line(said + path + null),
        _default(one, kind),
        md.line(text) + called,
    )


def _default(one: Field[Any], kind: Any) -> str:
    """The default as YAML writes it."""
    if one.default is MISSING and one.default_factory is MISSING:
        return "required"
    if section_of(kind) is not None and one.default is MISSING:
        return "the section's defaults"
    value = one.default_factory() if one.default_factory is not MISSING else one.default
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return "not set"
    return md.code(json.dumps(list(value) if isinstance(value, tuple) else value, default=dict))


def _library(above: str, owner: type[Any]) -> Iterator[str]:
    """The library's further keys, which a policy writes beside the section's own."""
    section = table.section(owner)
    if section is None:
        return
    own = set(kinds_of(owner))
    names = [name for name in section.names if name not in own]
    listed = ", ".join(md.code(name) for name in sorted(names))
    yield (
        f"Further keys of `{section.config}`, with its meaning and defaults, may stand beside these: "
        f"{listed}."
    )
    if section.elsewhere:
        rows = [(md.code(name), md.line(str(place))) for name, place in sorted(section.elsewhere.items())]
        yield "Not here, but elsewhere or set by ftcheck:\n\n" + md.table(("Key", "Where"), rows)
