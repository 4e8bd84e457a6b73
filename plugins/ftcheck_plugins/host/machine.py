"""Looks at this machine: memory, processors, NVIDIA GPUs, installed packages (none is imported)."""

import os
import platform
import subprocess
from importlib import metadata

from ftcheck.inputs.loader import loader
from ftcheck.inputs.machine import Gpu, Machine, Packages

NAMES = (
    "accelerate",
    "azureml-core",
    "bitsandbytes",
    "clearml",
    "codecarbon",
    "comet-ml",
    "dagshub",
    "datasets",
    "dvclive",
    "flytekit",
    "ftcheck",
    "mlflow",
    "mlflow-skinny",
    "neptune",
    "neptune-client",
    "numpy",
    "peft",
    "pyarrow",
    "swanlab",
    "tensorboard",
    "tensorboardx",
    "tokenizers",
    "torch",
    "trackio",
    "transformers",
    "trl",
    "wandb",
)
NVIDIA_SMI = (
    "nvidia-smi",
    "--query-gpu=name,memory.total,memory.free,compute_cap,driver_version",
    "--format=csv,noheader,nounits",
)
TIMEOUT = 10
MIB = 1 << 20
NONE_FOUND = "no devices were found"


@loader("packages")
def packages() -> Packages:
    """The Python version, and the versions of the packages that checking and training stand on."""
    return Packages(platform.python_version(), {name: _version(name) for name in NAMES})


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@loader("machine")
def machine() -> Machine:
    """This machine and the GPUs that a training started here would see."""
    import psutil

    gpus, problem = _gpus()
    return Machine(
        system=platform.system(),
        cpus=psutil.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        gpus=gpus,
        problem=problem,
    )


def _gpus() -> tuple[tuple[Gpu, ...], str | None]:
    """The visible GPUs, or why they could not be asked. No `nvidia-smi` at all: no GPU, no problem."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and not chosen.strip():
        return (), None
    try:
        asked = subprocess.run(NVIDIA_SMI, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except FileNotFoundError:
        return (), None
    except subprocess.TimeoutExpired:
        return (), f"nvidia-smi did not answer within {TIMEOUT} s"
    except OSError as error:
        return (), f"nvidia-smi cannot be run: {error.strerror or error}"
    said = asked.stdout.strip() or asked.stderr.strip()
    if NONE_FOUND in said.lower():
        return (), None
    if asked.returncode != 0:
        return (), f"nvidia-smi failed ({asked.returncode}): {said.splitlines()[0] if said else 'no message'}"
    return _parsed(said, chosen)


def _parsed(said: str, chosen: str | None) -> tuple[tuple[Gpu, ...], str | None]:
    lines = [line for line in said.splitlines() if line.strip()]
    try:
        return visible(tuple(_gpu(line) for line in lines), chosen), None
    except ValueError:
        return (), f"unexpected output of nvidia-smi: {' | '.join(lines)[:200]}"


def _gpu(line: str) -> Gpu:
    name, memory, free, capability, driver = (part.strip() for part in line.rsplit(",", 4))
    major, _, minor = capability.partition(".")
    known = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
    return Gpu(name=name, memory=int(memory) * MIB, free=int(free) * MIB, capability=known, driver=driver)


def visible(gpus: tuple[Gpu, ...], chosen: str | None) -> tuple[Gpu, ...]:
    """What `CUDA_VISIBLE_DEVICES` leaves. As in CUDA, a number that is no GPU ends the list.

    All of them where it is not set, or names GPUs by UUID, which nvidia-smi was not asked for.
    """
    if chosen is None:
        return gpus
    parts = [part.strip() for part in chosen.split(",")]
    left: list[Gpu] = []
    for part in parts:
        if not part.lstrip("-").isdigit():
            return gpus
        if not 0 <= int(part) < len(gpus):
            break
        left.append(gpus[int(part)])
    return tuple(left)
