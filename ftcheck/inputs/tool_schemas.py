"""Arguments of tool calls against the parameters that their function declares, as JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ftcheck.inputs import tool_calls

TYPES: Mapping[str, str | None] = {
    "dict": "object",
    "float": "number",
    "double": "number",
    "int": "integer",
    "long": "integer",
    "bool": "boolean",
    "str": "string",
    "text": "string",
    "char": "string",
    "list": "array",
    "tuple": "array",
    "set": "array",
    "any": None,
    "none": "null",
}
"""Names that are no JSON Schema types, each with the one that is meant (None: no type at all)."""
KNOWN = frozenset(TYPES) | frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
"""Types that a message may name; other words in their place are content."""
JSON_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})

PLAIN_KEYS = frozenset(
    {"type", "properties", "required", "description", "enum", "items", "default", "additionalProperties"}
)
"""Keys of the schemas that are looked through without the meta-schema."""
OPENING = frozenset({"anyOf", "allOf", "oneOf", "$ref"})
"""Keys that may declare more arguments than `properties` does."""


class Fault(NamedTuple):
    """What is wrong with a call's arguments: `kind` is `not-json`, `required`, `unknown`, `null` or `schema`.

    `path` names the argument. `words` say what is wrong, and may quote the row: they are content.
    """

    kind: str
    path: str = ""
    words: str = ""


class Looked(NamedTuple):
    """Parameters looked at once: the schema that they mean (None where there is none), what they declare,
    types that are no JSON Schema types, and why they are no JSON Schema at all.
    """

    schema: Any
    properties: frozenset[str]
    required: tuple[str, ...]
    closed: bool
    strange: tuple[str, ...]
    invalid: str | None


def of(parameters: Any) -> Looked:
    """The parameters of a definition, looked at; the same ones are looked at once."""
    if not isinstance(parameters, Mapping) or not parameters:
        return _NOTHING
    if _is_plain(parameters):
        return _told(parameters, (), None)
    return _looked(json.dumps(parameters, sort_keys=True, default=str))


_NOTHING = Looked(None, frozenset(), (), False, (), None)


@lru_cache(maxsize=20_000)
def _looked(text: str) -> Looked:
    strange: set[str] = set()
    stated = json.loads(text)
    meant = _meant(stated, strange, 0)
    invalid = None if _is_plain(meant) else _invalid(meant)
    told = _told(meant, tuple(sorted(strange)), invalid)
    return told._replace(closed=told.closed and "patternProperties" not in stated)


def _told(meant: Mapping[str, Any], strange: tuple[str, ...], invalid: str | None) -> Looked:
    """What a schema declares, once its types are those that are meant."""
    properties, required = meant.get("properties"), meant.get("required")
    names = frozenset(properties) if isinstance(properties, Mapping) else frozenset()
    listed = tuple(one for one in required if isinstance(one, str)) if isinstance(required, list) else ()
    closed = bool(names) and meant.get("additionalProperties") in (None, False) and OPENING.isdisjoint(meant)
    return Looked(meant if invalid is None else None, names, listed, closed, strange, invalid)


def _invalid(schema: Any) -> str | None:
    """Why a schema is no JSON Schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return error.message[:200]
    return None


def _meant(schema: Any, strange: set[str], depth: int) -> Any:
    """A schema with the types that are meant; in `strange`, those that stand there instead.

    Patterns are left out: an expression that anybody may have written can take hours to match.
    """
    if depth > tool_calls.MAX_DEPTH:
        return {}
    if isinstance(schema, list):
        return [_meant(one, strange, depth + 1) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties" and isinstance(value, Mapping):
            made[key] = {
                name: _meant(inner, strange, depth + 1)
                for name, inner in value.items()
                if isinstance(inner, Mapping | bool)
            }
        elif key == "type" and isinstance(value, str) and value not in JSON_TYPES:
            strange.add(value)
            meant = value.lower() if value.lower() in JSON_TYPES else TYPES.get(value.lower())
            if meant is not None:
                made[key] = meant
        elif key in ("default", "enum", "const", "examples", "description", "title"):
            made[key] = value
        elif value is not None and key not in ("pattern", "patternProperties"):
            made[key] = _meant(value, strange, depth + 1)
    return made


def _is_plain(schema: Any, depth: int = 0) -> bool:
    """Whether a schema is valid at first sight, with types of JSON Schema and nothing to leave out.

    Most are; the meta-schema takes 1 ms for each.
    """
    if type(schema) is not dict or not PLAIN_KEYS.issuperset(schema) or depth > tool_calls.MAX_DEPTH:
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if type(properties) is not dict or type(required) is not list or type(schema.get("enum", [])) is not list:
        return False
    return (
        type(kind := schema.get("type", "object")) is str
        and kind in JSON_TYPES
        and type(schema.get("description", "")) is str
        and type(schema.get("additionalProperties", False)) is bool
        and all(type(one) is str for one in required)
        and len(set(required)) == len(required)
        and all(_is_plain(one, depth + 1) for one in properties.values())
        and ("items" not in schema or _is_plain(schema["items"], depth + 1))
    )


def faults(arguments: Any, parameters: Any) -> Iterator[Fault]:
    """What is wrong with a call's arguments; nothing for those of a function that declares no parameters."""
    values = tool_calls.parsed(arguments)
    if values is None or values == "":
        values = {}
    if not isinstance(values, Mapping):
        yield Fault("not-json", words=str(arguments)[:200])
        return
    looked = of(parameters)
    nulls = {name for name, value in values.items() if value is None}
    yield from (Fault("required", name) for name in looked.required if name not in values)
    if looked.closed:
        yield from (
            Fault("unknown", str(name))
            for name in values
            if name not in looked.properties and name not in nulls
        )
    if looked.schema is None:
        return
    for error in _errors(looked.schema, values):
        path = ".".join(map(str, error.absolute_path))
        if error.validator in ("required", "additionalProperties") and not path:
            continue
        if error.instance is None:
            yield Fault("null", path, error.message[:200])
        else:
            yield Fault("schema", path, error.message[:200])
    unknown = {name for name in nulls if looked.closed and name not in looked.properties}
    yield from (Fault("null", name) for name in sorted(unknown))


def _errors(schema: Any, values: Mapping[str, Any]) -> list[Any]:
    """What jsonschema says; nothing where a reference leads nowhere, or round and round."""
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # An empty registry: a schema in the data must not make this fetch an address.
    validator = Draft202012Validator(schema, registry=Registry())
    try:
        return list(validator.iter_errors(dict(values)))
    except (Unresolvable, RecursionError):
        return []
