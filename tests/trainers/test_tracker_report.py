"""The report at the trackers: their own local backends where they are installed, a stand-in where not."""

import json
import types
from pathlib import Path

import pytest
from ftcheck_trainers import tracker_report

from ftcheck.report.record import Report

REPORT = Report(status="complete", verdict="passed", policy_path="p.yaml", policy_name="night")
WHY = "a tracker of its own weight (mlflow-skinny 15, wandb 11, trackio 6 packages): not in the dev extra"


def _stored(folder: Path, text: str) -> list[Path]:
    """The files below a folder that hold this text."""
    return [one for one in folder.rglob("*") if one.is_file() and text.encode() in one.read_bytes()]


@pytest.mark.filterwarnings("default")
def test_mlflow_keeps_the_report_and_the_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason=WHY)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())

    with mlflow.start_run() as run:
        tracker_report.send(REPORT, "mapper", tmp_path, ["mlflow"])

    tags = mlflow.get_run(run.info.run_id).data.tags
    assert (tags["ftcheck.gate"], tags["ftcheck.job"]) == ("open", "mapper")
    artifacts = mlflow.MlflowClient().list_artifacts(run.info.run_id)
    assert [one.path for one in artifacts] == ["ftcheck-report.json"]


@pytest.mark.filterwarnings("default")
def test_wandb_keeps_the_report_and_the_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason=WHY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = wandb.init(project="p", dir=tmp_path)

    tracker_report.send(REPORT, "mapper", tmp_path, ["wandb"])

    assert run.tags == ("ftcheck.gate:open",)
    run.finish()
    assert _stored(tmp_path / "wandb", "ftcheck-report-mapper")


@pytest.mark.filterwarnings("default")
def test_trackio_keeps_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason=WHY)
    trackio.init(project="p", embed=False)

    tracker_report.send(REPORT, "mapper", tmp_path, ["trackio"])
    trackio.finish()

    assert _stored(tmp_path / "trackio", '"ftcheck.report/1"')


def test_a_tracker_that_fails_is_told_of_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(file: Path, job: str) -> None:
        raise OSError("connection\nrefused")

    sent: list[tuple[str, str]] = []

    def kept(file: Path, job: str) -> None:
        sent.append((json.loads(file.read_bytes())["schema"], job))

    monkeypatch.setattr(tracker_report, "SENDERS", {"mlflow": broken, "wandb": kept})

    tracker_report.send(REPORT, "mapper", tmp_path, ["mlflow", "tensorboard", "wandb"])

    assert sent == [("ftcheck.report/1", "mapper")]
    said = "mlflow did not take the report, the training goes on: connection refused\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("first", "times"), [(True, 1), (False, 0)])
def test_the_first_process_sends_when_the_training_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool, times: int
) -> None:
    pytest.importorskip("transformers")
    sent: list[str] = []
    monkeypatch.setattr(tracker_report, "SENDERS", {"wandb": lambda file, job: sent.append(job)})
    sending = tracker_report.callback(REPORT, "mapper", tmp_path)
    state = types.SimpleNamespace(is_world_process_zero=first)

    sending.on_train_begin(types.SimpleNamespace(report_to=["wandb"]), state, None)

    assert sent == ["mapper"] * times
