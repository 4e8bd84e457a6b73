"""Which program trains a job, as far as its memory depends on it, and how sure that is.

`qlora` is TRL's as ftcheck starts it. Of another trainer the framework's own configuration says what it does
(policy key `from`), by the facts in tables/memory_frameworks.json. Without one, it may be anything between
TRL's tiles and full logits in float32.
"""

import importlib.util
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from ftcheck import tables
from ftcheck.estimate.gpus import Card, same_gpu
from ftcheck.estimate.memory.allocator import Rules
from ftcheck.estimate.memory.formulas import fuses
from ftcheck.estimate.memory.program import Program
from ftcheck.estimate.memory.shapes import method, state_bytes
from ftcheck.importers.records import Imported
from ftcheck.inputs.machine import Machine
from ftcheck.inputs.model_shape import model_shape
from ftcheck.settings import Job

TURING = (7, 5)
"""Capability of GPUs without flash attention that float16 may be chosen for."""
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Environment variables of PyTorch's allocator; the first wins."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Programs:
    """The program that is likely, and the one that takes the most. `lighter`: kernels may keep less than the
    model's own operations. `read`: a framework's source was read, and no run of it was measured. `said` are
    the assumptions in words."""

    likely: Program
    most: Program
    lighter: bool = False
    read: bool = False
    said: tuple[str, ...] = ()


def programs(
    job: Job,
    config: Mapping[str, Any],
    here: Card | None,
    machine: Machine | None = None,
    environment: Mapping[str, str] | None = None,
) -> Programs:
    """The programs of a job on a GPU. `machine` is the one that trains, unless the job names another GPU;
    `environment` is this process's. Raises as `shapes.method`."""
    without = _without_triton(job, machine)
    own = replace(of_job(job, config, here), triton=not without, rules=rules(job, machine, environment or {}))
    made = _of_trainer(job, own, here)
    tiles = "tiled" in (made.likely.loss, made.most.loss)
    if without is None or not tiles:
        return made
    said = f"{without}: TRL's loss is folded by torch's operations, which hold more"
    return replace(made, said=(*made.said, said))


def _of_trainer(job: Job, own: Program, here: Card | None) -> Programs:
    """The programs of the job's trainer; `own` is TRL's for the job."""
    if job.trainer.use == "qlora":
        return _trl(job, own)
    imported, facts = job.imported, tables.load("memory_frameworks")
    if imported is not None and _is_trl(imported, facts["trl_configurations"]):
        return _trl(job, own, "the configuration is TRL's: its own SFTTrainer")
    known = facts["frameworks"].get(imported.framework) if imported is not None else None
    if imported is None or known is None or _set(_keys(imported), facts["own_kernels"]):
        return _unknown(job, own, here)
    return _framework(job, own, imported, known)


def _trl(job: Job, own: Program, *said: str) -> Programs:
    fused = fuses(job)
    more = ("Liger's or compiled kernels may keep less than the model's own operations",) if fused else ()
    return Programs(own, own, fused, said=(*said, *more))


def _unknown(job: Job, own: Program, here: Card | None) -> Programs:
    """Anything between TRL's tiles with lighter kernels and `heaviest`."""
    most = heaviest(own)
    if here is None and job.training.fp16:
        most = replace(most, capability=TURING)
    said = (
        f"what the trainer '{job.trainer.use}' does is unknown: the lower end has kernels that keep less,"
        " the upper end full logits, float32 for what is not quantised and for the adapter, and torch's"
        " AdamW"
    )
    return Programs(own, most, lighter=True, said=(said,))


def _without_triton(job: Job, machine: Machine | None) -> str | None:
    """Why the machine that trains has no Triton (PyTorch brings it on Linux only); None where it has."""
    if machine is not None and machine.system == "Windows":
        return "no Triton on Windows"
    if _trains_here(job, machine) and importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    return None


def _is_trl(imported: Imported, names: list[str]) -> bool:
    """Whether TRL's own command reads the file; a script may do anything beside it."""
    return imported.framework in names and PurePath(imported.path).suffix in (".yaml", ".yml", ".json")


