"""Paths are relative to the file that states them, and absolute in the job."""

from pathlib import Path

import pytest

from ftcheck.policy import draft
from ftcheck.settings import Job
from tests.policy.kit import HEAD, job, read, write


def job_of(text: str, *overrides: str) -> Job:
    found = read(text, *overrides)
    assert found.policy is not None, found.problems
    return found.policy.jobs["mapper"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("data/train.jsonl", "HERE/data/train.jsonl"),
        ("train.parquet", "HERE/train.parquet"),
        ("data/*.jsonl", "HERE/data/*.jsonl"),
        ("./rows", "HERE/rows"),
        ("/data/rows", "/data/rows"),
        ("a/b/c", "HERE/a/b/c"),
        ("../rows.jsonl", "PARENT/rows.jsonl"),
        ("org/data-v1.5", "org/data-v1.5"),
        ("squad", "squad"),
        ("folder", "HERE/folder"),
        ("hf://datasets/org/data", "hf://datasets/org/data"),
    ],
)
def test_data_is_a_path_or_the_name_of_a_hub_data_set(value: str, expected: str) -> None:
    Path("folder").mkdir()
    here = str(Path.cwd())
    expected = expected.replace("HERE", here).replace("PARENT", str(Path(here).parent))

    found = job_of(job(f"data: {{train: '{value}', eval: ['{value}']}}"))

    assert (found.data.train, found.data.eval) == (expected, (expected,))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("org/model", "org/model"),
        ("gpt2", "gpt2"),
        ("models/small", "HERE/models/small"),
        ("models/small/missing", "HERE/models/small/missing"),
        ("./missing", "HERE/missing"),
        ("/models/m", "/models/m"),
    ],
)
def test_a_model_is_a_folder_or_the_name_of_a_hub_model(value: str, expected: str) -> None:
    Path("models/small").mkdir(parents=True)
    expected = expected.replace("HERE", str(Path.cwd()))

    text = f"ftcheck: 1\njobs:\n  mapper:\n    model: {{name: {value}, tokenizer: {value}}}\n"
    found = job_of(text + f"    serving: {{tokenizer: {value}}}\n")

    assert (found.model.name, found.model.tokenizer, found.serving.tokenizer) == (expected,) * 3


def test_the_other_paths_are_always_files() -> None:
    here = str(Path.cwd())
    found = job_of(
        job(
            "data: {gold: {path: gold.json}}",
            "serving: {chat_template: s.jinja, output_schema: o.json}",
            "training: {output_dir: out/run}",
            "trainer: {use: command, argv: [axolotl, train, a.yml], files: [a.yml]}",
            "run: done",
        )
    )
    assert found.data.gold is not None
    assert found.data.gold.path == f"{here}/gold.json"
    assert found.serving.chat_template == f"{here}/s.jinja"
    assert found.serving.output_schema == f"{here}/o.json"
    assert found.training.output_dir == f"{here}/out/run"
    assert (found.trainer.argv, found.trainer.files) == (("axolotl", "train", "a.yml"), (f"{here}/a.yml",))
    assert found.run == f"{here}/done"


def test_a_home_folder_is_written_out() -> None:
    assert job_of(job("run: ~/runs")).run == str(Path.home() / "runs")


def test_each_path_begins_at_the_file_that_states_it() -> None:
    here = Path.cwd()
    write("shared/base.yaml", HEAD + "    data: {train: a.jsonl, eval: b.jsonl}\n    run: r\n")

    text = "ftcheck: 1\nextends: [shared/base.yaml]\njobs:\n  mapper:\n    data: {eval: c.jsonl}\n"
    found = job_of(text, "jobs.mapper.run=q")

    assert (found.data.train, found.data.eval) == (f"{here}/shared/a.jsonl", f"{here}/c.jsonl")
    assert found.run == f"{here}/q"


def test_the_canonical_job_has_every_default_and_paths_relative_to_the_policy() -> None:
    write("data/a.jsonl", "")
    text = job("data: {train: data/a.jsonl}", "training: {num_train_epochs: 3, adam_beta1: 0.5}")

    first = job_of(text).canonical
    write("moved/data/a.jsonl", "")
    second = draft(write("moved/policy.yaml", text)).policy

    assert first["data"]["train"] == "data/a.jsonl"
    assert first["training"]["num_train_epochs"] == 3.0
    assert first["training"]["max_length"] == 1024
    assert first["training"]["extra"] == {"adam_beta1": 0.5}
    assert first["model"] == {
        "name": "tiny",
        "revision": None,
        "tokenizer": None,
        "chat_template": None,
        "resize_embeddings_to": None,
        "trust_remote_code": False,
    }
    assert second is not None
    assert second.jobs["mapper"].canonical == first


def test_places_outside_the_current_folder_are_absolute() -> None:
    write("policies/policy.yaml", HEAD)
    inside = draft("policies/policy.yaml")
    outside = draft(Path.cwd().parent / "policy.yaml")

    assert inside.path == "policies/policy.yaml"
    assert outside.path == f"{Path.cwd().parent}/policy.yaml"
