"""Metadata on the fields of settings: a new key is one edit, whatever is derived from it follows."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, get_origin

import pytest
from ftcheck_trainers import arguments
from jsonschema import Draft202012Validator

from ftcheck.field_metadata import ONE_UP, AlsoCalled, Form, Limit, Mark, having, marked, metadata
from ftcheck.policy import limits, schema
from ftcheck.policy.extra_keys import fields, members, sections
from ftcheck.policy.nodes import Node, planted
from ftcheck.policy.validation import validated
from ftcheck.records import Location
from ftcheck.settings import JobSettings, Training
from tests.policy.kit import host


@dataclass(frozen=True, slots=True, kw_only=True)
class Newer(Training):
    """Training arguments with new keys, each one edit."""

    window: Annotated[int | None, ONE_UP, Mark.AFTER_TOKENISING, AlsoCalled(("sliding",))] = None
    pause: Annotated[str | None, Form.DURATION, Mark.OWN] = None
    plain: int = 0


def test_a_subclass_has_the_metadata_of_its_fields_and_of_those_it_inherits() -> None:
    assert having(Newer, Limit)["window"] == ONE_UP
    assert having(Newer, Limit)["max_length"] == ONE_UP
    assert marked(Newer, Mark.OWN) == {"packing_planner", "pause"}
    assert metadata(Newer)["plain"] == ()


def test_a_class_without_fields_has_no_metadata() -> None:
    assert having(int, Limit) == {}


def test_limits_forms_and_other_names_of_a_new_key_are_held_without_another_edit() -> None:
    tree = planted({"window": 0, "pause": "a while", "plain": 1}, Location())
    said = [problem.message for problem in limits.of_values(Newer, tree, date(2026, 11, 22))]
    unknown = validated(Newer, planted({"sliding": 1}, Location())).problems

    assert said == [
        "must be at least 1, not 0",
        "must be a duration such as 90m, 24h or 7d, not the text 'a while'",
    ]
    assert [problem.message for problem in unknown] == ["unknown key 'sliding'; did you mean 'window'?"]


def test_a_new_argument_goes_to_the_library_unless_it_is_ftchecks_own() -> None:
    passed = arguments._arguments(Newer)

    assert {"window", "plain"} <= passed
    assert not passed & {"pause", "packing_planner", "max_length", "gradient_checkpointing", "lora", "extra"}


def limited() -> Iterator[Any]:
    """Every field of a job that has a limit: its keys, its limit, a value outside."""
    for keys, owner in sections(JobSettings).items():
        for name, limit in having(owner, Limit).items():
            low = next(one for one in (limit.at_least, limit.above) if one is not None)
            yield pytest.param((*keys, name), limit, low - 1, id=".".join((*keys, name)))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema(host()))


@pytest.mark.parametrize(("keys", "limit", "outside"), list(limited()))
def test_a_limit_is_held_by_the_reader_and_by_the_json_schema(
    keys: tuple[str, ...], limit: Limit, outside: float, validator: Draft202012Validator
) -> None:
    owner = sections(JobSettings)[keys[:-1]]
    pair = any(get_origin(kind) is tuple for kind in members(fields(owner)[keys[-1]]))
    value: Any = [outside, outside + 5] if pair else outside
    for key in reversed(keys):
        value = {key: value}
    policy = {"ftcheck": 1, "jobs": {"job": {"model": {"name": "tiny"}, **value}}}
    tree: Node = planted(policy, Location())

    found = [problem.message for problem in limits.problems_of(tree)]

    assert found == [f"must be {limit}, not {outside:g}"]
    assert not validator.is_valid(policy)
