"""`--set`: values under `jobs.` and nothing else."""

import pytest

from ftcheck.records import Location
from tests.policy.kit import job, read, said

POLICY = job("training: {max_length: 8, lora: {r: 4}}", "data: {train: a.jsonl}")
EXAMPLE = "write it as in jobs.mapper.training.max_length=512"


def test_a_value_is_set_and_its_place_is_the_command_line() -> None:
    found = read(POLICY, "jobs.mapper.training.max_length=512")

    assert found.policy is not None
    assert found.policy.overrides == ("jobs.mapper.training.max_length=512",)
    mapper = found.policy.jobs["mapper"]
    assert mapper.training.max_length == 512
    assert mapper.at("training.max_length") == Location("--set", yaml_path="jobs.mapper.training.max_length")


def test_the_sections_around_it_keep_their_place_in_the_file() -> None:
    found = read(POLICY, "jobs.mapper.training.seed=1")

    assert found.policy is not None
    mapper = found.policy.jobs["mapper"]
    assert mapper.at("training") == Location("policy.yaml", 5, 15, "jobs.mapper.training")
    assert mapper.at("") == Location("policy.yaml", 3, 3, "jobs.mapper")


def test_the_last_of_several_holds() -> None:
    found = read(POLICY, "jobs.mapper.training.seed=1", "jobs.mapper.training.seed=2")
    assert found.policy is not None
    assert found.policy.jobs["mapper"].training.seed == 2


def test_values_are_yaml() -> None:
    found = read(
        POLICY,
        "jobs.mapper.training.lora={r: 8, target_modules: [q_proj, v_proj]}",
        "jobs.mapper.training.learning_rate=1e-5",
        "jobs.mapper.data.train=null",
        "jobs.mapper.serving.system_prompt='a = b'",
    )

    assert found.policy is not None
    mapper = found.policy.jobs["mapper"]
    assert mapper.training.lora is not None
    assert (mapper.training.lora.r, mapper.training.lora.target_modules) == (8, ("q_proj", "v_proj"))
    assert (mapper.training.learning_rate, mapper.data.train) == (1e-5, None)
    assert mapper.serving.system_prompt == "a = b"


def test_job_names_may_hold_dots() -> None:
    text = "ftcheck: 1\njobs:\n  v1: {model: {name: m}}\n  v1.5: {model: {name: m}}\n"
    found = read(text, "jobs.v1.5.training.seed=3")
    assert found.policy is not None
    assert found.policy.jobs["v1.5"].training.seed == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("gate.fail_on=info", f"gate.fail_on: only values under 'jobs.' can be set: {EXAMPLE}"),
        ("checks.duplicates=false", f"checks.duplicates: only values under 'jobs.' can be set: {EXAMPLE}"),
        ("jobs.mapper.training.seed", f"jobs.mapper.training.seed: has no value: {EXAMPLE}"),
        (
            "jobs.mapper.run=",
            "jobs.mapper.run: has no value: write null for none, '' for an empty text",
        ),
        (
            "jobs.maper.training.seed=1",
            "jobs.maper.training.seed: unknown job 'maper'; did you mean 'mapper'?",
        ),
        ("jobs.mapper..seed=1", "jobs.mapper..seed: has an empty key"),
        (
            "jobs.mapper.training.sed=1",
            "jobs.mapper.training.sed: unknown key 'sed'; did you mean 'seed'?",
        ),
        (
            "jobs.mapper.training.seed=x",
            "jobs.mapper.training.seed: must be a whole number, not the text 'x'",
        ),
        (
            "jobs.mapper.training.seed=[1",
            "jobs.mapper.training.seed: not valid YAML: expected ',' or ']', but got '<stream end>'"
            " (while parsing a flow sequence, started on line 1)",
        ),
        (
            "jobs.mapper.run=!!python/name:os.system x",
            "jobs.mapper.run: the tag '!!python/name:os.system' is not allowed: a policy is plain data",
        ),
    ],
)
def test_what_cannot_be_set_is_named(override: str, message: str) -> None:
    assert said(read(POLICY, override)) == [f"--set: {message}"]
