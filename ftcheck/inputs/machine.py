"""This machine: packages, processors, memory, GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Packages:
    """The Python version and the versions of installed packages (None: not installed)."""

    python: str
    versions: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance of it, as the driver reports it; `capability` such as (9, 0).

    Memory in bytes; None where the driver does not say, as for a GPU that shares the processor's memory.
    """

    name: str
    memory: int | None
    free: int | None
    capability: tuple[int, int] | None
    driver: str


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine. Memory in bytes; `problem` says why the GPUs could not be asked."""

    system: str
    cpus: int
    memory: int
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None
