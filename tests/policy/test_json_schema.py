"""The JSON Schema of a policy file: valid, and of one mind with the reader."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ftcheck.policy import document, schema
from ftcheck.policy.nodes import plain
from tests.policy.kit import HEAD, host, job, read, said, write

GOOD = (
    job(
        "data: {train: [a.jsonl], gold: {path: g.json}, outliers: {action: drop}}",
        "training: {max_length: null, adam_beta1: 0.5, hub_strategy: end, lora: {r: 4}, quantization: }",
        "targets: {max_length: [1, 2]}",
        "serving:",
    )
    + "defaults: {model: {revision: main}}\n"
    + "checks:\n  lengths: {params: {percentile: 9}}\n  strict: {rule: lengths, params: {at: error}}\n"
    + "  duplicates: false\n  environment:\n"
    + "waivers: [{check: a, reason: r, owner: o, expires: 2026-12-31}]\n"
    + "gate: {require: ['*::strict'], max_age: 1h}\n"
)


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema(host()))


def data_of(text: str) -> Any:
    tree, _ = document.read(write("policy.yaml", text), "policy.yaml")
    assert tree is not None
    return plain(tree)


def test_the_schema_is_one() -> None:
    made = schema(host())

    Draft202012Validator.check_schema(made)

    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["$id"]
    assert made["title"] == "ftcheck policy"


def test_a_good_policy_is_accepted_by_both(validator: Draft202012Validator) -> None:
    assert said(read(GOOD)) == []
    assert [error.message for error in validator.iter_errors(data_of(GOOD))] == []


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "chekcs: {}\n",
        HEAD + "stage: befor\n",
        HEAD + "checks: {lengths: true}\n",
        HEAD + "checks: {lengths: {severity: bad}}\n",
        HEAD + "checks: {lengths: {timeout: 0}}\n",
        HEAD + "checks: {a b: {rule: lengths}}\n",
        HEAD + "waivers: [{check: a, reason: r, owner: o}]\n",
        HEAD + "gate: {require: x}\n",
        HEAD.replace("ftcheck: 1", "ftcheck: 2"),
        job("trainin: {}"),
        job("training: {max_lenght: 1}"),
        job("training: {extra: {}}"),
        job("training: {max_length: 0}"),
        job("training: {evaluation_strategy: no}"),
        job("training: {adam_beta1: high}"),
        job("training: {hub_strategy: ends}"),
        job("training: {trust_remote_code: true}"),
        job("training: {lora: {lora_dropout: 1}}"),
        job("targets: {max_length: [1]}"),
        job("targets: {accuracy: 95}"),
        job("data: {format: x}"),
    ],
)
def test_a_bad_policy_is_refused_by_both(text: str, validator: Draft202012Validator) -> None:
    assert said(read(text)) != []
    assert not validator.is_valid(data_of(text))


@pytest.mark.parametrize(
    "line",
    [
        "checks: {lengths: {params: {percentil: 9}}}",
        "checks: {lengths: {params: {percentile: x}}}",
        "checks: {strict: {rule: lengths, params: {percentil: 9}}}",
        "checks: {duplicates: {params: {near: 1}}}",
        "checks: {lengths: {rule: duplicates, params: {percentile: 9}}}",
        "checks: {strict: {rule: lenghts}}",
    ],
)
def test_parameters_are_held_against_the_rule(line: str, validator: Draft202012Validator) -> None:
    assert not validator.is_valid(data_of(f"{HEAD}{line}\n"))


def test_a_file_that_extends_may_leave_out_what_the_other_one_brings(validator: Draft202012Validator) -> None:
    text = (
        "ftcheck: 1\nextends: [base]\njobs: {mapper: {model: {revision: main}, data: {gold: {input: q}}}}\n"
    )
    assert validator.is_valid(data_of(text))


def test_descriptions_are_the_docstrings() -> None:
    made = schema(host())
    definitions = made["$defs"]
    assert (
        definitions["Training"]["properties"]["packing"]["description"]
        == "Fill blocks of max_length with several rows."
    )
    assert definitions["Training"]["properties"]["adam_beta1"]["description"] == "As in trl.SFTConfig."
    assert (
        definitions["lengths:params"]["properties"]["percentile"]["description"]
        == "Which percentile is looked at."
    )
    assert definitions["lengths:params"]["additionalProperties"] is False


def test_every_key_of_every_section_has_a_description() -> None:
    made = schema(host())
    for section in (made, *(part for name, part in made["$defs"].items() if ":" not in name)):
        for name, part in section.get("properties", {}).items():
            assert part.get("description"), name