def of_job(job: Job, config: Mapping[str, Any], here: Card | None = None) -> Program:
    """TRL's program for a job (and the `qlora` trainer's). Raises as `shapes.method`."""
    training = job.training
    how = method(job, model_shape(config).decoder())
    half = "float16" if training.fp16 else "bfloat16" if how.number == 2 else "float32"
    return Program(
        how,
        dtype=half,
        plain=half,
        adapter="float32" if how.adapter_bytes == 4 else "bfloat16",
        # PEFT copies them in the base's dtype, and TRL casts all that is trained of a quantised model.
        saved="bfloat16" if how.bits != 16 else half,
        autocast=half != "float32",
        loss="smoothed" if how.full_logits else "tiled",
        optimizer=str(training.optim or "adamw_torch_fused"),
        capability=here.capability if here is not None else None,
        clips=True,
        accumulation=min(2, training.gradient_accumulation_steps),
    )


def heaviest(program: Program) -> Program:
    """What another program may do at most: full logits, unquantised parts and adapter in float32, and torch's
    AdamW."""
    quantised = program.method.bits != 16
    return replace(
        program,
        plain="float32" if quantised else program.plain,
        adapter="float32",
        saved="float32",
        loss="shifted",
        optimizer="adamw_torch",
        prepared=quantised,
    )


# --- a framework's own configuration ---------------------------------------------------------------------


def _framework(job: Job, own: Program, imported: Imported, facts: Mapping[str, Any]) -> Programs:
    """transformers' Trainer and PEFT as this framework uses them."""
    keys = _keys(imported)
    wide = not any(keys.get(key) is value for key, value in facts["adapter_16_bit"].items())
    fused = _set(keys, facts["fused"]) or any(
        plugin in str(value).lower() and keys.get(plugin) is not False
        for key, value in keys.items()
        if key.startswith("plugins")
        for plugin in facts.get("fused_plugins", ())
    )
    norms = _set(keys, facts["float32_norms"])
    made = replace(
        own,
        method=replace(own.method, adapter_bytes=4, state_bytes=state_bytes(job, 4)) if wide else own.method,
        adapter="float32" if wide else own.dtype,
        saved="float32" if wide else own.dtype,
        plain="float32" if norms else own.plain,
        tables=own.plain if norms else None,
        autocast=own.autocast and not _set(keys, facts.get("without_autocast", ())),
        loss="smoothed" if own.method.full_logits else "tiled" if fused else "model",
        widened=facts.get("widened", False),
        prepared=facts.get("prepared", False) and own.method.bits != 16,
    )
    if facts.get("expandable") and own.rules == Rules():
        made = replace(made, rules=Rules(expandable_segments=True))
    kernels = facts.get("lighter_unless_off", ())
    lighter = _set(keys, facts["lighter"])
    lighter |= bool(kernels) and (_set(keys, kernels) or keys.keys().isdisjoint(kernels))
    said = (
        f"the program is {imported.name}'s as read in {facts['version']}, not measured:"
        f" {'a fused loss' if fused else 'full logits'}, adapter in {made.adapter}"
        + (", kernels that may keep less" if lighter else ""),
    )
    return Programs(made, made, lighter, read=True, said=said)


def _keys(imported: Imported) -> dict[str, Any]:
    """The keys of the file with their values; those without effect are off."""
    keys: dict[str, Any] = {one.key: False for one in imported.without_effect}
    keys |= {one.key: one.value for one in imported.mapped}
    return keys | {one.key: one.value for one in imported.not_mapped}


def _set(keys: Mapping[str, Any], names: Any) -> bool:
    """Whether one of these keys is there and on."""
    return any(keys.get(name) for name in names)


# --- the allocator's settings ----------------------------------------------------------------------------


def rules(job: Job, machine: Machine | None, environment: Mapping[str, str]) -> Rules:
    """What the job's command sets for the allocator, else this process's environment where it trains here."""
    words = [word.partition("=") for line in job.trainer.argv for word in _words(line)]
    stated = {name: value for name, equals, value in words if equals}
    here = _trains_here(job, machine)
    for source in (stated, environment if here else {}):
        for name in ALLOCATOR:
            if name in source:
                return read_rules(source[name])
    return Rules()


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _trains_here(job: Job, machine: Machine | None) -> bool:
    gpus = machine.gpus if machine is not None else ()
    stated = job.hardware.gpu
    return bool(gpus) and (stated is None or any(same_gpu(stated, one.name) for one in gpus))


def read_rules(text: str) -> Rules:
    """`expandable_segments:True,max_split_size_mb:128`; what is not known there changes nothing here."""
    pairs = (one.partition(":") for one in text.split(","))
    found = {key.strip(): value.strip() for key, _, value in pairs}
    split = found.get("max_split_size_mb", "")
    return Rules(
        expandable_segments=found.get("expandable_segments", "").lower() == "true",
        max_split_size=int(split) * MIB if split.isdecimal() and int(split) else None,
    )
