"""Host rules: do the libraries and the GPUs of this machine meet the policy's needs?"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ftcheck import (
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
from ftcheck.estimate.gpus import BFLOAT16, Card, asks_for_bfloat16, card, same_gpu
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
    """Python and the installed libraries have versions that work together and with ftcheck's trainer.

    Libraries that do not fit together fail on import or on a renamed argument, or they silently train
    something else than intended: defaults change their meaning from one version to the next.

    The versions are compared with a dated table (ftcheck/tables/version_windows.json). What only training
    needs is checked where a job trains with `qlora`; a machine without it can run the checks, but cannot
    train.
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
    """The leading numbers of a version, without trailing zeros: 5.0 and 5.0.0 are the same."""
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
            f"{name} {version} is newer than the tested versions: {window_text(window)} (as of {as_of})",
            Severity.WARNING,
            fix=f"pip install '{name}{_spec(window)}'",
            why="An untested version may rename arguments, or change defaults silently.",
        )


def _spec(window: MetricHistory) -> str:
    return window_text(window).replace(" ", "")


def _absent(absent: list[str], job: Job, packages: Packages) -> Finding:
    """No training library at all is fine for a laptop or a CI runner; only some of them is a mistake."""
    names = ", ".join(absent)
    if _only_checks(packages):
        message = f"this machine can run the checks, but cannot train: {names} not installed"
        message += "; `ftcheck train` checks again where it trains"
        return Finding(message, Severity.INFO, at=job.at("trainer.use"), fix=INSTALL)
    return Finding(
        f"training needs libraries that are not installed: {names}", at=job.at("trainer.use"), fix=INSTALL
    )


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
    """Lowest compute capability that every GPU must have, such as "8.0"."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for what is not a compute capability."""
        if self.min_capability is not None and not re.fullmatch(r"\d+(\.\d+)?", self.min_capability):
            raise ValueError(f'min_capability must look like "8.0", not "{self.min_capability}"')


@rule("gpu", family="host", cases="ftcheck_rules.host.cases.machine")
def gpu(machine: Machine, jobs: Jobs, params: GpuNeeds) -> Iterator[Yield]:
    """The GPUs of this machine have the free memory and support the number formats that the jobs need.

    A GPU below compute capability 8.0 emulates bfloat16 or fails at the first step, although
    `torch.cuda.is_bf16_supported()` returns true; one whose memory another process uses runs out of memory
    while the model loads; one that is not visible leaves the training on the CPU, which is noticed the next
    morning.

    Asks the driver (NVML, else nvidia-smi) for the GPUs that CUDA_VISIBLE_DEVICES leaves visible. A job whose
    `hardware.gpu` names another GPU is not compared with this machine's: the parameters are then compared
    with what a dated table says of that GPU (ftcheck/tables/gpus.json), and `precision` checks its number
    formats.
    """
    if machine.problem is not None:
        severity = Severity.ERROR if params.require else Severity.WARNING
        why = "A run without a working driver trains on the CPU, or not at all."
        fix = "run nvidia-smi; reinstall or reload the driver"
        yield Finding(machine.problem, severity, fix=fix, why=why)
    elif not machine.gpus and params.require:
        yield Finding(
            "no NVIDIA GPU on this machine, or CUDA_VISIBLE_DEVICES hides it",
            fix="train on another machine, or remove `require` from this check's params",
        )
    elsewhere = _elsewhere(machine, jobs)
    for job, named in elsewhere:
        yield from _lacking_named(job, named, params)
    if not machine.gpus:
        yield from _only_named(elsewhere, params)
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


def _elsewhere(machine: Machine, jobs: Jobs) -> list[tuple[Job, Card]]:
    """Jobs whose hardware.gpu is a known GPU that this machine does not have."""
    named = [(job, card(job.hardware.gpu)) for job in jobs if job.hardware.gpu is not None]
    here = [one.name for one in machine.gpus]
    return [
        (job, one) for job, one in named if one is not None and not any(same_gpu(one.name, n) for n in here)
    ]


def _lacking_named(job: Job, named: Card, params: GpuNeeds) -> Iterator[Finding]:
    """What a GPU lacks that only the policy names: its memory in all, as what is free is unknown."""
    needed, asked, at = params.min_memory_gib, params.min_capability, job.at("hardware.gpu")
    memory = job.hardware.memory_gib or named.memory_gib
    if needed is not None and memory is not None and memory < needed:
        message = f"{job.name}: {named.name} has {memory:g} GiB, min_memory_gib is {needed:g}"
        why = "The run ends out of memory while the model loads, or later."
        yield Finding(message, at=at, fix="use a GPU with more memory", why=why)
    if asked is not None and named.capability is not None and named.capability < _numbers(asked):
        has = _dotted(named.capability)
        message = f"{job.name}: {named.name} has compute capability {has}, min_capability is {asked}"
        yield Finding(message, at=at, fix="use a newer GPU, or lower min_capability")


def _only_named(elsewhere: list[tuple[Job, Card]], params: GpuNeeds) -> Iterator[Yield]:
    """Without a GPU here: a check of the named ones where a parameter asks something of them."""
    if not elsewhere or (params.min_memory_gib is None and params.min_capability is None):
        yield Skip("no NVIDIA GPU on this machine")
        return
    names = dict.fromkeys(one.name for _, one in elsewhere)
    yield Measurement("gpus_named", len(names))
    yield Summary(f"no NVIDIA GPU on this machine; {', '.join(names)} checked by the table")


def _numbers(capability: str) -> tuple[int, int]:
    major, _, minor = capability.partition(".")
    return int(major), int(minor or 0)


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
    if asked is not None and one.capability is not None and one.capability < _numbers(asked):
        message = f"{name} has compute capability {_dotted(one.capability)}, min_capability is {asked}"
        yield Finding(message, fix="use a newer GPU, or lower min_capability")


def _lacking_memory(name: str, memory: int | None, free: int | None, needed: float) -> Iterator[Finding]:
    """`memory` and `free` in bytes, `needed` in GiB."""
    if memory is None or free is None:
        message = f"{name}: the driver does not report the free memory; min_memory_gib is {needed:g}"
        yield Finding(message, Severity.WARNING, fix="train a few steps first: ftcheck plan --probe")
    elif free < needed * GIB:
        busy = memory >= needed * GIB
        message = f"{name} has {free / GIB:.1f} of {memory / GIB:.1f} GiB free, min_memory_gib is {needed:g}"
        if busy:
            message += "; other processes use the rest"
        fix = "end the processes that nvidia-smi lists" if busy else "use a GPU with more memory"
        yield Finding(message, fix=fix, why="The run ends out of memory while the model loads, or later.")


def _no_bfloat16(machine: Machine, jobs: Jobs) -> Iterator[Finding]:
    old = next(
        (one for one in machine.gpus if one.capability is not None and one.capability < BFLOAT16), None
    )
    if old is None:
        return
    for job in jobs:
        elsewhere = job.hardware.gpu is not None and not same_gpu(job.hardware.gpu, old.name)
        for key, change in () if elsewhere else asks_for_bfloat16(job):
            yield Finding(
                f"{job.name} computes in bfloat16, which {old.name} does not support: its compute capability"
                f" is {_dotted(old.capability)}, bfloat16 needs 8.0",
                at=job.at(key),
                fix="use float16 and watch the loss for NaN, or a GPU of the Ampere generation or newer",
                change=change,
                why="The GPU fails at the first step, or emulates bfloat16 very slowly.",
            )
