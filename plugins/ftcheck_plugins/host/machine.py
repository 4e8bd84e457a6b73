"""Looks at this machine: memory, processors, NVIDIA GPUs, installed packages (none is imported)."""

import platform
from importlib import metadata

from ftcheck.inputs.loader import loader
from ftcheck.inputs.machine import Machine, Packages
from ftcheck_plugins.host.nvidia import visible_gpus

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

    gpus, problem = visible_gpus()
    return Machine(
        system=platform.system(),
        cpus=psutil.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        gpus=gpus,
        problem=problem,
    )
