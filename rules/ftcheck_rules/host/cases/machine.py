"""Must-fail and must-pass inputs of environment and gpu."""

from collections.abc import Mapping
from typing import Any

from ftcheck.testing import Case, gpu, job, machine, packages

INSTALLED = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "datasets": "5.2.0",
    "peft": "0.21.2",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "trl": "1.16.0",
}


def _environment(**versions: str | None) -> Mapping[str, Any]:
    return {"packages": packages("3.11.7", **{**INSTALLED, **versions}), "jobs": (job(),)}


CASES: tuple[Case, ...] = (
    Case("environment", "trl from before 1.16", True, lambda: _environment(trl="0.24.0")),
    Case("environment", "peft missing beside trl", True, lambda: _environment(peft=None)),
    Case("environment", "versions that fit", False, _environment),
    Case(
        "gpu",
        "none where one is required",
        True,
        lambda: {"machine": machine(), "jobs": ()},
        {"require": True},
    ),
    Case(
        "gpu",
        "bfloat16 on a T4",
        True,
        lambda: {"machine": machine(gpu("Tesla T4", 15, (7, 5))), "jobs": (job(),)},
    ),
    Case("gpu", "an H100", False, lambda: {"machine": machine(gpu()), "jobs": (job(),)}),
)
