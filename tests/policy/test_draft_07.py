"""The schema as draft-07: of one mind with that of draft 2020-12, and with the reader."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from ftcheck.extension.plugin_host import make_host
from ftcheck.policy import document, schema
from ftcheck.policy.draft_07 import as_draft_07
from ftcheck.policy.nodes import plain
from tests.places import POLICIES
from tests.policy.kit import HEAD, host, job
from tests.policy.test_json_schema import GOOD, data_of

BAD = [
    HEAD + "chekcs: {}\n",
    HEAD + "stage: befor\n",
    HEAD + "checks: {lengths: true}\n",
    HEAD + "checks: {lengths: {timeout: 0}}\n",
    HEAD + "checks: {lengths: {params: {percentil: 9}}}\n",
    HEAD + "checks: {strict: {rule: lenghts}}\n",
    HEAD + "checks: {lengths: {rule: duplicates, params: {percentile: 9}}}\n",
    HEAD + "checks: {a b: {rule: lengths}}\n",
    HEAD + "gate: {require: x}\n",
    HEAD.replace("ftcheck: 1", "ftcheck: 2"),
    job("training: {max_lenght: 1}"),
    job("training: {max_length: 0}"),
    job("training: {hub_strategy: ends}"),
    job("targets: {max_length: [1]}"),
    job("targets: {max_length: [1, 2, 3]}"),
    job("targets: {accuracy: 95}"),
]


def refs_with_neighbours(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str) and len(part) > 1:
            yield part
        for inner in part.values():
            yield from refs_with_neighbours(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from refs_with_neighbours(inner)


def test_it_is_a_schema_of_draft_07() -> None:
    made = schema(make_host(), draft_07=True)

    Draft7Validator.check_schema(made)
    assert made["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert list(refs_with_neighbours(made)) == []
    for word in ('"$defs"', '"prefixItems"', "#/$defs/"):
        assert word not in json.dumps(made)


def test_the_first_schema_is_left_as_it_was() -> None:
    made = schema(host())
    before = json.dumps(made)
    as_draft_07(made)

    assert json.dumps(made) == before


@pytest.mark.parametrize("text", BAD)
def test_what_the_reader_refuses_is_refused_by_both_drafts(text: str) -> None:
    newer, older = schema(host()), schema(host(), draft_07=True)

    assert not Draft202012Validator(newer).is_valid(data_of(text))
    assert not Draft7Validator(older).is_valid(data_of(text))
    assert Draft7Validator(older).is_valid(data_of(GOOD))


@pytest.mark.parametrize("name", sorted(path.name for path in POLICIES.glob("*.yaml")))
@pytest.mark.parametrize("kind", [Draft7Validator, Draft202012Validator])
def test_the_shipped_policies_are_valid(name: str, kind: Any) -> None:
    tree, _ = document.read(POLICIES / name, name)
    assert tree is not None
    validator = kind(schema(make_host(), draft_07=kind is Draft7Validator))

    assert [error.message for error in validator.iter_errors(plain(tree))] == []


def test_parameters_and_forms_have_descriptions_defaults_and_examples() -> None:
    made = schema(make_host(), draft_07=True)
    definitions = made["definitions"]
    params = [part for name, part in definitions.items() if name.endswith(":params")]

    assert len(params) > 20
    for part in params:
        for name, field in part["properties"].items():
            assert field.get("description"), name
            assert "default" in field or name in part.get("required", ()), name
    assert definitions["GateSettings"]["properties"]["max_age"]["examples"] == ["90m", "24h", "7d"]
    assert (
        "ftcheck explain truncation"
        in made["properties"]["checks"]["properties"]["truncation"]["markdownDescription"]
    )
