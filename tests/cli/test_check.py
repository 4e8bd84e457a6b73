"""`ftcheck check`: a useful report from a data file and a tokenizer folder, without a policy."""

import json
from pathlib import Path

import pytest

import ftcheck
from ftcheck.cli import run_command
from ftcheck.paths import DATA_SUFFIXES
from tests.places import CHECKOUT

MODEL = CHECKOUT / "policies" / "samples" / "models" / "mapper-tiny"
TALK = [{"role": "user", "content": "The printer is late."}, {"role": "assistant", "content": "Printer"}]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{"messages": [{**TALK[0], "content": f"Case {n}."}, TALK[1]]} for n in range(40)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "train.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*words: str) -> list[str]:
    return ["check", *words, "--offline", "--select", "data-*", "--select", "trained-tokens", "-q"]


def test_a_data_file_and_a_model_are_enough(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(
        [*said("train.jsonl", "--model", str(MODEL), "--loss", "assistant"), "-o", "json=r.json"]
    )

    report = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    assert code == 0, capsys.readouterr().out
    assert report["policy"]["path"] == f"train.jsonl --model {MODEL} --loss assistant"
    assert report["jobs"].keys() == {"train"}
    assert [one["outcome"] for one in report["results"]] == ["passed"] * 4
    assert sorted(path.name for path in folder.iterdir()) == ["r.json", "train.jsonl"]


def test_the_saved_policy_checks_the_same_from_its_own_folder(folder: Path) -> None:
    (folder / "policies").mkdir()
    words = said("train.jsonl", "--model", str(MODEL), "--max-length", "256", "--save", "policies/one.yaml")
    assert run_command([*words, "-o", "json=made.json"]) == 0
    assert run_command(["run", "policies/one.yaml", *words[-6:], "--offline", "-o", "json=run.json"]) == 0

    made, ran = (json.loads((folder / name).read_text()) for name in ("made.json", "run.json"))
    assert made["jobs"]["train"]["ids"] == ran["jobs"]["train"]["ids"]
    text = (folder / "policies" / "one.yaml").read_text(encoding="utf-8")
    assert "train: ../train.jsonl" in text
    assert "max_length: 256" in text


def test_what_was_saved_before_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.yaml").write_text("ftcheck: 1\n", encoding="utf-8")

    assert run_command(said("train.jsonl", "--model", str(MODEL), "--save", "mine.yaml")) == 2
    assert "already exists" in capsys.readouterr().err
    assert (folder / "mine.yaml").read_text(encoding="utf-8") == "ftcheck: 1\n"


def test_a_finding_names_the_argument_that_it_is_about(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "plain.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n', encoding="utf-8")
    words = ["plain.jsonl", "--model", str(MODEL), "--loss", "assistant", "--offline"]

    assert run_command(["check", *words, "--select", "chat-template"]) == 1
    [line] = [one for one in capsys.readouterr().out.splitlines() if "assistant_only_loss is set" in one]
    assert line.split()[0] == "--loss"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train.jsonl"], "no model: name the base model with --model (a hub id, or a folder)"),
        (["absent.jsonl", "--model", "org/name"], "absent.jsonl: no such file"),
        (["train.jsonl", "--model", "./absent"], "model ./absent: no such folder"),
        (["train.jsonl", "--model", "org/name", "--eval", "none.jsonl"], "none.jsonl: no such file"),
        (
            ["one.yaml", "--model", "org/name"],
            "one.yaml is a policy, which states the job: leave out --model",
        ),
        (["sub/", "--model", "org/name"], "sub/ is a folder: name the files, or use sub/*.jsonl"),
        (
            ["notes.txt", "--model", "org/name"],
            f"notes.txt: unsupported; ftcheck reads {', '.join(DATA_SUFFIXES)}",
        ),
        (
            ["train.jsonl", "--model", "org/name", "--save", "absent/mine.yaml"],
            "--save absent/mine.yaml: its folder does not exist",
        ),
    ],
)
def test_a_mistake_is_said_in_a_line(
    words: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sub").mkdir()
    (folder / "notes.txt").write_text("a\n", encoding="utf-8")
    (folder / "one.yaml").write_text("ftcheck: 1\n", encoding="utf-8")
    before = sorted(folder.rglob("*"))

    assert run_command(["check", *words]) == 2
    assert capsys.readouterr().err.strip().splitlines() == [told]
    assert sorted(folder.rglob("*")) == before


def test_a_plan_takes_the_same_arguments(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", "train.jsonl", "--model", str(MODEL), "--gpu", "RTX 4090", "--offline"]) == 0
    assert "train · mapper-tiny · QLoRA r 16" in capsys.readouterr().out


def test_python_gets_the_same_report(folder: Path) -> None:
    report = ftcheck.check(
        "train.jsonl", model=MODEL, select=["data-readable", "trained-tokens"], offline=True
    )

    assert [one.check.id for one in report.results] == ["train::data-readable", "train::trained-tokens"]
    rows = [one["value"] for one in report.measurements if one["check"] == "train::data-readable"]
    assert 40 in rows
    assert [one.check.id for one in report.failures] == ["train::trained-tokens"]
    shown = report._repr_html_()
    assert "train::trained-tokens" in shown
    assert "Case 1." not in shown


def test_a_policy_is_run_from_python(folder: Path) -> None:
    report = ftcheck.run("absent.yaml")

    assert report.status == "incomplete"
    assert "no such file" in str(report.problems[0])


@pytest.mark.parametrize(
    ("trainer", "source", "line"),
    [
        ("", "trl", "ids: as TRL 1.16 prepares them"),
        (
            "    trainer: {use: command, argv: [train]}\n",
            "unverified",
            "ids: unverified: the trainer command reads and tokenises the rows itself",
        ),
    ],
)
def test_the_report_says_whose_ids_were_checked(
    trainer: str, source: str, line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = f"  one:\n    model: {{name: {MODEL}}}\n    data: {{train: train.jsonl}}\n{trainer}"
    text = f"ftcheck: 1\njobs:\n{job}checks:\n  percentile-seq-len: {{}}\n"
    (folder / "policy.yaml").write_text(text, encoding="utf-8")

    run_command(["run", "policy.yaml", "--offline", "-o", "json=r.json"])

    assert line in capsys.readouterr().out.splitlines()
    report = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    assert report["jobs"]["one"]["ids_from"]["source"] == source
