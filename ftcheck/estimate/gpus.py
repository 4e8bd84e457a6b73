"""How much memory a job's GPU has: stated, known by its name (a dated table), or this machine's."""

from collections.abc import Mapping
from typing import Any

from ftcheck import tables
from ftcheck.inputs.machine import Machine
from ftcheck.settings import Job

GIB = 1 << 30


def gpu_memory(job: Job, machine: Machine) -> tuple[float | None, str]:
    """Memory of one GPU in GiB, and where that is from; None with the reason where nobody says."""
    stated = job.hardware
    if stated.memory_gib is not None:
        return stated.memory_gib, "hardware.memory_gib"
    if stated.gpu is not None:
        known: Mapping[str, Mapping[str, Any]] = tables.load("gpus")["gpus"]
        words = _words(stated.gpu)
        named = [name for name in known if _within(_words(name), words)]
        if not named:
            return None, f"the memory of {stated.gpu} is unknown; set hardware.memory_gib"
        return float(known[max(named, key=len)]["memory_gib"]), "hardware.gpu"
    if machine.gpus:
        return min(one.memory for one in machine.gpus) / GIB, "this machine"
    return None, "this machine has no GPU, and hardware.gpu and hardware.memory_gib are not set"


def _words(name: str) -> list[str]:
    return name.lower().replace("-", " ").replace("gib", "gb").split()


def _within(part: list[str], whole: list[str]) -> bool:
    return any(whole[start : start + len(part)] == part for start in range(len(whole)))
