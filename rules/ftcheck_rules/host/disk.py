"""Disk rules: can every job write its run folder, and is there room for its checkpoints?"""

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
from ftcheck.inputs import bounded
from ftcheck.paths import existing_folder
from ftcheck.plurals import agreeing, counted
from ftcheck.settings import Job

GIB = 1 << 30
HELD = ("checkpoint-*", "adapter_model.safetensors", "model*.safetensors")


@dataclass(frozen=True)
class DiskSpace:
    """Parameters of `disk-space`."""

    min_free_gib: float = 1.0
    """The disk space that must be free in any case, in GiB."""


@rule("disk-space", family="host", cases="ftcheck_rules.host.cases.disk")
def disk_space(jobs: Jobs, params: DiskSpace) -> Iterator[Yield]:
    """The disks of the output folders have room for all checkpoints that the jobs will write.

    A full disk ends a run after hours, in the middle of a checkpoint: that checkpoint is corrupt, and the
    training since the one before is lost.

    A checkpoint consists of the trained weights, the optimizer's two states (together at most 12 bytes per
    weight, 6 with an 8-bit optimizer) and the tokenizer. One more than `save_total_limit` is counted, because
    the oldest is deleted only after the newest has been written. The final save comes on top. Jobs on the
    same disk are added up. Where the number of checkpoints depends on the rows, `schedule` counts them.
    """
    writing = [
        (existing_folder(Path(job.training.output_dir)), job) for job in jobs if job.training.output_dir
    ]
    if not writing:
        yield Skip("no job sets training.output_dir")
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
    """Bytes as text: in GiB, or in MiB below a tenth of a GiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / (1 << 20):.0f} MiB"


def _in_words(estimates: Iterable["Estimate"], free: int) -> str:
    known, room = [one for one in estimates if one.bytes], f"{free / GIB:,.0f} GiB free"
    if not known:
        return room
    if any(one.checkpoints is None for one in known):
        each = max(one.each for one in known if one.checkpoints is None)
        return f"a checkpoint needs {_size(each)}, how many are kept depends on the rows; {room}"
    count, need = sum(one.checkpoints or 0 for one in known), sum(one.bytes for one in known)
    return f"{counted(count, 'checkpoint')} and the final save need {_size(need)}, {room}"


def _disk(folder: Path) -> int:
    return os.stat(folder).st_dev


def _short(disk: list[tuple[Path, Job]], needs: Mapping[str, int], params: DiskSpace) -> Iterator[Finding]:
    folder, job = max(disk, key=lambda one: needs[one[1].name])
    free, need = shutil.disk_usage(folder).free, sum(needs[job.name] for _, job in disk)
    unlimited = job.training.save_total_limit is None
    change = Change(f"jobs.{job.name}.training.save_total_limit", None, 1) if unlimited else None
    if need > free:
        yield Finding(
            f"the checkpoints take up to {_size(need)}, but {folder} has {free / GIB:.1f} GiB free",
            at=job.at("training.output_dir"),
            fix="lower training.save_total_limit, free disk space, or write to another disk",
            change=change,
        )
    elif free < params.min_free_gib * GIB:
        yield Finding(
            f"the disk of {folder} has {free / GIB:.1f} GiB free, less than {params.min_free_gib:g} GiB",
            at=job.at("training.output_dir"),
            fix="free disk space, or write to another disk",
        )


def _unknown(job: Job, found: "Estimate") -> Iterator[Finding]:
    if found.bytes == 0:
        message = f"the size of {job.name}'s checkpoints is unknown: {found.problem}"
        yield Finding(message, Severity.INFO, at=job.at("training.output_dir"))
    elif found.checkpoints is None:
        yield Finding(
            f"how many checkpoints {job.name} keeps depends on the rows (schedule counts them); each takes"
            f" up to {_size(found.each)}, and one is counted here",
            Severity.INFO,
            at=job.at("training.save_total_limit"),
            fix="set training.save_total_limit",
            change=Change(f"jobs.{job.name}.training.save_total_limit", None, 2),
        )


@rule("output-dir", family="host", cases="ftcheck_rules.host.cases.disk")
def output_dir(jobs: Jobs) -> Iterator[Yield]:
    """Every job has its own output folder, which can be written to and contains no other run.

    A folder that cannot be written to fails at the first checkpoint, hours in; a run in a folder with another
    run overwrites it, or resumes from it by mistake.

    A file is actually created, and removed, in the nearest existing folder.
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
    are = agreeing(len(jobs), "is", "are")
    yield Summary(f"{writable} of {counted(len(jobs), 'output folder')} {are} writable")


def _folder(job: Job, owners: dict[str, str]) -> Iterator[Finding]:
    at, stated = job.at("training.output_dir"), job.training.output_dir
    if stated is None:
        change = Change(f"jobs.{job.name}.training.output_dir", None, f"checkpoints/{job.name}")
        message = f"training.output_dir is not set for {job.name}"
        yield Finding(message, at=at, fix="set training.output_dir", change=change)
        return
    folder = Path(stated)
    owner = owners.setdefault(os.path.realpath(folder), job.name)
    if owner != job.name:
        message = f"{job.name} and {owner} write to the same folder, {folder}"
        why = "Each job overwrites the checkpoints of the other, or resumes from them."
        yield Finding(message, at=at, fix="set a separate folder for each job", why=why)
    if {"site-packages", "dist-packages"} & set(folder.parts):
        message = f"{folder} is inside an installed package"
        yield Finding(message, at=at, fix="use a folder next to the policy")
        return
    problem = _unwritable(folder)
    if problem is not None:
        yield Finding(f"{folder} {problem}", at=at, fix="set another folder, or change its permissions")
    else:
        yield from _held(folder, job)


def _unwritable(folder: Path) -> str | None:
    """Why nothing can be written there; None if a file could be created and removed."""
    there = existing_folder(folder)
    if not there.is_dir():
        return "is a file" if there == folder else f"cannot be created: {there} is a file"
    if folder.is_symlink() and there != folder:
        return "is a broken symbolic link"
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".ftcheck-"):
            return None
    except OSError as error:
        return f"cannot be written to: {error.strerror or error}"


def _held(folder: Path, job: Job) -> Iterator[Finding]:
    """What the folder contains already: `ftcheck train` overwrites nothing, and resumes only its own run."""
    at, fix = job.at("training.output_dir"), "set another folder, or move the old run away"
    if not (folder / "run.json").exists():
        models = [one.name for pattern in HELD for one in sorted(folder.glob(pattern))]
        if models:
            message = f"{folder} contains {models[0]} of a run that ftcheck did not start"
            yield Finding(message, Severity.WARNING, at=at, fix=fix)
        return
    status, digest = _run(folder)
    if digest != of_json(job.canonical):
        message = f"{folder} contains a run with other settings (run.json)"
        yield Finding(message, Severity.WARNING, at=at, fix=fix)
    elif status == "finished":
        message = f"{folder} contains a finished run of this job; `ftcheck train` will not train it again"
        yield Finding(message, Severity.INFO, at=at, fix=fix)


def _run(folder: Path) -> tuple[str | None, str | None]:
    """The status of the run in a folder, and the digest of the job that it trains."""
    try:
        found = bounded.read_json(folder / "run.json")
        return found.get("status"), found["ticket"]["job_digest"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, None
