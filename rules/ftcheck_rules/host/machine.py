"""Host rules: do the libraries and the GPUs of this machine fit what the policy asks for?"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ftcheck import (
    Change,
    Finding,
    Jobs,
    Machine,
    Measurement,
    Packages,
    Severity,
    Skip,
    Summary,
    rule,
    tables,
)
from ftcheck.estimate.gpus import BFLOAT16, same_gpu
from ftcheck.extension.rules import Yield
from ftcheck.inputs.machine import Gpu
from ftcheck.settings import Job
from ftcheck.tables.versions import window_text

GIB = 1 << 30
TRAINER = "qlora"
INSTALL = "pip install 'ftcheck[train]'"
MARKS = ("trl", "peft", "bitsandbytes")
SHOWN = ("transformers", *MARKS)

MetricHistory = Mapping[str, str]


@rule("environment", family="host", cases="ftcheck_rules.host.cases.machine")
def environment(packages: Packages, jobs: Jobs) -> Iterator[Yield]:
    """Python and the installed libraries are versions that fit together and that ftcheck's trainer knows.

    Libraries that don't fit fail on import or on an argument that was renamed, or they train something
    else than was meant without a word: defaults change their meaning from one version to the next.

    The versions are held against a dated table (ftcheck/tables/version_windows.json). What only training
    needs is looked at where a job trains with `qlora`; a machine without it can check, not train.
    """
    table = tables.load("version_windows")
    training = [job for job in jobs if job.trainer.use == TRAINER]
    needed = _needed(table["stacks"][TRAINER], training)
    absent = [name for name in needed if packages.versions.get(name) is None]
    yield Measurement("python", packages.python, limit=window_text(table["python"]))
    yield from _outside("Python", packages.python, table["python"], table["as_of"])
    check = table["stacks"]["check"]
    windows = {**needed, **check} if _only_checks(packages) else {**check, **needed}
    for name, window in sorted(windows.items()):
        version = packages.versions.get(name)
        yield Measurement(name, version, limit=window_text(window))
        if version is not None:
            yield from _outside(name, version, window, table["as_of"])
    if absent:
        yield _absent(absent, training[0], packages)
    yield Summary(_versions(packages))


def _needed(windows: Mapping[str, MetricHistory], training: list[Job]) -> dict[str, MetricHistory]:
    """What the jobs that train here need: nothing without one, bitsandbytes where something is quantised."""
    quantised = any(job.training.quantization or "8bit" in (job.training.optim or "") for job in training)
    unneeded = set() if quantised else {"bitsandbytes"}
    return {name: window for name, window in windows.items() if training and name not in unneeded}


def _only_checks(packages: Packages) -> bool:
    """Whether nothing for training is here: fine for a laptop or a CI runner."""
    return all(packages.versions.get(name) is None for name in MARKS)


def release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with, without closing zeros: 5.0 and 5.0.0 are the same."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _outside(name: str, version: str, window: MetricHistory, as_of: str) -> Iterator[Finding]:
    if release(version) < release(window["from"]):
        needs = f"ftcheck needs {window_text(window)} (as of {as_of})"
        command = "use another interpreter" if name == "Python" else f"pip install '{name}{_spec(window)}'"
        yield Finding(f"{name} {version} is too old: {needs}", fix=command)
    elif "below" in window and release(version) >= release(window["below"]):
        yield Finding(
            f"{name} {version} is newer than anything tried: {window_text(window)} (as of {as_of})",
            Severity.WARNING,
            fix=f"pip install '{name}{_spec(window)}'",
        )


def _spec(window: MetricHistory) -> str:
    return window_text(window).replace(" ", "")


def _absent(absent: list[str], job: Job, packages: Packages) -> Finding:
    """Nothing for training is here: worth a word. Some of it is: that is a mistake."""
    names = ", ".join(absent)
    if _only_checks(packages):
        message = f"this machine can check, not train ({names} not installed); `ftcheck train` checks again"
        return Finding(message, Severity.INFO, at=job.at("trainer.use"), fix=INSTALL)
    return Finding(f"not installed, and needed to train: {names}", at=job.at("trainer.use"), fix=INSTALL)


def _versions(packages: Packages) -> str:
    found = [(name, packages.versions.get(name)) for name in SHOWN]
    return " · ".join(f"{name} {'.'.join(v.split('.')[:2])}" for name, v in found if v is not None)


@dataclass(frozen=True)
class GpuNeeds:
    """Parameters of `gpu`."""

    require: bool = False
    """Fail on a machine without an NVIDIA GPU; otherwise the check is skipped there."""
    min_memory_gib: float | None = None
    """Memory that must be free on every GPU, in GiB."""
    min_capability: str | None = None
    """Compute capability every GPU must have, such as "8.0"."""

    def __post_init__(self) -> None:
        """Refuse a capability that is none."""
        if self.min_capability is not None and not re.fullmatch(r"\d+(\.\d+)?", self.min_capability):
            raise ValueError(f'min_capability must look like "8.0", not "{self.min_capability}"')


@rule("gpu", family="host", cases="ftcheck_rules.host.cases.machine")
def gpu(machine: Machine, jobs: Jobs, params: GpuNeeds) -> Iterator[Yield]:
    """The GPUs here have the memory free, and can compute in the number format, that the jobs ask for.

    A GPU below compute capability 8.0 emulates bfloat16 or fails at the first step, although
    `torch.cuda.is_bf16_supported()` says yes; one that another process has filled runs out of memory
    while the model loads; one that nobody sees leaves the training on the CPU, found in the morning.

    Asks the driver (NVML, else nvidia-smi) for the GPUs that CUDA_VISIBLE_DEVICES leaves. A job whose
    `hardware.gpu` names another GPU is not held against this machine's.
    """
    if machine.problem is not None:
        severity = Severity.ERROR if params.require else Severity.WARNING
        yield Finding(machine.problem, severity, fix="run nvidia-smi; reinstall or reload the driver")
    elif not machine.gpus and params.require:
        yield Finding(
            "no NVIDIA GPU on this machine, or CUDA_VISIBLE_DEVICES hides it",
            fix="train elsewhere; or take `require` out of this check's params",
        )
    if not machine.gpus:
        yield Skip("no NVIDIA GPU on this machine")
        return
    free = min((one.free for one in machine.gpus if one.free is not None), default=None)
    lowest = min((one.capability for one in machine.gpus if one.capability), default=None)
    limit = f">= {params.min_memory_gib:g}" if params.min_memory_gib is not None else None
    yield Measurement("gpus", len(machine.gpus))
    yield Measurement("memory_free_gib", _gib(free), unit="GiB", limit=limit, volatile=True)
    yield Measurement("capability", _dotted(lowest), limit=_at_least(params.min_capability))
    for number, one in enumerate(machine.gpus):
        yield from _lacking(f"GPU {number} ({one.name})", one, params)
    yield from _no_bfloat16(machine, jobs)
    many = f"{len(machine.gpus)} x " if len(machine.gpus) > 1 else ""
    memory = "free memory unknown" if free is None else f"{free / GIB:.1f} GiB free"
    yield Summary(f"{many}{machine.gpus[0].name} · {memory} · driver {machine.gpus[0].driver}")


def _gib(size: int | None) -> float | None:
    return None if size is None else round(size / GIB, 1)


def _dotted(capability: tuple[int, int] | None) -> str | None:
    return None if capability is None else f"{capability[0]}.{capability[1]}"


def _at_least(limit: str | None) -> str | None:
    return None if limit is None else f">= {limit}"


def _lacking(name: str, one: Gpu, params: GpuNeeds) -> Iterator[Finding]:
    needed, asked = params.min_memory_gib, params.min_capability
    if needed is not None:
        yield from _lacking_memory(name, one.memory, one.free, needed)
    if asked is not None and one.capability is not None:
        major, _, minor = asked.partition(".")
        if one.capability < (int(major), int(minor or 0)):
            yield Finding(f"{name}: compute capability {_dotted(one.capability)}, {asked} needed")


def _lacking_memory(name: str, memory: int | None, free: int | None, needed: float) -> Iterator[Finding]:
    """`memory` and `free` in bytes, `needed` in GiB."""
    if memory is None or free is None:
        message = f"{name}: the driver does not say how much memory is free, and {needed:g} GiB are needed"
        yield Finding(message, Severity.WARNING, fix="train a few steps first: ftcheck plan --probe")
    elif free < needed * GIB:
        busy = "other processes hold the rest" if memory >= needed * GIB else "it has no more"
        message = f"{name}: {free / GIB:.1f} of {memory / GIB:.1f} GiB free, {needed:g} needed: {busy}"
        yield Finding(message, fix="nvidia-smi lists the processes; or take a GPU with more memory")


def _no_bfloat16(machine: Machine, jobs: Jobs) -> Iterator[Finding]:
    old = next(
        (one for one in machine.gpus if one.capability is not None and one.capability < BFLOAT16), None
    )
    if old is None:
        return
    for job in jobs:
        elsewhere = job.hardware.gpu is not None and not same_gpu(job.hardware.gpu, old.name)
        for key, change in () if elsewhere else _bfloat16(job):
            yield Finding(
                f"{job.name} computes in bfloat16, {old.name} (compute capability"
                f" {_dotted(old.capability)}) cannot: that begins at 8.0",
                at=job.at(key),
                fix="float16, and watch the loss for NaN; or a GPU from Ampere on",
                change=change,
            )


def _bfloat16(job: Job) -> Iterator[tuple[str, Change | None]]:
    """The settings that ask for bfloat16; TRL's own default is yes unless fp16 is set."""
    training, quantization = job.training, job.training.quantization
    if training.bf16 is None and not training.fp16:
        yield "training.bf16", Change(f"jobs.{job.name}.training.fp16", False, True, safe=False)
    elif training.bf16:
        yield "training.bf16", None
    if quantization is not None and quantization.bnb_4bit_compute_dtype == "bfloat16":
        key = "training.quantization.bnb_4bit_compute_dtype"
        yield key, Change(f"jobs.{job.name}.{key}", "bfloat16", "float16", safe=False)
