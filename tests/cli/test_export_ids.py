"""`ftcheck export ids` at the command line: the gate, what is refused, what is left when it stops."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ftcheck_trainers import dataset, saved_rows
from ruamel.yaml import YAML

from ftcheck.cli import run_command
from tests.cli.project import Project
from tests.hidden import TRAINING, without
from tests.older_ids import older_digest, with_ids
from tests.places import SAMPLES

WORDS = ("export", "ids", "policy.yaml", "--job", "mapper", "--to")


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "ftcheck.json").read_text(encoding="utf-8"))
    return found


def rows_of(folder: Path, split: str = "train") -> list[dict[str, list[int]]]:
    """What lies in a split, by Arrow alone."""
    with pa.memory_map(str(folder / split / saved_rows.SHARD)) as source:
        rows: list[dict[str, list[int]]] = pa.ipc.open_stream(source).read_all().to_pylist()
    return rows


def left(folder: Path) -> list[str]:
    """Names in a folder that an export may have left there."""
    return sorted(one.name for one in folder.iterdir() if "export" in one.name or one.name == "out")


def test_stdout_holds_the_lines_of_configuration_alone(gated: Project) -> None:
    ran = gated.call(*WORDS, "axolotl", "out")

    assert ran.code == 0
    assert ran.out == (gated.folder / "out" / "config.yml").read_text(encoding="utf-8")
    lines = YAML(typ="safe").load(ran.out)
    assert lines["datasets"] == [{"path": str(gated.folder / "out"), "split": "train", "type": None}]
    assert "train: 80 rows" in ran.err
    assert "not gated: no report says that mapper passed its checks" in ran.err


def test_a_report_that_opens_the_gate_is_written_down(gated: Project) -> None:
    ran = gated.call(*WORDS, "trl", "out", "--report", "r.json")

    report = json.loads((gated.folder / "r.json").read_text(encoding="utf-8"))
    assert ran.code == 0
    assert "not gated" not in ran.err
    found = manifest(gated.folder / "out")
    assert found["ids"] == report["jobs"]["mapper"]["ids"]
    assert found["job_digest"] == report["jobs"]["mapper"]["digest"]
    assert found["gate"]["plan"] == report["jobs"]["mapper"]["plan"]
    assert found["job"] == "mapper"


def test_a_report_of_other_data_exports_nothing(gated: Project) -> None:
    data = gated.folder / "mapper.jsonl"
    data.write_text(data.read_text(encoding="utf-8").replace("laptop", "tablet"), encoding="utf-8")

    ran = gated.call(*WORDS, "trl", "out", "--report", "r.json")

    assert ran.code == 5
    assert "gate: refused for mapper (data-changed" in ran.err
    assert ran.out == ""
    assert left(gated.folder) == []


def test_ids_that_are_not_those_of_the_report_are_not_exported(gated: Project) -> None:
    report = json.loads((gated.folder / "r.json").read_text(encoding="utf-8"))
    report["jobs"]["mapper"]["ids"] = "sha256:" + "0" * 64
    (gated.folder / "r.json").write_text(json.dumps(report), encoding="utf-8")

    ran = gated.call(*WORDS, "trl", "out", "--report", "r.json")

    assert ran.code == 5
    assert "ids-changed" in ran.err
    assert left(gated.folder) == []


def test_a_report_with_its_ids_in_the_older_form_still_opens_the_gate(gated: Project) -> None:
    rows = exported_rows(gated)
    older = older_digest([(row["input_ids"], row["labels"]) for row in rows])
    with_ids(gated.folder / "r.json", "mapper", older)

    asked = gated.call("gate", "r.json", "--policy", "policy.yaml", "--job", "mapper")
    assert asked.code == 0
    said = "the report has its ids in the older form (one stream over all rows)"
    assert asked.out == f"gate: open for mapper · {said}\n"

    again = gated.call(*WORDS, "trl", "out", "--report", "r.json")
    assert again.code == 0, again.err
    assert manifest(gated.folder / "out")["ids"].startswith("sha256-tree:")

    with_ids(gated.folder / "r.json", "mapper", older_digest([([1], [1])]))
    refused = gated.call(*WORDS, "trl", "out2", "--report", "r.json")
    assert refused.code == 5
    assert f"are {older} now" in refused.err


def exported_rows(project: Project) -> list[dict[str, list[int]]]:
    """What is fed, by an export that no report is asked for."""
    assert project.call(*WORDS, "axolotl", "first").code == 0
    return rows_of(project.folder / "first")


def test_an_earlier_export_is_replaced_with_force_only(gated: Project) -> None:
    assert gated.call(*WORDS, "axolotl", "out").code == 0
    (gated.folder / "out" / "axolotl").mkdir()  # its cache

    ran = gated.call(*WORDS, "llama-factory", "out")
    assert ran.code == 2
    assert "contains an export already: replace it with --force, or name a new folder" in ran.err
    assert manifest(gated.folder / "out")["to"] == "axolotl"

    assert gated.call(*WORDS, "llama-factory", "out", "--force").code == 0
    assert manifest(gated.folder / "out")["to"] == "llama-factory"
    assert not (gated.folder / "out" / "axolotl").exists()
    assert left(gated.folder) == ["out"]


def test_a_folder_of_other_files_is_never_replaced(gated: Project) -> None:
    gated.write("out/thesis.txt", "the only copy")

    ran = gated.call(*WORDS, "trl", "out", "--force")

    assert ran.code == 2
    assert "is not empty, and no export of ftcheck: name a new folder" in ran.err
    assert (gated.folder / "out" / "thesis.txt").read_text(encoding="utf-8") == "the only copy"


def test_an_empty_folder_is_filled(gated: Project) -> None:
    (gated.folder / "out").mkdir()

    assert gated.call(*WORDS, "axolotl", "out").code == 0
    assert manifest(gated.folder / "out")["to"] == "axolotl"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("torchtune out", 2, "--to torchtune: no such trainer; ids can be exported to: axolotl, llama-fac"),
        ("trl policy.yaml", 2, "policy.yaml is no folder: name a new folder"),
        ("trl /proc/none/out", 2, "/proc/none/out cannot be written"),
        ("trl out data.train=null", 3, "job mapper: data.train is not set"),
        ("trl out data.train=bad.jsonl", 3, "1 row cannot be used; the first: "),
        ("trl out data.train=empty.jsonl", 3, "job mapper has no rows to export: its data is empty"),
        ("trl out training.packing=false training.max_length=8", 3, "no rows to export: all 80 were dropped"),
        ("trl out training.max_length=8", 3, "job mapper: no token of its rows is in the loss"),
        ("trl out training.max_length=null", 2, "training.packing needs training.max_length, the length"),
        (
            "axolotl out training.packing_strategy=wrapped",
            2,
            "axolotl keeps packed rows apart, which wrapped",
        ),
        ("llama-factory out training.packing_strategy=wrapped", 2, "LLaMA-Factory keeps packed rows apart"),
        (
            "axolotl out training.packing_strategy=bfd_split training.max_length=64",
            2,
            "more than training.max_length (64), and axolotl splits none: set training.packing_strategy: bfd",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_line(gated: Project, words: str, code: int, said: str) -> None:
    gated.write("bad.jsonl", '{"messages": [\n')
    gated.write("empty.jsonl", "")
    trainer, folder, *settings = words.split()
    sets = [word for one in settings for word in ("--set", f"jobs.mapper.{one}")]

    ran = gated.call(*WORDS, trainer, folder, *sets)

    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert left(gated.folder) == []


@pytest.mark.parametrize("reason", ["full", "interrupted"])
@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
def test_an_export_that_ends_early_leaves_all_as_it_was(
    gated: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    reason: str,
    before: bool,
) -> None:
    monkeypatch.chdir(gated.folder)
    monkeypatch.setenv("FTCHECK_CACHE", str(gated.folder / "cache"))
    if before:
        assert run_command([*WORDS, "axolotl", "out"]) == 0
    capsys.readouterr()
    whole = dataset.write_examples

    def half(examples: Any, path: Path, *more: Any) -> None:
        whole((one for one, _ in zip(examples, range(10), strict=False)), path, *more)
        assert path.stat().st_size > 0
        if reason == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dataset, "write_examples", half)

    code = run_command([*WORDS, "trl", "out", "--force", "--set", "jobs.mapper.training.packing=false"])

    said = capsys.readouterr()
    assert code == (2 if reason == "full" else 130)
    assert said.out == ""
    assert ("no space left there" in said.err) == (reason == "full")
    assert left(gated.folder) == (["out"] if before else [])
    if before:
        assert manifest(gated.folder / "out")["to"] == "axolotl"
        assert len(rows_of(gated.folder / "out")) == 80


def test_rows_are_exported_where_no_trainer_is_installed(gated: Project, tmp_path: Path) -> None:
    gated.fresh = True
    bare = without(tmp_path / "bare", *TRAINING)

    assert gated.call(*WORDS, "axolotl", "out", **bare).code == 0
    assert len(rows_of(gated.folder / "out")) == 80
    packed = gated.call(*WORDS, "trl", "packed", **bare)
    assert packed.code == 3
    assert "packed blocks need datasets; install it with: pip install 'ftcheck[train]'" in packed.err


TEXTS = """\
ftcheck: 1
name: texts
jobs:
  mapper:
    model: {name: model}
    data: {train: texts.jsonl}
    training: {max_length: 512}
