"""Reads a base model's config.json and generation_config.json as plain JSON; weights stay unread."""

from pathlib import Path
from typing import Any

from ftcheck.errors import AbsentConfig, InputError, Problem
from ftcheck.inputs import bounded
from ftcheck.inputs.container import Run
from ftcheck.inputs.loader import loader
from ftcheck.inputs.model import ModelConfig
from ftcheck.paths import is_folder
from ftcheck.settings import Job

CONFIG = "config.json"
TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tokenizer_config.json")
GENERATION = "generation_config.json"


@loader("model")
def model(job: Job, run: Run) -> ModelConfig:
    """The configuration of the job's base model, from its folder, the hub's cache, or the hub."""
    folder = Path(bounded.expanded(job.model.name))
    local = is_folder(folder) or job.model.name.startswith(("/", ".", "~"))
    config = _local(job, folder) if local else _of_hub(job, run)
    generation = config.with_name(GENERATION) if local else _fetched(job, run, GENERATION)
    return ModelConfig(
        path=str(config.parent),
        config=_read(job, config),
        generation=_read(job, generation) if generation is not None and generation.is_file() else {},
    )


def _local(job: Job, folder: Path) -> Path:
    if not is_folder(folder):
        raise _failure(job, "no such folder")
    if (folder / CONFIG).is_file():
        return folder / CONFIG
    if (folder / "adapter_config.json").is_file():
        raise _failure(job, "the folder contains an adapter (adapter_config.json), not a base model")
    if any((folder / name).is_file() for name in TOKENIZER):
        at = job.at("model.name")
        message = f"no {CONFIG} beside the tokenizer in {job.model.name}: copy it from the model's repository"
        raise AbsentConfig(message, [Problem(message, at.path, at.line, at.column, at.yaml_path)])
    raise _failure(job, f"the folder contains no {CONFIG}")


def _of_hub(job: Job, run: Run) -> Path:
    found = _fetched(job, run, CONFIG)
    if found is not None:
        return found
    if run.offline:
        raise _failure(job, f"{CONFIG} is not in the hub cache, and --offline is set")
    raise _failure(job, f"no {CONFIG} on the hub or in its cache; check the name and the network connection")


def _fetched(job: Job, run: Run, name: str) -> Path | None:
    """A file of the model's repository in the hub's cache, downloaded if it has to be; None without it."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(
            hf_hub_download(job.model.name, name, revision=job.model.revision, local_files_only=run.offline)
        )
    except EntryNotFoundError:
        return None
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise _failure(job, f"{name} could not be loaded: {type(error).__name__}: {words}") from error


def _read(job: Job, path: Path) -> dict[str, Any]:
    try:
        return bounded.read_object(path)
    except ValueError as error:
        raise _failure(job, str(error)) from error


def _failure(job: Job, why: str) -> InputError:
    place = job.at("model.name")
    message = f"model {job.model.name}: {why}"
    return InputError(message, [Problem(message, place.path, place.line, place.column, place.yaml_path)])
