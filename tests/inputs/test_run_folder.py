"""Run folders as they are found: finished, killed, cut in the middle, or no runs at all."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from ftcheck.errors import InputError
from ftcheck.inputs import run_folder
from ftcheck.inputs.run_folder import Reader, State


def folder_of(path: Path, lines: list[dict[str, Any]] | None = None, **values: Any) -> Path:
    """A run folder; `finished`, unless `values` say otherwise."""
    path.mkdir(parents=True, exist_ok=True)
    about = {"schema": run_folder.SCHEMA, "job": "mapper", "status": "finished", "planned": {"steps": 40}}
    (path / "run.json").write_text(json.dumps(about | values), encoding="utf-8")
    text = "".join(json.dumps(line) + "\n" for line in lines or [])
    (path / "metrics.jsonl").write_text(text, encoding="utf-8")
    return path


def this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "began": psutil.Process().create_time()}


def test_a_finished_run_with_its_lines(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"step": 5, "loss": 2.5, "at": "2026-11-22T16:39:45+00:00"},
        {"step": 5, "eval_loss": 2.75},
        {"step": 10, "loss": None},
    ]
    run = run_folder.read(folder_of(tmp_path / "run", lines, final_loss=2.5, checkpoint="checkpoint-10"))

    assert (run.state, run.job, run.steps, run.total) == (State.FINISHED, "mapper", 10, 40)
    assert [line.loss for line in run.training] == [2.5, None]
    assert [line.eval_loss for line in run.evaluations] == [2.75]
    assert run.metrics[0].at is not None
    assert run.metrics[0].at.minute == 39
    assert run.notes == ()


def test_a_line_that_is_cut_or_foreign_is_a_note_and_the_others_are_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", [{"step": 1, "loss": 3.0}, {"step": 3, "loss": 1.0}])
    first, last = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    broken = [first, first[:9], '{"loss": 2}', "[1]", '{"step": true}', '"\udcff"', "", last, last[:-4]]
    (folder / "metrics.jsonl").write_bytes("\n".join(broken).encode("utf-8", "surrogateescape"))

    run = run_folder.read(folder)

    assert [line.step for line in run.training] == [1, 3]
    assert [note.line for note in run.notes] == [2, 3, 4, 5, 6, 9]
    assert str(run.notes[0]).startswith(f"{folder / 'metrics.jsonl'}:2: not valid JSON")


def test_a_last_line_without_its_end_counts_if_it_is_whole(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", [{"step": 1, "loss": 3.0}])
    file = folder / "metrics.jsonl"
    file.write_text(file.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")

    run = run_folder.read(folder)

    assert [line.step for line in run.training] == [1]
    assert run.notes == ()


def test_a_run_whose_process_is_gone_has_crashed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    living = folder_of(tmp_path / "a", status="running", host=host, process=this_process())
    dead = folder_of(
        tmp_path / "b", status="running", host=host, process={"pid": gone.pid, "began": 1_700_000_000.0}
    )
    reused = folder_of(
        tmp_path / "c", status="running", host=host, process=this_process() | {"began": 1_700_000_000.0}
    )

    assert [run_folder.read(one).state for one in (living, dead, reused)] == [
        State.RUNNING,
        State.CRASHED,
        State.CRASHED,
    ]


def test_a_run_of_another_machine_is_judged_by_when_it_wrote_last(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", status="running", host="elsewhere", process=this_process())

    assert run_folder.read(folder).state is State.RUNNING
    for name in ("run.json", "metrics.jsonl"):
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    assert run_folder.read(folder).state is State.CRASHED


def test_reading_on_takes_what_was_added_and_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    about = {"status": "running", "host": socket.gethostname(), "process": this_process()}
    folder = folder_of(tmp_path / "run", [{"step": 1, "loss": 3.0}], **about)
    reader, file = Reader(folder), folder / "metrics.jsonl"
    assert [line.step for line in reader.read().metrics] == [1]

    with file.open("a", encoding="utf-8") as more:
        more.write('{"step": 2, "lo')
    halfway = reader.read()
    with file.open("a", encoding="utf-8") as more:
        more.write('ss": 2.0}\n')
    assert [line.step for line in halfway.metrics] == [1]
    assert halfway.notes == ()
    assert [line.step for line in reader.read().metrics] == [1, 2]

    replaced = folder / "other"
    replaced.write_text('{"step": 1, "loss": 9.0}\n', encoding="utf-8")
    replaced.replace(file)
    assert [line.loss for line in reader.read().metrics] == [9.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "not a run folder"),
        ("{", "not valid JSON"),
        ("[1]", "schema is None"),
        ('{"schema": "ftcheck.run/9"}', "ftcheck.run/9"),
        ('{"schema": "ftcheck.run/1", "status": "done"}', "'done'"),
    ],
)
def test_what_is_no_run_is_an_error_with_its_place(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match="run.json" if text else "not a run folder") as caught:
        run_folder.read(tmp_path)

    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_run_folders_are_found_below_a_folder(tmp_path: Path) -> None:
    first, second = folder_of(tmp_path / "checkpoints" / "b"), folder_of(tmp_path / "checkpoints" / "a")
    folder_of(first / "checkpoint-5")
    folder_of(tmp_path / "checkpoints" / ".hidden")

    assert run_folder.find(tmp_path) == (second, first)
    assert run_folder.find(first) == (first,)
    assert run_folder.find(tmp_path / "nothing") == ()


def test_a_checkpoint_is_complete_once_its_state_is_written(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-4"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_bytes(b"1")
    assert run_folder.checkpoint_step(checkpoint) is None

    (checkpoint / "trainer_state.json").write_text('{"global_step": 4}', encoding="utf-8")

    assert run_folder.checkpoint_step(checkpoint) == 4


def test_a_sealed_checkpoint_that_lost_bytes_is_not_complete(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-4"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_bytes(b"12")
    (checkpoint / "trainer_state.json").write_text('{"global_step": 4}', encoding="utf-8")
    seal = checkpoint / "files.json"
    seal.write_text('{"files": {"optimizer.pt": {"bytes": 2}}}', encoding="utf-8")
    assert run_folder.checkpoint_step(checkpoint) == 4

    (checkpoint / "optimizer.pt").write_bytes(b"1")
    assert run_folder.checkpoint_step(checkpoint) is None
    (checkpoint / "optimizer.pt").unlink()
    (checkpoint / "optimizer.bin").write_bytes(b"12")
    assert run_folder.checkpoint_step(checkpoint) is None, "a file of the seal is gone"
    seal.write_text("{", encoding="utf-8")
    assert run_folder.checkpoint_step(checkpoint) is None
