"""Disk rules: can every job write its run folder, and is there room for its checkpoints?"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ftcheck import Change, Finding, Jobs, Measurement, Severity, Skip, Summary, rule
from ftcheck.digest import of_json
from ftcheck.estimate.disk import Estimate, estimate
from ftcheck.extension.rules import Yield
from ftcheck.settings import Job

GIB = 1 << 30
HELD = ("checkpoint-*", "adapter_model.safetensors", "model*.safetensors")


@dataclass(frozen=True)
class DiskSpace:
    """Parameters of `disk-space`."""

    min_free_gib: float = 1.0
    """What must be free in any case, in GiB."""


@rule("disk-space", family="host", cases="ftcheck_rules.host.cases.disk")
def disk_space(jobs: Jobs, params: DiskSpace) -> Iterator[Yield]:
    """The disks of the output folders have room for all the checkpoints that the jobs will write.

    A full disk ends a run after hours, in the middle of a checkpoint: the last one is broken, and the
    training since the one before is lost.

    A checkpoint is the trained weights with the optimizer's two states (12 bytes a weight at most, 6
    with an 8-bit optimizer) and the tokenizer. One more than `save_total_limit` is counted: the
    oldest is deleted after the newest is written. Jobs on one disk are added up.
    """
    writing = [(_existing(Path(job.training.output_dir)), job) for job in jobs if job.training.output_dir]
    if not writing:
        yield Skip("no job names a training.output_dir")
        return
    estimates = {job.name: estimate(job) for _, job in writing}
    needs = {name: one.bytes for name, one in estimates.items()}
    free = min(shutil.disk_usage(folder).free for folder, _ in writing)
    yield Measurement("need_gib", round(sum(needs.values()) / GIB, 2), unit="GiB")
    limit = f">= {params.min_free_gib:g}"
    yield Measurement("free_gib", round(free / GIB, 1), unit="GiB", limit=limit, volatile=True)
    for _, job in writing:
        yield from _unknown(job, estimates[job.name])
    for _, disk in groupby(sorted(writing, key=lambda one: _disk(one[0])), key=lambda one: _disk(one[0])):
        yield from _short(list(disk), needs, params)
    yield Summary(_in_words(estimates.values(), free))


def _size(count: float) -> str:
    """Bytes in words: GiB, or MiB below a tenth of one."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / (1 << 20):.0f} MiB"


def _in_words(estimates: Iterable["Estimate"], free: int) -> str:
    known = [one for one in estimates if one.bytes]
    count = sum(1 if one.checkpoints is None else one.checkpoints for one in known)
    need = sum(one.bytes for one in known)
    room = f"{free / GIB:,.0f} GiB"
    return f"{count} checkpoints need {_size(need)} of {room}" if known else f"{room} free"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def _disk(folder: Path) -> int:
    return os.stat(folder).st_dev


def _short(disk: list[tuple[Path, Job]], needs: Mapping[str, int], params: DiskSpace) -> Iterator[Finding]:
    folder, job = max(disk, key=lambda one: needs[one[1].name])
    free, need = shutil.disk_usage(folder).free, sum(needs[job.name] for _, job in disk)
    unlimited = job.training.save_total_limit is None
    change = Change(f"jobs.{job.name}.training.save_total_limit", None, 1) if unlimited else None
    if need > free:
        yield Finding(
            f"checkpoints take up to {_size(need)}, {folder} has {free / GIB:.1f} GiB free",
            at=job.at("training.output_dir"),
            fix="lower training.save_total_limit, make room, or write to another disk",
            change=change,
        )
    elif free < params.min_free_gib * GIB:
        yield Finding(
            f"the disk of {folder} has {free / GIB:.1f} GiB free, less than {params.min_free_gib:g}",
            at=job.at("training.output_dir"),
            fix="make room, or write to another disk",
        )


