import json
from pathlib import Path

import pytest
from ftcheck_plugins.finished.baseline import baseline
from ftcheck_plugins.finished.run_folder import run_artifacts

from ftcheck import InputError
from ftcheck.inputs.container import Run
from ftcheck.inputs.finished_run import RunArtifacts
from ftcheck.testing import job


def opened(folder: Path, run: Path | None = None, notes: list[str] | None = None) -> RunArtifacts | None:
    made = job(training={"output_dir": str(folder)}, run=None if run is None else str(run))
    told = notes if notes is not None else []
    found: RunArtifacts | None = run_artifacts.open(made, Run(folder, note=told.append))
    return found


def write_run(folder: Path, status: str) -> None:
    folder.mkdir(exist_ok=True)
    values = {"schema": "ftcheck.run/1", "job": "job", "status": status, "reason": "out of memory"}
    (folder / "run.json").write_text(json.dumps(values), encoding="utf-8")


def test_a_job_without_run_folder_is_not_trained_and_the_report_says_so(tmp_path: Path) -> None:
    notes: list[str] = []
    assert opened(tmp_path / "none", notes=notes) is None
    assert "job was not trained" in notes[0]


def test_a_run_folder_that_the_policy_names_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no run and no adapter"):
        opened(tmp_path, run=tmp_path / "moved")


def test_a_run_that_failed_left_no_adapter(tmp_path: Path) -> None:
    write_run(tmp_path, "failed")
    found = opened(tmp_path)
    assert found is not None
    assert (found.adapter, found.missing.endswith("contains no adapter: its run is failed")) == (None, True)


def test_an_adapter_of_another_program_is_taken_without_run_json(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    found = opened(tmp_path)
    assert found is not None
    assert (found.run, found.adapter, found.whole) == (None, tmp_path, False)
    before = found.digest
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weightz")
    again = opened(tmp_path)
    assert again is not None
    assert None not in (before, again.digest)
    assert before != again.digest


def test_a_broken_run_json_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"run\.json: not valid JSON"):
        opened(tmp_path)


def test_a_baseline_that_is_no_report_is_an_error_that_names_it(tmp_path: Path) -> None:
    for text in ("{}", "no json"):
        (tmp_path / "old.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="not a report of `ftcheck run"):
            baseline.open(job(baseline=str(tmp_path / "old.json")))
    with pytest.raises(InputError, match="No such file"):
        baseline.open(job(baseline=str(tmp_path / "none.json")))
    assert baseline.open(job()) is None
