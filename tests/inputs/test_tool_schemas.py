"""Arguments of calls against what their function declares."""

import json
from random import Random
from typing import Any

import pytest

from ftcheck.inputs import tool_schemas
from ftcheck.inputs.tool_schemas import faults, of

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
    "required": ["city"],
}


def found(arguments: Any, parameters: Any = PARAMETERS) -> list[tuple[str, str]]:
    return [(one.kind, one.path) for one in faults(arguments, parameters)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"city": "Bern"}, []),
        ('{"city": "Bern", "days": 2}', []),
        ({"days": 2}, [("required", "city")]),
        (None, [("required", "city")]),
        ("{", [("not-json", "")]),
        ([1], [("not-json", "")]),
        ({"city": 7}, [("schema", "city")]),
        ({"city": "Bern", "unit": "K"}, [("schema", "unit")]),
        ({"city": "Bern", "town": "Bern"}, [("unknown", "town")]),
        ({"city": "Bern", "days": None}, [("null", "days")]),
        ({"city": "Bern", "room": None}, [("null", "room")]),
    ],
)
def test_what_is_wrong_is_told_with_the_argument(arguments: Any, said: list[tuple[str, str]]) -> None:
    assert found(arguments) == said


def test_types_of_other_languages_are_taken_as_they_are_meant() -> None:
    parameters = {
        "type": "dict",
        "properties": {
            "far": {"type": "float"},
            "all": {"type": "tuple", "items": {"type": "int"}},
            "x": {"type": "any"},
        },
    }

    assert of(parameters).strange == ("any", "dict", "float", "int", "tuple")
    assert of(parameters).invalid is None
    assert found({"far": 1.5, "all": [1], "x": object}, parameters) == []
    assert found({"far": "far"}, parameters) == [("schema", "far")]


def test_a_schema_that_is_none_is_told_and_not_followed() -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string", "minLength": "two"}}}

    assert of(parameters).invalid is not None
    assert found({"city": 1}, parameters) == []


@pytest.mark.parametrize("reference", ["https://example.com/schema.json", "#/nowhere"])
def test_references_are_not_fetched(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_: pytest.fail("fetched"))

    assert found({"city": 1}, {"type": "object", "properties": {"city": {"$ref": reference}}}) == []


def test_patterns_of_the_data_are_not_run() -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string", "pattern": "^(a+)+$"}}}

    assert found({"city": "a" * 60 + "!"}, parameters) == []


def test_no_parameters_declare_nothing() -> None:
    assert found({"city": "Bern"}, None) == found({"city": "Bern"}, {}) == []


def schema(made: Random, depth: int = 0) -> dict[str, Any]:
    """Some schema: mostly valid, with now and then a key or a value that is looked at more closely."""
    found: dict[str, Any] = {"type": made.choice(["object", "string", "integer", "dict", "array", "Any"])}
    if depth < 3 and made.random() < 0.7:
        found["properties"] = {f"p{n}": schema(made, depth + 1) for n in range(made.randrange(4))}
        found["required"] = made.choice([["p0"], [], ["p0", "p0"], None])
    odd = {
        "pattern": "a+", "anyOf": [{"type": "string"}], "additionalProperties": made.choice([True, False]),
        "patternProperties": {"x": {}}, "enum": ["a", None], "default": None, "description": "said",
        "items": {"type": "string"}, "minimum": "0",
    }  # fmt: skip
    for key in made.sample(sorted(odd), k=made.choice([0, 0, 1, 2])):
        found[key] = odd[key]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_schema_that_is_valid_at_first_sight_tells_what_the_whole_way_tells(seed: int) -> None:
    made = Random(seed)
    seen = [schema(made) for _ in range(200)]

    assert [of(one) for one in seen] == [
        tool_schemas._looked(json.dumps(one, sort_keys=True, default=str)) for one in seen
    ]
    assert 0 < sum(map(tool_schemas._is_plain, seen)) < len(seen)
