import json
from pathlib import Path
from typing import Any

import pytest
from ftcheck_plugins.reading.output_schema import output_schema

from ftcheck.errors import InputError
from ftcheck.inputs.evaluation import OutputSchema
from ftcheck.testing import job


def opened(folder: Path, schema: object) -> OutputSchema:
    path = folder / "schema.json"
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema))
    found: OutputSchema = output_schema.open(job(serving={"output_schema": str(path)}))
    return found


def test_a_job_without_schema_has_none() -> None:
    assert output_schema.open(job()) is None


def test_answers_that_fit_have_no_errors(tmp_path: Path) -> None:
    found = opened(tmp_path, {"type": "object", "required": ["team"]})

    assert found.errors({"team": "hr"}) == []
    assert found.schema["required"] == ["team"]


@pytest.mark.parametrize(
    ("rule", "value", "error"),
    [
        ({"required": ["a", "b"]}, {"secret": 1}, "$: lacks a, b"),
        ({"additionalProperties": False}, {"secret": 1}, "$: has keys that the schema does not know"),
        ({"properties": {"a": {"enum": [1, 2]}}}, {"a": "secret"}, "$.a: is none of the 2 allowed values"),
        ({"additionalProperties": {"type": "number"}}, {"secret": "x"}, "$.*: must be number"),
        ({"items": {"type": ["string", "null"]}}, ["x", 1], "$[1]: must be string or null"),
        ({"maxLength": 3}, "secret", "$: breaks maxLength 3"),
        ({"pattern": "^a+$"}, "secret", "$: breaks pattern ^a+$"),
        ({"not": {}}, "secret", "$: breaks not"),
    ],
)
def test_errors_say_what_is_wrong_in_the_schemas_words(
    tmp_path: Path, rule: Any, value: Any, error: str
) -> None:
    assert opened(tmp_path, rule).errors(value) == [error]


def test_the_schemas_own_dialect_decides(tmp_path: Path) -> None:
    tuples = {"items": [{"type": "string"}], "additionalItems": False}
    old = opened(tmp_path, {"$schema": "http://json-schema.org/draft-07/schema#", **tuples})

    assert old.errors(["x", 1]) == ["$: breaks additionalItems"]
    with pytest.raises(InputError, match="not a JSON Schema"):
        opened(tmp_path, tuples)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ('{\n "type": }', r"schema\.json:2:10: not valid JSON"),
        ([], "must contain a JSON object"),
        ({"type": "strnig"}, "not a JSON Schema"),
        ({"pattern": "("}, "not a JSON Schema"),
        (
            {"$schema": "https://example.com/dialect"},
            "unknown dialect in .schema: https://example.com/dialect",
        ),
        ({"$ref": "https://example.com/team.json"}, "points outside the file"),
        ({"properties": {"a": {"$ref": "#/$defs/absent"}}}, "#/\\$defs/absent"),
    ],
)
def test_a_schema_that_cannot_be_used_is_named_with_the_policy_place(
    tmp_path: Path, schema: object, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        opened(tmp_path, schema)

    assert caught.value.problems[0].yaml_path == "jobs.job.serving.output_schema"


def test_references_inside_the_file_are_followed(tmp_path: Path) -> None:
    schema = {
        "$id": "https://example.com/answer.json",
        "$defs": {"team": {"$id": "team.json", "enum": ["hr"]}},
        "properties": {"a": {"$ref": "#/$defs/team"}, "b": {"$ref": "https://example.com/team.json"}},
    }

    found = opened(tmp_path, schema)

    assert found.errors({"a": "hr", "b": "hr"}) == []
    assert found.errors({"b": "it"}) == ["$.b: is none of the 1 allowed values"]


def test_a_file_that_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        output_schema.open(job(serving={"output_schema": str(tmp_path / "absent.json")}))


def test_the_shipped_schema_takes_the_shipped_gold_answers(samples: Path) -> None:
    path, golden = samples / "mapper" / "output_schema.json", samples / "mapper" / "golden.json"
    if not path.is_file() or not golden.is_file():
        pytest.skip("the samples are not made yet")

    found = output_schema.open(job(serving={"output_schema": str(path)}))

    items = json.loads(golden.read_text(encoding="utf-8"))
    assert [found.errors(one["expected"]) for one in items if not isinstance(one["expected"], str)] == [
        [] for one in items if not isinstance(one["expected"], str)
    ]
