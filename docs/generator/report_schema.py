"""Every key of the JSON report, from its published schema."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from docs.generator import markdown as md
from ftcheck.tables import load

Schema = Mapping[str, Any]


def page() -> str:
    """The page of the report's schema."""
    schema = load("report.schema")
    return md.page(
        "JSON report",
        f"`-o json=PATH` writes it. {md.line(schema['description'])} The schema is `{schema['title']}`; "
        "`ftcheck schema --report` prints it, and `ftcheck report convert` makes the other formats from "
        "a report.",
        md.table(("Key", "Takes", "What it is"), _rows(schema, "")),
        *(_definition(name, part) for name, part in sorted(schema["$defs"].items())),
    )


def _definition(name: str, part: Schema) -> str:
    rows = list(_rows(part, ""))
    body = md.table(("Key", "Takes", "What it is"), rows) or f"Takes: {_kind(part)}."
    described = md.paragraphs(str(part.get("description", "")))
    return "\n\n".join(one for one in (f"## {name} {{ #def-{name.lower()} }}", described, body) if one)


def _rows(part: Schema, above: str) -> Iterator[tuple[str, str, str]]:
    required = part.get("required", ())
    for name, inner in part.get("properties", {}).items():
        optional = "" if name in required else " (optional)"
        yield md.code(above + name), _kind(inner) + optional, md.line(_described(inner))
        if isinstance(inner, bool):
            continue
        for deeper, prefix in ((inner, "."), (inner.get("items", {}), "[]."), (_values(inner), ".*.")):
            yield from _rows(deeper, f"{above}{name}{prefix}")


def _described(part: Schema | bool) -> str:
    return "" if isinstance(part, bool) else str(part.get("description", ""))


def _values(part: Schema) -> Schema:
    """The schema of a mapping's values."""
    found = part.get("additionalProperties")
    return found if isinstance(found, Mapping) else {}


def _kind(part: Schema | bool) -> str:
    """What a value is, with a link where it has a definition."""
    if isinstance(part, bool):
        return "anything"
    if "$ref" in part:
        name = str(part["$ref"]).rpartition("/")[2]
        return f"[{name}](#def-{name.lower()})"
    if "const" in part:
        return md.code(json.dumps(part["const"]))
    if "enum" in part:
        return ", ".join(md.code(json.dumps(one)) for one in part["enum"])
    if "anyOf" in part:
        return " or ".join(_kind(one) for one in part["anyOf"])
    return _of_type(part)


def _of_type(part: Schema) -> str:
    kinds = part.get("type", "anything")
    said = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    inner = part.get("items") or _values(part)
    return f"{said} of {_kind(inner)}" if inner else said
