"""Settings that exclude each other are told when the policy is read, each with both places."""

from pathlib import Path

import pytest

from ftcheck.policy import draft


def problems(folder: Path, text: str, *given: str) -> list[str]:
    (folder / "p.yaml").write_text(text, encoding="utf-8")
    return [str(one).replace(f"{folder}/", "") for one in draft(folder / "p.yaml", given).problems]


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (
            "    data:\n      eval: held.jsonl\n      validation_split: 0.1\n",
            "p.yaml:7:25: jobs.one.data.validation_split: excludes data.eval (p.yaml:6:13): evaluation rows"
            " come from one of them; remove one",
        ),
        (
            "    data:\n      format: messages\n      outliers: {action: chunk}\n",
            "p.yaml:7:26: jobs.one.data.outliers.action: chunk excludes data.format messages (p.yaml:6:15):"
            " only plain text is cut into chunks; set another action",
        ),
        (
            "    trainer:\n      argv: [axolotl, train, q.yml]\n",
            "p.yaml:6:13: jobs.one.trainer.argv: trainer.use is not set, and its default qlora runs no"
            " command: set trainer.use: command, or remove argv",
        ),
    ],
)
def test_two_keys_that_exclude_each_other_are_told_with_both_places(
    job: str, told: str, tmp_path: Path
) -> None:
    text = f"ftcheck: 1\njobs:\n  one:\n    model: {{name: org/name}}\n{job}"

    assert problems(tmp_path, text) == [told]


@pytest.mark.parametrize(
    "job",
    [
        "    data: {validation_split: 0.1}\n",
        "    data: {eval: held.jsonl}\n",
        "    data: {eval: null, validation_split: 0.1}\n",
        "    data: {outliers: {action: chunk}}\n",
        "    data: {format: text, outliers: {action: chunk}}\n",
        "    data: {format: auto, outliers: {action: chunk}}\n",
        "    data: {format: messages, outliers: {action: drop}}\n",
        "    trainer: {use: command, argv: [train]}\n",
        "    trainer: {use: qlora, argv: [train]}\n",
        "    trainer: {argv: []}\n",
    ],
)
def test_what_goes_together_is_not_told(job: str, tmp_path: Path) -> None:
    assert problems(tmp_path, f"ftcheck: 1\njobs:\n  one:\n    model: {{name: org/name}}\n{job}") == []


def test_what_defaults_and_the_command_line_state_counts_too(tmp_path: Path) -> None:
    text = "ftcheck: 1\ndefaults: {data: {eval: held.jsonl}}\njobs: {one: {model: {name: org/name}}}\n"

    assert problems(tmp_path, text) == []
    [told] = problems(tmp_path, text, "jobs.one.data.validation_split=0.1")
    assert told == (
        "--set: jobs.one.data.validation_split: excludes data.eval (p.yaml:2:25): evaluation rows come from"
        " one of them; remove one"
    )
    assert problems(tmp_path, text, "jobs.one.data.validation_split=0.1", "jobs.one.data.eval=null") == []


@pytest.mark.parametrize("key", ["endpoint", "upstream"])
def test_a_url_that_is_none_is_told(key: str, tmp_path: Path) -> None:
    text = "ftcheck: 1\njobs:\n  one:\n    model: {name: org/name}\n    serving:\n"
    [told] = problems(tmp_path, f"{text}      {key}: localhost:8000\n")

    column = 8 + len(key) + 1
    assert told == f"p.yaml:6:{column}: jobs.one.serving.{key}: not a URL of the form http://HOST:PORT/v1"
    assert problems(tmp_path, f"{text}      {key}: http://127.0.0.1:8000/v1\n") == []


def test_a_sample_of_prepared_rows_and_an_unknown_job_of_the_gate_are_told(tmp_path: Path) -> None:
    text = (
        "ftcheck: 1\njobs:\n  one:\n    model: {name: org/name}\n    data:\n      prepared: ids\n"
        "      sample: {rows: 1000}\ngate: {accept_sample: [one, two]}\n"
    )

    assert problems(tmp_path, text) == [
        "p.yaml:7:15: jobs.one.data.sample: excludes data.prepared (p.yaml:6:17): prepared rows are read"
        " whole; remove one",
        "p.yaml:8:29: gate.accept_sample.1: unknown job 'two'",
    ]


def test_a_sample_says_how_many_rows_and_takes_a_hundred_at_least(tmp_path: Path) -> None:
    text = "ftcheck: 1\njobs:\n  one:\n    model: {name: org/name}\n    data: {sample: {rows: 99}}\n"

    [said] = problems(tmp_path, text)
    assert said.startswith("p.yaml:5:27: jobs.one.data.sample.rows: must be at least 100")