"""


def test_long_texts_are_exported_in_the_pieces_that_were_checked(tmp_path: Path) -> None:
    project = Project(tmp_path)
    shutil.copytree(SAMPLES / "models" / "mapper-tiny", project.folder / "model")
    texts = ["a laptop " * count for count in (4, 5, 6, 30)]
    project.write("texts.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
    project.write("policy.yaml", TEXTS)
    assert project.call(*WORDS, "trl", "whole").code == 0
    chunks = "jobs.mapper.data.outliers={above_percentile: 75, action: chunk}"
    assert project.call(*WORDS, "trl", "out", "--set", chunks).code == 0

    whole, pieces = (rows_of(project.folder / name) for name in ("whole", "out"))
    longest = len(whole[2]["input_ids"])  # the third of four lengths is their 75th percentile
    assert pieces[:3] == whole[:3]
    assert [len(one["input_ids"]) for one in pieces[3:-1]] == [longest] * (len(pieces) - 4)
    assert len(pieces) > 4
    for name in ("input_ids", "labels"):
        assert [value for one in pieces[3:] for value in one[name]] == whole[3][name]


def test_the_help_says_what_it_is_for(gated: Project) -> None:
    assert "checked ids" in gated.call("export", "--help").out
    said = " ".join(gated.call("export", "ids", "--help").out.split())
    assert "for a trainer that reads them as they are" in said
    assert "trl, axolotl or llama-factory" in said
