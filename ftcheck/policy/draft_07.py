"""A JSON Schema of draft 2020-12 as draft-07, which SchemaStore asks for and every editor reads."""

from typing import Any

DRAFT = "http://json-schema.org/draft-07/schema#"
NAMED = ("properties", "definitions", "patternProperties")
"""Keywords whose keys are names, not keywords."""
VALUES = ("default", "examples", "enum", "const", "required")
"""Keywords that hold values, not schemas."""


def as_draft_07(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema as draft-07: it accepts and refuses the same documents.

    `$defs` are `definitions`, tuples are `items`, and a `$ref` stands alone: what is beside it is ignored.
    """
    return {**_converted(schema), "$schema": DRAFT}


def _converted(part: Any) -> Any:
    if isinstance(part, list):
        return [_converted(one) for one in part]
    if not isinstance(part, dict):
        return part
    made: dict[str, Any] = {}
    for key, value in part.items():
        name = "definitions" if key == "$defs" else key
        if name in VALUES:
            made[name] = value
        elif name in NAMED:
            made[name] = {one: _converted(inner) for one, inner in value.items()}
        elif name == "$ref":
            made[name] = value.replace("#/$defs/", "#/definitions/", 1)
        else:
            made[name] = _converted(value)
    return _alone(_tuple(made))


def _tuple(part: dict[str, Any]) -> dict[str, Any]:
    if "prefixItems" not in part:
        return part
    rest = {"additionalItems": part["items"]} if "items" in part else {}
    others = {key: value for key, value in part.items() if key not in ("prefixItems", "items")}
    return {**others, "items": part["prefixItems"], **rest}


def _alone(part: dict[str, Any]) -> dict[str, Any]:
    """A schema whose `$ref` has nothing beside it that a validator would have to look at."""
    if "$ref" not in part or len(part) == 1:
        return part
    others = {key: value for key, value in part.items() if key not in ("$ref", "allOf")}
    return {**others, "allOf": [{"$ref": part["$ref"]}, *part.get("allOf", ())]}
