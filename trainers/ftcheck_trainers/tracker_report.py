"""The report and the gate's word, for the experiment trackers of `training.report_to`.

transformers starts the trackers; when a training begins they get the report and a tag.
Read in mlflow 3.17, wandb 0.31 and trackio 0.43. A tracker that fails is told of, and the training goes on.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ftcheck.report.record import Report, to_dict
from ftcheck.report.redact import redact_json
from ftcheck_trainers import run_folder

FILE = "ftcheck-report.json"
TAG = "ftcheck.gate"


def callback(report: Report, job: str, folder: Path) -> Any:
    """A `transformers.TrainerCallback`, added after the trainer's own; it writes its file into `folder`.

    The gate's word is `open`: nobody trains otherwise.
    """
    from transformers import TrainerCallback

    class Sending(TrainerCallback):  # type: ignore[misc]
        """Sends once, from the first process, when the trackers have started."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                send(report, job, folder, args.report_to)

    return Sending()


def send(report: Report, job: str, folder: Path, trackers: list[str]) -> None:
    """Give the report to each of these trackers that takes one; what does not work is said, and no more."""
    file = folder / FILE
    for name in (one for one in trackers if one in SENDERS):
        try:
            file.write_text(json.dumps(redact_json(to_dict(report)), indent=1) + "\n", encoding="utf-8")
            SENDERS[name](file, job)
        except Exception as error:  # a tracker is another program: whatever it raises ends no training
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            run_folder.say(f"{name} did not take the report, the training goes on: {reason}")


def _mlflow(file: Path, job: str) -> None:
    import mlflow

    mlflow.set_tags({TAG: "open", "ftcheck.job": job})
    mlflow.log_artifact(str(file))


def _wandb(file: Path, job: str) -> None:
    import wandb

    if wandb.run is None:
        raise RuntimeError("no run was started")
    wandb.run.tags = (*(wandb.run.tags or ()), f"{TAG}:open")
    artifact = wandb.Artifact(f"ftcheck-report-{job}", type="report", metadata={TAG: "open"})
    artifact.add_file(str(file), name=FILE)
    wandb.run.log_artifact(artifact)


def _trackio(file: Path, job: str) -> None:
    """Trackio has no tags: the artifact's metadata says it."""
    import trackio

    artifact = trackio.Artifact(f"ftcheck-report-{job}", type="report", metadata={TAG: "open"})
    artifact.add_file(str(file), name=FILE)
    trackio.log_artifact(artifact)


SENDERS: Mapping[str, Callable[[Path, str], None]] = {"mlflow": _mlflow, "wandb": _wandb, "trackio": _trackio}
