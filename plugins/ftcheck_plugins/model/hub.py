"""Asks whether a job's base model can be had: its folder, the hub's cache, or the hub itself."""

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftcheck.inputs import bounded
from ftcheck.inputs.container import Run
from ftcheck.inputs.environment import Environment
from ftcheck.inputs.loader import loader
from ftcheck.inputs.repository import Repository
from ftcheck.paths import hub_cache, is_folder, model_folder
from ftcheck.settings import Job

TIMEOUT = 10.0
"""Seconds that the hub has for its answer."""
WEIGHTS = ("*.safetensors", "*.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
PREFIX = "models--"


@loader("repository")
def repository(job: Job, run: Run, environment: Environment) -> Repository:
    """The job's base model: a folder, in the hub's cache, or what the hub says of it."""
    name, revision = job.model.name, job.model.revision
    folder = Path(bounded.expanded(name))
    if is_folder(folder) or name.startswith(("/", ".", "~")):
        return Repository(name, True, False, is_folder(folder), None, None)
    blank = Repository(name, False, False, None, None, None, close=_close(name))
    kept = model_folder(name, revision)
    if kept is not None and is_complete(kept):
        return replace(blank, cached=True)
    if run.offline or environment.offline:
        return replace(blank, problem="the hub was not contacted: this run is offline")
    return _of_hub(blank, revision)


def is_complete(folder: Path) -> bool:
    """Whether a snapshot holds the config and every weight file that its index names."""
    if not (folder / "config.json").is_file():
        return False
    for index in INDEXES:
        if (folder / index).is_file():
            named = _shards(folder / index)
            return bool(named) and all((folder / one).is_file() for one in named)
    return any(one.is_file() for pattern in WEIGHTS for one in folder.glob(pattern))


def _shards(index: Path) -> set[str]:
    try:
        return set(bounded.read_json(index)["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()


def _of_hub(blank: Repository, revision: str | None) -> Repository:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = HfApi().model_info(blank.name, revision=revision, files_metadata=True, timeout=TIMEOUT)
    except GatedRepoError:
        return replace(blank, found=True, gated=True)
    except RevisionNotFoundError:
        return replace(blank, found=False, problem=f"no revision '{revision}'")
    except RepositoryNotFoundError:
        return replace(blank, found=False)
    except HFValidationError:
        return replace(blank, found=False, problem="no such repository on the hub")
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        return replace(blank, problem=f"the hub did not answer: {type(error).__name__}: {words}")
    return replace(blank, found=True, gated=bool(found.gated), size=download_size(found.siblings))


def download_size(files: Any) -> int | None:
    """Bytes that loading fetches: safetensors where there are any, else .bin, and the small files."""
    sizes = {
        one.rfilename: one.size for one in files or () if one.size is not None and "/" not in one.rfilename
    }
    weights = [name for name in sizes if name.endswith(".safetensors")]
    weights = weights or [name for name in sizes if name.endswith(".bin")]
    small = [name for name in sizes if name.endswith((".json", ".jinja", ".model", ".txt"))]
    return sum(sizes[name] for name in {*weights, *small}) or None


def _close(name: str) -> str | None:
    """A model in the hub's cache that is called much like this one."""
    held = sorted(
        path.name.removeprefix(PREFIX).replace("--", "/") for path in hub_cache().glob(f"{PREFIX}*")
    )
    folded = {one.lower(): one for one in held if one != name}
    last = {one.rpartition("/")[2].lower(): one for one in held if one != name}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.85)
    return folded[found[0]] if found else last.get(name.rpartition("/")[2].lower())
