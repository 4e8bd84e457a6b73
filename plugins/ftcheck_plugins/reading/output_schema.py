"""Reads the JSON Schema of a job's answers, and lists what is wrong with an answer without quoting it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftcheck.errors import InputError, Problem
from ftcheck.inputs import bounded
from ftcheck.inputs.evaluation import OutputSchema
from ftcheck.inputs.loader import loader
from ftcheck.settings import Job

REFERENCES = ("$ref", "$dynamicRef")


@loader("output_schema")
def output_schema(job: Job) -> OutputSchema | None:
    """The schema that every answer must satisfy; None if the job names none.

    It is held against its own dialect, and must resolve by itself: nothing is fetched.
    """
    path = job.serving.output_schema
    if path is None:
        return None
    schema = _read(job, Path(path))
    validator = _validator(job, path, schema)
    known = frozenset(_names(schema))

    def errors(value: Any) -> list[str]:
        return list(dict.fromkeys(describe(error, known) for error in validator.iter_errors(value)))

    return OutputSchema(path=path, schema=schema, errors=errors)


def _read(job: Job, path: Path) -> dict[str, Any]:
    try:
        return bounded.read_object(path)
    except ValueError as error:
        raise _failure(job, str(error)) from error


def _validator(job: Job, path: str, schema: Mapping[str, Any]) -> Any:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing.jsonschema import EMPTY_REGISTRY

    kind: Any = validator_for(schema, default=Draft202012Validator)
    named = schema.get("$schema", kind.META_SCHEMA["$schema"])
    if not isinstance(named, str) or named.rstrip("#") != kind.META_SCHEMA["$schema"].rstrip("#"):
        raise _failure(job, f"{path}: unknown dialect in $schema: {named}")
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise _failure(job, f"{path}: not a JSON Schema: {error.json_path}: {error.message}") from error
    for reference in _unresolved(schema, kind, EMPTY_REGISTRY):
        raise _failure(job, f"{path}: $ref {reference} points outside the file: copy it into the file")
    return kind(schema, registry=EMPTY_REGISTRY)


def _unresolved(schema: Mapping[str, Any], kind: Any, registry: Any) -> Iterator[str]:
    """References of the schema and its parts that nothing in it answers."""
    from referencing.jsonschema import specification_with

    resource = specification_with(kind.META_SCHEMA["$schema"].rstrip("#")).create_resource(schema)
    yield from _dangling(resource, registry.resolver_with_root(resource))


def _dangling(resource: Any, resolver: Any) -> Iterator[str]:
    from referencing.exceptions import Unresolvable

    contents = resource.contents if isinstance(resource.contents, Mapping) else {}
    for reference in (contents[key] for key in REFERENCES if isinstance(contents.get(key), str)):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            yield reference
    for part in resource.subresources():
        yield from _dangling(part, resolver.in_subresource(part))


def _names(schema: Any) -> Iterator[str]:
    """Names of properties that the schema itself spells out."""
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        yield from properties if isinstance(properties, Mapping) else ()
        required = schema.get("required")
        yield from (name for name in required if isinstance(name, str)) if isinstance(required, list) else ()
    for part in (
        schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    ):
        yield from _names(part)


def describe(error: Any, known: frozenset[str]) -> str:
    """What is wrong with an answer, and where in it: in the schema's words, never in the answer's.

    A retry shows it to the model: other words here are other prompts, and may be other answers.
    """
    steps = (f"[{one}]" if isinstance(one, int) else f".{one if one in known else '*'}" for one in error.path)
    return f"${''.join(steps)}: {_wrong(error)}"


def _wrong(error: Any) -> str:
    limit = error.validator_value
    if error.validator == "required" and isinstance(limit, list):
        absent = [name for name in limit if name not in error.instance]
        return f"lacks {', '.join(absent)}"
    if error.validator == "type":
        return f"must be {' or '.join([limit] if isinstance(limit, str) else limit)}"
    if error.validator == "enum":
        return f"is none of the {len(limit)} allowed values"
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        return "has keys that the schema does not know"
    if isinstance(limit, int | float | str) and not isinstance(limit, bool):
        return f"breaks {error.validator} {limit}"
    return f"breaks {error.validator}"


def _failure(job: Job, why: str) -> InputError:
    place = job.at("serving.output_schema")
    message = f"serving.output_schema of job {job.label}: {why}"
    return InputError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])
