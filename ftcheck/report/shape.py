"""Reads a report that anybody may have written: it is held against its schema before it is used."""

from functools import cache
from typing import Any

from ftcheck import tables
from ftcheck.report.record import Report, from_dict

LEFT = ("allOf", "minimum")
"""What the schema says beside types: whether parts agree, the gate asks itself, and says so."""


def checked(data: Any) -> Report:
    """The report of a JSON value. Raises `ValueError` with the place for one that is no such report."""
    wrong = next(_validator().iter_errors(data), None)
    if wrong is not None:
        raise ValueError(f"{wrong.json_path} breaks '{wrong.validator}' of the report's schema")
    try:
        return from_dict(data)
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"its parts do not fit together ({type(error).__name__})") from error


@cache
def _validator() -> Any:
    from jsonschema.validators import Draft202012Validator

    return Draft202012Validator(_types(tables.load("report.schema")))


def _types(schema: Any) -> Any:
    """The schema without `LEFT`."""
    if isinstance(schema, list):
        return [_types(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _types(part) for key, part in schema.items() if key not in LEFT}
