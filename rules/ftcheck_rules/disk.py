"""Disk rules: can every job write its run folder, and is there room for its checkpoints?"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ftcheck import Change, Finding, Jobs, Measurement, Severity, Skip, Summary, rule
from ftcheck.digest import of_json
from ftcheck.offers import Yield
from ftcheck.paths import model_folder
from ftcheck.settings import Job, Lora, Training

GIB = 1 << 30
TRAINER = "qlora"
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HELD = ("checkpoint-*", "adapter_model.safetensors", "model*.safetensors")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True)
class DiskSpace:
    """Parameters of `disk-space`."""

    min_free_gib: float = 1.0
    """What must be free in any case, in GiB."""


@rule("disk-space")
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


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run writes at most: bytes in all (0: cannot be told), checkpoints kept (None: the same)."""

    bytes: int
    checkpoints: int | None
    problem: str = ""


def estimate(job: Job) -> Estimate:
    """What a job's run writes, from its settings and the base model's config.json where that is at hand."""
    if job.trainer.use != TRAINER:
        return Estimate(0, None, f"the trainer '{job.trainer.use}' writes them")
    folder = model_folder(job.model.name, job.model.revision)
    config = _config(folder) if folder is not None else None
    if folder is None or config is None:
        return Estimate(0, None, f"no config.json of {job.model.name} on this machine")
    weights = trained_weights(config, job.training.lora)
    if weights is None:
        return Estimate(0, None, "ftcheck does not know this architecture, or these target modules")
    tokenizer = sum(one.stat().st_size for one in folder.glob("tokenizer*") if one.is_file())
    states = 2 if "8bit" in (job.training.optim or "") else 8
    kept = kept_checkpoints(job.training)
    each = weights * (4 + states) + tokenizer
    return Estimate(each * (1 if kept is None else kept) + weights * 4 + tokenizer, kept)


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found.get("text_config", found) if isinstance(found, dict) else None


def trained_weights(config: Mapping[str, Any], lora: Lora | None) -> int | None:
    """How many weights are trained, at most; None for mixtures of experts and what is not Llama-shaped."""
    try:
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        shapes = _shapes(config, hidden)
        table = config["vocab_size"] * hidden
        if any(key in config for key in EXPERTS):
            return None
        if lora is None:
            return int(layers * sum(shapes[name][0] * shapes[name][1] for name in LINEAR) + 2 * table)
        targets = lora.target_modules if isinstance(lora.target_modules, tuple) else LINEAR
        adapters = layers * sum(lora.r * sum(shapes[name.rpartition(".")[2]]) for name in targets)
        whole = {"lm_head": table, "embed_tokens": table}
        return int(adapters + sum(whole[name] for name in lora.modules_to_save or ()))
    except (KeyError, TypeError):
        return None


def _shapes(config: Mapping[str, Any], hidden: int) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a layer's linear modules, by name; the fused ones are Phi-3's."""
    heads, inner = config["num_attention_heads"], config["intermediate_size"]
    size = config.get("head_dim") or hidden // heads
    queries, keys = heads * size, (config.get("num_key_value_heads") or heads) * size
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
        "qkv_proj": (hidden, queries + 2 * keys),
        "gate_up_proj": (hidden, 2 * inner),
    }


def kept_checkpoints(training: Training) -> int | None:
    """How many checkpoints lie on the disk at the most; None where only the data could tell."""
    made: float | None = None
    if training.save_strategy == "no":
        made = 0
    elif training.save_strategy == "epoch" and training.max_steps <= 0:
        made = math.ceil(training.num_train_epochs)
    elif training.save_strategy == "steps" and 0 < training.save_steps < 1:
        made = math.ceil(1 / training.save_steps)
    elif training.save_strategy == "steps" and training.max_steps > 0:
        made = math.ceil(training.max_steps / training.save_steps)
    limit = None if training.save_total_limit is None else training.save_total_limit + 1
    known = [count for count in (made, limit) if count is not None]
    return int(min(known)) if known else None


@rule("output-dir")
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
