"""Checkpoints that are whole or not there: written aside, sealed with the digest of each file, then renamed.

A process that is killed while it saves leaves `_saving`, never a `checkpoint-N` that is not whole. What
happens to a checkpoint later (a disk that loses bytes, a copy that was cut) the seal brings to light.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck import ranks
from ftcheck.atomic import replace_file
from ftcheck.inputs.run_folder import SEAL, read_seal

SCHEMA = "ftcheck.checkpoint/1"
STAGING = "_saving"
STATE = "trainer_state.json"


@dataclass(frozen=True, slots=True)
class Found:
    """The last whole checkpoint of a run folder, and why later ones were passed over."""

    path: Path | None
    passed_over: tuple[str, ...] = ()


@contextlib.contextmanager
def saved(folder: Path, step: int, packages: Mapping[str, str | None]) -> Iterator[Path]:
    """Where all processes write `checkpoint-<step>`: put in place, whole, at the end of the block.

    Nothing is left of it where the block fails.
    """
    name = f"checkpoint-{step}"

    def finish(staging: Path) -> None:
        _seal(staging / name, step, packages)
        _put(staging / name, folder / name, aside=staging / "before")

    with _aside(folder, name, finish) as staging:
        yield staging


@contextlib.contextmanager
def moved_in(folder: Path) -> Iterator[Path]:
    """Where all processes write what belongs into `folder`: each file is moved there, whole, at the end.

    What marks a trained model goes last. Nothing is left of it where the block fails.
    """
    with _aside(folder, "", lambda staging: _move_in(staging, folder)) as staging:
        yield staging


@contextlib.contextmanager
def _aside(folder: Path, name: str, finish: Callable[[Path], None]) -> Iterator[Path]:
    """An empty folder beside the finished ones, `name` in it; the first process finishes what all wrote."""
    staging = folder / STAGING
    if ranks.is_main():
        shutil.rmtree(staging, ignore_errors=True)
        (staging / name).mkdir(parents=True)
    ranks.wait()
    try:
        yield staging
        ranks.wait()
        if ranks.is_main():
            finish(staging)
    finally:
        if ranks.is_main():
            shutil.rmtree(staging, ignore_errors=True)
    ranks.wait()


def _move_in(staging: Path, folder: Path) -> None:
    names = _names(staging)
    for name in names:
        with (staging / name).open("rb") as file:
            os.fsync(file.fileno())
    for name in sorted(names, key=lambda name: "model" in Path(name).name):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(folder / name)
    _sync_folder(folder)


def _seal(making: Path, step: int, packages: Mapping[str, str | None]) -> None:
    """Bring each file to the disk, and then the list of them."""
    files = {name: _entry(making / name) for name in _names(making)}
    about = {
        "schema": SCHEMA,
        "step": step,
        "processes": ranks.count(),
        "packages": dict(packages),
        "files": files,
    }
    replace_file(making / SEAL, (json.dumps(about, indent=1) + "\n").encode())


def _put(making: Path, final: Path, *, aside: Path) -> None:
    if final.exists():
        final.rename(aside)
    making.rename(final)
    _sync_folder(final.parent)


def _names(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def last(folder: Path) -> Found:
    """The checkpoint with the highest step that is whole, from the last one backwards."""
    flaws: list[str] = []
    for path in sorted(folder.glob("checkpoint-*"), key=_step, reverse=True):
        flaw = flaw_of(path)
        if flaw is None:
            return Found(path, tuple(flaws))
        flaws.append(f"{path} is skipped: {flaw}")
    return Found(None, tuple(flaws))


def set_aside(folder: Path, after: int) -> None:
    """Rename what lies past the step from which a run goes on: it was passed over, and is in the way."""
    for path in folder.glob("checkpoint-*"):
        if _step(path) > after:
            aside = path.with_name(f"flawed-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


def _step(path: Path) -> int:
    number = path.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def flaw_of(path: Path) -> str | None:
    """Why a run cannot go on from this checkpoint; None if it can."""
    try:
        seal = read_seal(path)
        files = {str(name): dict(entry) for name, entry in seal["files"].items()}
        step = int(seal["step"])
    except FileNotFoundError:
        return f"no {SEAL}: it was not written completely, or not by this version of ftcheck"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"{SEAL} cannot be read"
    if seal.get("schema") != SCHEMA:
        return f"{SEAL} is {seal.get('schema')}; this version of ftcheck reads {SCHEMA}"
    if path.name != f"checkpoint-{step}":
        return f"{SEAL} is of checkpoint-{step}"
    broken = next((words for name in files if (words := _broken(path / name, files[name]))), None)
    return broken or _not_enough(files)


def _broken(path: Path, entry: Mapping[str, Any]) -> str | None:
    try:
        size = path.stat().st_size
        if size != entry.get("bytes"):
            return f"{path.name} has {size} bytes; {entry.get('bytes')} were written"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror or error})"
    return None if digest == entry.get("sha256") else f"{path.name} has changed since it was written"


def _not_enough(files: Mapping[str, Any]) -> str | None:
    """`save_only_model` writes whole checkpoints from which nobody goes on."""
    if STATE not in files:
        return f"it contains no {STATE}"
    if not any(name.startswith(("optimizer", "global_step")) for name in files):
        return "it contains no optimizer state (training.save_only_model)"
    return None