def _unknown(job: Job, found: "Estimate") -> Iterator[Finding]:
    if found.bytes == 0:
        message = f"how large {job.name}'s checkpoints are cannot be told: {found.problem}"
        yield Finding(message, Severity.INFO, at=job.at("training.output_dir"))
    elif found.checkpoints is None:
        yield Finding(
            f"how many checkpoints {job.name} will keep cannot be told; each takes up to"
            f" {found.bytes / GIB:.2f} GiB, and one is counted",
            Severity.INFO,
            at=job.at("training.save_total_limit"),
            fix="set training.save_total_limit",
            change=Change(f"jobs.{job.name}.training.save_total_limit", None, 2),
        )


@rule("output-dir", family="host", cases="ftcheck_rules.host.cases.disk")
def output_dir(jobs: Jobs) -> Iterator[Yield]:
    """Every job has an output folder of its own, that can be written and holds no other run.

    A folder that cannot be written fails at the first checkpoint, hours in; one that holds another run
    loses it, or is resumed from by mistake.

    A file is really made, and removed, in the nearest folder that is there.
    """
    if not jobs:
        yield Skip("the policy has no job")
        return
    owners: dict[str, str] = {}
    writable = 0
    for job in jobs:
        problems = list(_folder(job, owners))
        writable += not any(one.severity is Severity.ERROR for one in problems)
        yield from problems
    yield Measurement("folders", len(jobs))
    yield Measurement("writable", writable, limit=str(len(jobs)))
    yield Summary(f"{writable} of {len(jobs)} can be written")


def _folder(job: Job, owners: dict[str, str]) -> Iterator[Finding]:
    at, stated = job.at("training.output_dir"), job.training.output_dir
    if stated is None:
        change = Change(f"jobs.{job.name}.training.output_dir", None, f"checkpoints/{job.name}")
        yield Finding(f"{job.name} names no training.output_dir", at=at, fix="name a folder", change=change)
        return
    folder = Path(stated)
    owner = owners.setdefault(os.path.realpath(folder), job.name)
    if owner != job.name:
        message = f"{job.name} and {owner} write into the same folder {folder}"
        yield Finding(message, at=at, fix="give each job a folder of its own")
    if {"site-packages", "dist-packages"} & set(folder.parts):
        yield Finding(f"{folder} lies inside an installed package", at=at, fix="write beside the policy")
        return
    problem = _unwritable(folder)
    if problem is not None:
        yield Finding(f"{folder}: {problem}", at=at, fix="change the folder, or its owner and rights")
    else:
        yield from _held(folder, job)


def _unwritable(folder: Path) -> str | None:
    """Why nothing can be written there; None if a file could be made and removed."""
    there = _existing(folder)
    if not there.is_dir():
        return "is a file" if there == folder else f"{there} is a file"
    if folder.is_symlink() and there != folder:
        return "is a link that leads nowhere"
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".ftcheck-"):
            return None
    except OSError as error:
        return f"cannot be written: {error.strerror or error}"


def _held(folder: Path, job: Job) -> Iterator[Finding]:
    """What lies in the folder already: `ftcheck train` writes over nothing, and resumes its own run only."""
    at, fix = job.at("training.output_dir"), "name another folder, or move the old run away"
    if not (folder / "run.json").exists():
        models = [one.name for pattern in HELD for one in sorted(folder.glob(pattern))]
        if models:
            message = f"{folder} holds {models[0]}, of a run that ftcheck did not start"
            yield Finding(message, Severity.WARNING, at=at, fix=fix)
        return
    status, digest = _run(folder)
    if digest != of_json(job.canonical):
        message = f"{folder} holds a run of other settings (run.json)"
        yield Finding(message, Severity.WARNING, at=at, fix=fix)
    elif status == "finished":
        message = f"{folder} holds this very job, trained: it will not be trained again"
        yield Finding(message, Severity.INFO, at=at, fix=fix)


def _run(folder: Path) -> tuple[str | None, str | None]:
    """The status of the run in a folder, and the digest of the job that it trains."""
    try:
        found = json.loads((folder / "run.json").read_bytes())
        return found.get("status"), found["ticket"]["job_digest"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, None
