"""A job that tells what is read of it is the job itself in all else."""

import pickle
from dataclasses import replace
from typing import Any

import pytest

from ftcheck.inputs.observed import Cell, observed, place_key, plain, read
from ftcheck.records import Location
from ftcheck.settings import Job, Model, Serving, Training

JOB = Job(
    name="mapper",
    model=Model(name="/models/tiny"),
    training=Training(learning_rate=1e-3, max_length=64),
    places={"training": Location("p.yaml", 3, 5), "training.max_length": Location("p.yaml", 4, 7)},
)


@pytest.fixture
def told() -> dict[Cell, Any]:
    return {}


@pytest.fixture
def seen(told: dict[Cell, Any]) -> Job:
    return observed(JOB, told.setdefault)


def test_what_is_read_is_told_and_nothing_else(seen: Job, told: dict[Cell, Any]) -> None:
    assert (seen.training.max_length, seen.evaluation, seen.label) == (64, None, "mapper")

    assert told == {
        ("class", "training"): Training,
        ("value", "training.max_length"): 64,
        ("value", "evaluation"): None,
    }


def test_it_is_equal_to_the_job_and_tells_of_all_of_it(seen: Job, told: dict[Cell, Any]) -> None:
    assert seen == JOB
    assert isinstance(seen.training, Training)
    assert seen.training == JOB.training
    assert JOB.training == seen.training
    assert seen.serving == Serving()
    assert hash(seen.model) == hash(JOB.model)

    assert told[("value", "training")] == JOB.training
    assert told[("value", "")] == JOB


def test_properties_and_copies_read_through_it(seen: Job, told: dict[Cell, Any]) -> None:
    assert seen.serves is False
    assert ("states", "serving") in told
    other = replace(seen.training, packing=True)
    assert type(other) is Training
    assert (other.packing, other.learning_rate) == (True, 1e-3)
    assert told[("value", "training.learning_rate")] == 1e-3
    assert type(pickle.loads(pickle.dumps(seen.training))) is Training
    assert plain(seen.training) is JOB.training


def test_a_place_tells_nothing_until_it_is_looked_at(seen: Job, told: dict[Cell, Any]) -> None:
    place = seen.at("training.max_length")

    assert place_key(place) == "training.max_length"
    assert place_key(JOB.at("training.max_length")) is None
    assert told == {}
    assert (place.line, str(place)) == (4, "p.yaml:4:7")
    assert told == {("at", "training.max_length"): JOB.at("training.max_length")}


def test_a_cell_is_read_of_another_job() -> None:
    other = replace(JOB, name="other", training=Training(max_length=8))

    assert read(other, ("value", "training.max_length")) == 8
    assert read(other, ("class", "training")) is Training
    assert read(other, ("states", "training.max_length")) is True
    assert read(other, ("at", "training")).yaml_path == "jobs.other.training"
    with pytest.raises(AttributeError):
        read(other, ("value", "evaluation.max_new_tokens"))


def test_which_settings_are_stated_is_told_one_by_one(seen: Job, told: dict[Cell, Any]) -> None:
    assert "training.max_length" in seen.places
    assert seen.places.get("serving") is None
    assert told == {("placed", "training.max_length"): True, ("placed", "serving"): False}
    assert read(replace(JOB, places={}), ("placed", "training.max_length")) is False

    assert seen.places["training"].line == 3
    assert told[("value", "places")] == JOB.places
